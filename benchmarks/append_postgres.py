"""One event appended durably to a log in PostgreSQL, beside the floor: a prepared INSERT of the same row in autocommit.

make measure-append          (or: .venv/bin/python -m benchmarks.append_postgres [appends])

A server of its own over a unix socket, with fsync on. Both take turns, on one connection each; medians in milliseconds, and
the ratio of ours to the floor. Ours includes what the floor lacks: the hash, the expected version, the position in the log, and
the rows of the read tables. Round trips are counted from libpq's trace.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import psycopg

from twinstep.engine.embedded import EmbeddedPostgres
from twinstep.events import types as e
from twinstep.stores.postgres_events import PostgresEventStore

STREAM = "pair/0001_first"
EVENT = e.StepFailed(run="r1", effect="VERIFY", side="local", code="T1", message="one of the usual length")
COLUMNS = "stream, version, type, schema_version, recorded_at, payload, previous_hash, hash"


def main(appends: int) -> int:
    """Append, insert, and print what each took."""
    with (
        EmbeddedPostgres.started() as server,
        tempfile.TemporaryFile("w+") as trace,
        psycopg.connect(server.create_database(), autocommit=True) as floor,
        closing(PostgresEventStore(server.create_database())) as store,
    ):
        print(f"PostgreSQL {server.version}, fsync on, {appends} appends each; medians")
        floor.execute(
            "CREATE TABLE event (position bigserial PRIMARY KEY, stream text NOT NULL, version bigint NOT NULL,"
            " type text NOT NULL, schema_version integer NOT NULL, recorded_at text NOT NULL, payload text NOT NULL,"
            " previous_hash text NOT NULL,"
            " hash text NOT NULL, UNIQUE (stream, version))"
        )
        started = e.RunStarted(run="r1", migration="0001_first", direction=e.APPLY, sides=("local",))
        (last,) = store.append(STREAM, [started], expected_version=0, expected_hash="0" * 64)
        ours, floors = [], []
        for _ in range(appends):
            began = time.perf_counter()
            (last,) = store.append(STREAM, [EVENT], expected_version=last.version, expected_hash=last.hash)
            ours.append(time.perf_counter() - began)
            values = tuple(getattr(last, name) for name in COLUMNS.split(", "))
            began = time.perf_counter()
            floor.execute(f"INSERT INTO event ({COLUMNS}) VALUES ({', '.join(['%s'] * 8)})".encode(), values, prepare=True)
            floors.append(time.perf_counter() - began)
        # The trace costs time: it is on for the count alone.
        connection = store._log._connection
        assert connection is not None
        connection.pgconn.trace(trace.fileno())
        store.append(STREAM, [EVENT], expected_version=last.version, expected_hash=last.hash)
        connection.pgconn.untrace()
        trips = Path(f"/proc/self/fd/{trace.fileno()}").read_text().count("\tReadyForQuery\t")
    least, own = (1000 * statistics.median(times) for times in (floors, ours))
    print(f"  a prepared INSERT   {least:6.3f} ms   1 round trip")
    print(f"  an append           {own:6.3f} ms   {trips} round trip{'s' if trips != 1 else ''}")
    print(f"  ratio               {own / least:6.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
