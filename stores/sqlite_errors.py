"""What SQLite's error codes mean for the person who must act: driver errors of the local database turned into ours.

Read from the code that SQLite gave, never from the text of the message. This module must never import SQLAlchemy, nor
touch a database. Read next: `local_connection.py`, which raises what is decided here.
"""

from __future__ import annotations

import sqlite3

from ..events.errors import Blocked, ConfigurationError, InDoubt, Refused, TwinstepError

BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
NO_RIGHTS = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN})
UNREADABLE = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_PROTOCOL})

# Codes with a cause of their own, which the general text would hide.
CAUSES = {
    sqlite3.SQLITE_READONLY_ROLLBACK: "a program that crashed left a journal, and only one that may write can roll it back",
    sqlite3.SQLITE_READONLY_RECOVERY: "a program that crashed left a WAL file, and only one that may write can recover it",
    sqlite3.SQLITE_READONLY_DBMOVED: "the file was moved or deleted while it was open",
}


def translate(error: sqlite3.Error, *, path: str, doing: str) -> TwinstepError:
    """The error to raise (with `from error`) where SQLite failed while `doing` something with the database at `path`.

    Busy, full, no rights, unreadable are circumstances (Blocked); a file that is no database is the input's fault;
    everything else (a constraint, bad SQL, a value that does not fit) is a refusal. Raises KeyboardInterrupt for a statement
    that was interrupted: where there is a limit of time, whoever has set it looks at that first.
    """
    words = {"path": path, "doing": doing, "problem": problem_of(error)}
    match primary_code(error):
        case code if code in BUSY:
            return Blocked("T214", **words)
        case sqlite3.SQLITE_INTERRUPT:
            raise KeyboardInterrupt from error
        case sqlite3.SQLITE_FULL:
            return Blocked("T215", **words)
        case code if code in NO_RIGHTS:
            return Blocked("T213", **words)
        case code if code in UNREADABLE:
            return Blocked("T216", **words)
        case sqlite3.SQLITE_NOTADB:
            return ConfigurationError("T212", **words)
        case _:
            return Refused("T217", **words)


def translate_commit(error: sqlite3.Error, *, path: str, doing: str) -> TwinstepError:
    """The same for a failed COMMIT: after an I/O error nobody knows (the write-ahead log may already hold the commit)."""
    if primary_code(error) == sqlite3.SQLITE_IOERR:
        return InDoubt("T218", path=path, doing=doing, problem=problem_of(error))
    return translate(error, path=path, doing=doing)


def is_busy(error: sqlite3.Error) -> bool:
    """Whether somebody else holds a lock, so that waiting may help."""
    return primary_code(error) in BUSY


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code, or -1 where the driver itself raised (a closed connection, say)."""
    return _extended_code(error) & 0xFF if _extended_code(error) >= 0 else -1


def problem_of(error: sqlite3.Error) -> str:
    """What went wrong, in words, with SQLite's name for it where there is one."""
    name = getattr(error, "sqlite_errorname", None)
    words = CAUSES.get(_extended_code(error), str(error))
    return f"{words} ({name})" if name else words


def _extended_code(error: sqlite3.Error) -> int:
    # The driver sets the attribute only on errors that come from SQLite.
    return getattr(error, "sqlite_errorcode", -1)
