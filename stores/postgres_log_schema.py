"""The tables, triggers and functions of a log in PostgreSQL, all in the schema `twinstep`.

Append-only is held by the database itself. By triggers, which fire for superusers and replicated sessions too: what is inserted
must be the next events of their streams and of the log; updates, deletes and TRUNCATE are refused. And by rights: nothing is
granted to PUBLIC, and what nobody needs is taken even from the owner. A role that may only look and call `twinstep.append`
can write the log, and can do nothing else to it.

Positions are handed out under the row of `twinstep.log`, which each append holds until its commit. So they have no gap and are
visible in their order: who has read up to a position never finds a lower one later (a sequence promises neither).

`twinstep.append` is one statement, run and committed by the server alone: a client that is stopped or killed holds nothing.

The schema may be there already: a remote database has its ledger in it. Read next: `postgres_log.py`, `postgres_log_rows.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..events.chain import GENESIS
from ..events.projections import ROW_TYPES, columns_of

# Of the tables below. A higher one in a database says that a newer program made it.
LOG_VERSION: Final = 1

# The advisory lock of those who make a log: the bytes of the name, as a bigint.
MAKER_KEY: Final = int.from_bytes(b"twin_log", "big")

# Our own SQLSTATEs.
BUSY, GUARDED, STALE = "TW510", "TW511", "TW512"

APPENDED, CONFLICT, MOVED, TAKEN_OVER = "appended", "conflict", "moved", "taken over"

# The columns of the read tables and their types; every column of a row must be here.
READ_COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {
    "migration_history": {
        "pair": "text NOT NULL",
        "id": "text NOT NULL",
        "version": "text NOT NULL",
        "applied_at": "text",
        "migration_type": "text NOT NULL",
        "status": "text NOT NULL",
        "error_message": "text",
        "execution_time_ms": "double precision NOT NULL",
        "rollback_applied_at": "text",
        "metadata": "text NOT NULL",
    },
    "migration_backups": {
        "pair": "text NOT NULL",
        "id": "text NOT NULL",
        "backup_id": "text NOT NULL",
        "created_at": "text NOT NULL",
        "migration_version": "text",
        "status": "text NOT NULL",
        "backup_size_bytes": "bigint NOT NULL",
        "restoration_verified": "integer NOT NULL",
        "cleanup_at": "text",
        "metadata": "text NOT NULL",
    },
    "migration_sync_status": {
        "pair": "text NOT NULL",
        "id": "text NOT NULL",
        "migration_version": "text NOT NULL",
        "local_status": "text NOT NULL",
        "remote_status": "text NOT NULL",
        "local_applied_at": "text",
        "remote_applied_at": "text",
        "local_rollback_at": "text",
        "remote_rollback_at": "text",
        "sync_conflict_detected": "integer NOT NULL",
        "conflict_resolution": "text",
        "last_sync_check": "text",
        "metadata": "text NOT NULL",
    },
}
_MORE: Final[Mapping[str, str]] = {
    "migration_history": """;
CREATE INDEX IF NOT EXISTS migration_history_version_status ON twinstep.migration_history (version, status);
CREATE INDEX IF NOT EXISTS migration_history_applied_at ON twinstep.migration_history (applied_at DESC)""",
    "migration_backups": "",
    "migration_sync_status": "",
}
_UNIQUE: Final[Mapping[str, str]] = {
    "migration_history": "",
    "migration_backups": ", UNIQUE (pair, backup_id)",
    "migration_sync_status": ", UNIQUE (pair, migration_version)",
}


def _read_table(table: str) -> str:
    columns = ", ".join(f"{name} {kind}" for name, kind in READ_COLUMNS[table].items())
    # `first_position` is that of the event by which the row first appeared: the order of the rows.
    return (
        f"CREATE TABLE IF NOT EXISTS twinstep.{table} "
        f"({columns}, first_position bigint NOT NULL, PRIMARY KEY (pair, id){_UNIQUE[table]}){_MORE[table]};"
    )


def _put(table: str) -> str:
    """Insert or change the rows of the JSON parameter that is named like the table; positions count from `last`."""
    columns, key = columns_of(table), ROW_TYPES[table].KEY
    changes = ", ".join(f"{name} = EXCLUDED.{name}" for name in columns if name not in key)
    return f"""
    IF {table} IS NOT NULL THEN
        INSERT INTO twinstep.{table} ({", ".join(columns)}, first_position)
        SELECT {", ".join(f"r.{name}" for name in columns)}, last + r.first_position
        FROM json_populate_recordset(NULL::twinstep.{table}, {table}) AS r
        ON CONFLICT ({", ".join(key)}) DO UPDATE SET {changes};
    END IF;"""


# Idempotent: also what makes a read table again that somebody dropped.
READ_TABLES: Final = "\n".join(map(_read_table, ROW_TYPES))

_TABLES: Final = """
CREATE TABLE twinstep.log (
    log_id text NOT NULL PRIMARY KEY,
    schema_version integer NOT NULL,
    created_at text NOT NULL,
    last_position bigint NOT NULL
);
CREATE UNIQUE INDEX log_has_one_id ON twinstep.log ((true));
CREATE TABLE twinstep.events (
    position bigint PRIMARY KEY,
    stream text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    type text NOT NULL,
    schema_version integer NOT NULL,
    recorded_at text NOT NULL,
    payload text NOT NULL,
    previous_hash text NOT NULL,
    hash text NOT NULL,
    UNIQUE (stream, version)
);
CREATE INDEX events_of_pair ON twinstep.events (split_part(stream, '/', 1), position);
CREATE TABLE twinstep.pairs (
    key text COLLATE "C" NOT NULL PRIMARY KEY,
    pair text COLLATE "C" NOT NULL UNIQUE
);
CREATE TABLE twinstep.claims (
    pair text COLLATE "C" NOT NULL PRIMARY KEY,
    token text NOT NULL
);
"""

_GUARDS: Final = f"""
CREATE FUNCTION twinstep.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
    RAISE EXCEPTION 'the log is append-only' USING ERRCODE = '{GUARDED}';
END $body$;

CREATE FUNCTION twinstep.follow_the_last() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
    UPDATE twinstep.log l SET last_position = b.last
        FROM (SELECT min(a.position) AS first, max(a.position) AS last, count(*) AS number FROM added a) b
        WHERE l.last_position = b.first - 1 AND b.last - b.first + 1 = b.number AND NOT EXISTS (
            SELECT FROM added a
            WHERE NOT (a.version = 1 AND a.previous_hash = '{GENESIS}') AND NOT EXISTS (
                SELECT FROM twinstep.events e
                WHERE e.stream = a.stream AND e.version = a.version - 1 AND e.hash = a.previous_hash
                    AND e.position < a.position
            )
        );
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the log is append-only: an event follows the last one of its stream' USING ERRCODE = '{GUARDED}';
    END IF;
    RETURN NULL;
END $body$;

CREATE FUNCTION twinstep.only_move_on() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
    -- By the trigger of the events alone, which has seen to it that this is the position of the last one.
    IF pg_trigger_depth() < 2 OR NEW.last_position < OLD.last_position OR NEW.log_id <> OLD.log_id
        OR NEW.schema_version <> OLD.schema_version OR NEW.created_at <> OLD.created_at THEN
        RAISE EXCEPTION 'the log is append-only: it keeps its id, and its last position is that of its last event'
            USING ERRCODE = '{GUARDED}';
    END IF;
    RETURN NEW;
END $body$;

CREATE TRIGGER events_insert AFTER INSERT ON twinstep.events REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION twinstep.follow_the_last();
CREATE TRIGGER events_change BEFORE UPDATE OR DELETE OR TRUNCATE ON twinstep.events
    FOR EACH STATEMENT EXECUTE FUNCTION twinstep.refuse_change();
CREATE TRIGGER pairs_change BEFORE UPDATE OR DELETE OR TRUNCATE ON twinstep.pairs
    FOR EACH STATEMENT EXECUTE FUNCTION twinstep.refuse_change();
CREATE TRIGGER log_change BEFORE DELETE OR TRUNCATE ON twinstep.log
    FOR EACH STATEMENT EXECUTE FUNCTION twinstep.refuse_change();
CREATE TRIGGER log_update BEFORE UPDATE ON twinstep.log FOR EACH ROW EXECUTE FUNCTION twinstep.only_move_on();
ALTER TABLE twinstep.events ENABLE ALWAYS TRIGGER events_insert;
ALTER TABLE twinstep.events ENABLE ALWAYS TRIGGER events_change;
ALTER TABLE twinstep.pairs ENABLE ALWAYS TRIGGER pairs_change;
ALTER TABLE twinstep.log ENABLE ALWAYS TRIGGER log_change;
ALTER TABLE twinstep.log ENABLE ALWAYS TRIGGER log_update;
"""

_ROWS_PARAMETERS: Final = ", ".join(f"{table} json" for table in ROW_TYPES)
_PUT_ROWS: Final = "".join(map(_put, ROW_TYPES))

# `outcome` is one of the four words above. With `conflict`, `at_version` and `at_hash` are where the stream is.
_FUNCTIONS: Final = f"""
CREATE FUNCTION twinstep.append(
    to_stream text, expected_version bigint, expected_hash text,
    types text[], schema_versions integer[], recorded_at text, payloads text[], hashes text[],
    pair_position bigint, {_ROWS_PARAMETERS}, given_token text, is_new_token boolean, wait_milliseconds integer,
    OUT outcome text, OUT last bigint, OUT at_version bigint, OUT at_hash text
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    of_pair text := split_part(to_stream, '/', 1);
    setting text;
    at_position bigint;
BEGIN
    IF current_setting('synchronous_commit') = 'off' THEN
        setting := set_config('synchronous_commit', 'on', true);
    END IF;
    setting := set_config('lock_timeout', wait_milliseconds::text, true);
    SELECT l.last_position INTO STRICT last FROM twinstep.log l FOR NO KEY UPDATE;
    -- A statement of its own, for it must see what was committed while the lock was waited for.
    SELECT h.version, h.hash, (SELECT max(e.position) FROM twinstep.events e WHERE split_part(e.stream, '/', 1) = of_pair)
        INTO at_version, at_hash, at_position
        FROM (VALUES (true)) one LEFT JOIN LATERAL (
            SELECT e.version, e.hash FROM twinstep.events e WHERE e.stream = to_stream ORDER BY e.version DESC LIMIT 1
        ) h ON true;
    at_version := coalesce(at_version, 0);
    at_hash := coalesce(at_hash, '{GENESIS}');
    IF given_token IS NOT NULL AND NOT is_new_token
        AND given_token IS DISTINCT FROM (SELECT c.token FROM twinstep.claims c WHERE c.pair = of_pair) THEN
        outcome := '{TAKEN_OVER}';
        RETURN;
    ELSIF at_version <> expected_version OR at_hash <> expected_hash THEN
        outcome := '{CONFLICT}';
        RETURN;
    ELSIF pair_position <> coalesce(at_position, 0) THEN
        outcome := '{MOVED}';
        RETURN;
    END IF;
    INSERT INTO twinstep.events
    SELECT last + n, to_stream, expected_version + n, g.type, g.schema_version, append.recorded_at, g.payload,
        coalesce(hashes[n - 1], expected_hash), g.hash
    FROM unnest(types, schema_versions, payloads, hashes) WITH ORDINALITY AS g(type, schema_version, payload, hash, n);
    IF is_new_token THEN
        INSERT INTO twinstep.claims VALUES (of_pair, given_token)
        ON CONFLICT (pair) DO UPDATE SET token = EXCLUDED.token;
    END IF;{_PUT_ROWS}
    outcome := '{APPENDED}';
END $body$;

CREATE FUNCTION twinstep.know_pair(of_key text, fresh text, OUT pair text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    INSERT INTO twinstep.pairs VALUES (of_key, fresh) ON CONFLICT DO NOTHING;
    SELECT p.pair INTO pair FROM twinstep.pairs p WHERE p.key = of_key;
END $body$;

CREATE FUNCTION twinstep.replace_rows(up_to bigint, {_ROWS_PARAMETERS}) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    last bigint := 0;
BEGIN
    IF up_to <> (SELECT l.last_position FROM twinstep.log l FOR NO KEY UPDATE) THEN
        RAISE EXCEPTION 'the log has moved on' USING ERRCODE = '{STALE}';
    END IF;
    {"".join(f"DELETE FROM twinstep.{table};" for table in ROW_TYPES)}{_PUT_ROWS}
END $body$;
"""

_OURS: Final = ", ".join(f"twinstep.{table}" for table in ("log", "events", "pairs", "claims", *ROW_TYPES))

# The owner needs no more than this to run the functions above; who wants it back must grant it to himself first.
_RIGHTS: Final = f"""
REVOKE ALL ON {_OURS} FROM PUBLIC;
REVOKE UPDATE, DELETE, TRUNCATE ON twinstep.events, twinstep.pairs FROM CURRENT_USER;
REVOKE INSERT, DELETE, TRUNCATE ON twinstep.log FROM CURRENT_USER;
REVOKE ALL ON FUNCTION twinstep.append, twinstep.know_pair, twinstep.replace_rows, twinstep.refuse_change,
    twinstep.follow_the_last, twinstep.only_move_on FROM PUBLIC;
"""

# Before a statement that writes, where the settings of a role or a database, or a pooler, leave it open: an append that waits
# must then see what the one before it has committed. In one message with the statement, and so in one transaction.
WRITING: Final = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE"

# Makes the schema where it is missing. Whoever makes a ledger makes it too, under the lock of all coordinators: two that do it
# at once get in each other's way, IF NOT EXISTS or not. Held for this statement only.
MAKE_SCHEMA: Final = f"""
DO $make$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'twinstep') THEN
        IF NOT pg_catalog.pg_try_advisory_xact_lock({{lock_key}}) THEN
            RAISE EXCEPTION 'another coordinator is at work' USING ERRCODE = '{BUSY}';
        END IF;
        CREATE SCHEMA IF NOT EXISTS twinstep;
    END IF;
END $make$
"""

# Makes the log where it is missing, whole or not at all. Two literals are to be filled in: the new log's id, and the time.
MAKE_LOG: Final = f"""
DO $make$
BEGIN
    -- Never waited for in here: a session that waits for an advisory lock holds a snapshot, for which others wait in turn.
    IF NOT pg_catalog.pg_try_advisory_xact_lock({MAKER_KEY}) THEN
        RAISE EXCEPTION 'another one makes this log' USING ERRCODE = '{BUSY}';
    END IF;
    IF pg_catalog.to_regclass('twinstep.log') IS NOT NULL THEN
        RETURN;
    END IF;
    {_TABLES}{READ_TABLES}
    INSERT INTO twinstep.log VALUES (%s, {LOG_VERSION}, %s, 0);
    {_GUARDS}{_FUNCTIONS}{_RIGHTS}
END $make$
"""
