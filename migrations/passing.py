"""Which trouble with a remote passes by itself, and is tried again for as long as the patience lasts.

Tried again are:

- what nobody knows the end of, and a lock that went with its session: the connection was lost, or went deaf (InDoubt), also
  because the server was stopped or crashed under it (57P01, 57P02); and a server that cannot be reached, is only just
  starting (57P03), has no room for another session (53300), or whose name cannot be looked up right now: whoever is on the
  way loses all of these at once;
- what another session was in the way of: a lock that was not free in time (55P03), a deadlock (40P01), a transaction that
  could not be serialized (40001). Its transaction is tried again as a whole.

Not tried again, since they would be the same the next time: every other error, such as those of syntax, constraints and
rights, a login or a database that is wrong, a disk or a memory that is full (53100, 53200), a statement that took too long
or was cancelled by hand (57014).

This module must never import engine. Read next: `stores/patience.py` (for how long), `postgres_target.py`, `engine/loop.py`.
"""

from __future__ import annotations

from typing import Final

import psycopg

from ..events.errors import InDoubt, LostLock, TwinstepError, Unreachable

# A statement or transaction that met one of these is tried again: another session was in the way, nothing is wrong with it.
IN_THE_WAY: Final = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
)
# Of those that say that there is no way in: away or without room, and a name that is not known where one is offline.
AWAY: Final = frozenset({"T221", "T229"})


def is_passing(error: TwinstepError) -> bool:
    """Whether a remote that was lost or not reached like this is worth another try."""
    return isinstance(error, InDoubt | LostLock) or (isinstance(error, Unreachable) and error.code in AWAY)
