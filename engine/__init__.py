"""The loop: what to do next, doing it, and what a host application or a person calls. Knows all the others."""
