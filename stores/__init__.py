"""Where things are kept: the event store and its implementations, connections, backups. Knows nothing of migrations."""
