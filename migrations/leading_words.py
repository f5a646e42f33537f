"""The words with which a statement can begin, in each dialect: what begins with another is no SQL, and is said so early.

The lists are of all versions that are supported, and of what is known to come; a word too many here only means that the
database itself refuses the statement, while running. Taken from https://www.sqlite.org/lang.html and
https://www.postgresql.org/docs/current/sql-commands.html.

Pure. Read next: `script.py`, which asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from ..events.errors import DefinitionError
from ..events.nearest import nearest

if TYPE_CHECKING:
    from .lexical import Dialect

SHOWN_CHARACTERS: Final = 80

LEADING_WORDS: Final[Mapping[Dialect, frozenset[str]]] = {
    "sqlite": frozenset(
        """ALTER ANALYZE ATTACH BEGIN COMMIT CREATE DELETE DETACH DROP END EXPLAIN INSERT PRAGMA REINDEX RELEASE REPLACE
        ROLLBACK SAVEPOINT SELECT UPDATE VACUUM VALUES WITH""".split()
    ),
    "postgres": frozenset(
        """ABORT ALTER ANALYSE ANALYZE BEGIN CALL CHECKPOINT CLOSE CLUSTER COMMENT COMMIT COPY CREATE DEALLOCATE DECLARE DELETE
        DISCARD DO DROP END EXECUTE EXPLAIN FETCH GRANT IMPORT INSERT LISTEN LOAD LOCK MERGE MOVE NOTIFY PREPARE REASSIGN
        REFRESH REINDEX RELEASE REPACK RESET REVOKE ROLLBACK SAVEPOINT SECURITY SELECT SET SHOW START TABLE TRUNCATE
        UNLISTEN UPDATE VACUUM VALUES WAIT WITH""".split()
    ),
}


def refuse_no_sql(text: str, words: tuple[str, ...], dialect: Dialect, path: str, line: int) -> None:
    """Return where the statement's first word is one. Raises DefinitionError (T125) with the word that was meant."""
    known = LEADING_WORDS[dialect]
    if words and words[0] in known:
        return
    shown = " ".join(text.split())
    word = words[0] if words else shown.split()[0]
    meant = nearest(word, known)
    raise DefinitionError(
        "T125",
        path=path,
        line=line,
        word=word if len(word) <= SHOWN_CHARACTERS else f"{word[:SHOWN_CHARACTERS]}...",
        statement=shown if len(shown) <= SHOWN_CHARACTERS else f"{shown[: SHOWN_CHARACTERS - 3]}...",
        suggestion=f"; {meant} may be what was meant" if meant else "",
    )
