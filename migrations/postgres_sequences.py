"""Where sequences stand is taken back with everything else that a transaction did.

`setval` is not undone by a rollback: a step that sets a sequence back, and is then refused or only rehearsed, would leave the
database giving out ids that are taken. PostgreSQL moves a sequence whose parameters are altered to a file of its own until the
transaction ends (https://www.postgresql.org/docs/current/sql-altersequence.html), and what `setval` does goes there. So the
sequences are altered, to what they are, before a statement that may set them.

Who asks for a number of such a sequence waits until the transaction ends. Raises the driver's errors. Read next:
`postgres_target.py` (who calls this).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..stores.remote_connection import Remote

_WORD = re.compile(r"\w+")
_SETVAL = "setval"

_SETTING = r"""
    SELECT DISTINCT lower(p.proname) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'twinstep') AND p.prosrc ~* '\msetval\M'
"""
_SEQUENCES = """
    SELECT c.oid::regclass::text, lower(c.relname), lower(coalesce(t.relname, '')), s.seqcache
    FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')
        AND d.refclassid = 'pg_class'::regclass
    LEFT JOIN pg_class t ON t.oid = d.refobjid
    WHERE n.nspname <> 'twinstep' AND NOT pg_is_other_temp_schema(n.oid)
        AND current_setting('transaction_read_only') = 'off'
        AND (pg_has_role(c.relowner, 'USAGE') OR NOT %s)
    ORDER BY 1
"""


class KeptSequences:
    """What must come before the statements of one session, so that what they set sequences to is rolled back with them.

    `altering` is the sequence whose ALTER was refused, or empty.
    """

    def __init__(self) -> None:
        self._setting: re.Pattern[str] | None = None
        self.altering = ""

    def before(self, connection: Remote, text: str, *, owned_only: bool) -> None:
        """Before `text` is run: the sequences that it names, itself or by their table, or all where it names none.

        Without `owned_only` one that another role owns raises InsufficientPrivilege; with it, such a one stays where it is set.
        """
        self.altering = ""
        if self._setting is None:
            functions = (re.escape(str(name)) for (name,) in connection.execute(_SETTING.encode()).fetchall())
            self._setting = re.compile(rf"\b(?:{'|'.join((_SETVAL, *functions))})\b", re.IGNORECASE)
        if not self._setting.search(text):
            return
        words = {word.lower() for word in _WORD.findall(text)}
        if _SETVAL in words:
            self._setting = None  # it may make a function that does
        found = connection.execute(_SEQUENCES.encode(), (owned_only,)).fetchall()
        named = [each for each in found if not words.isdisjoint(each[1:3])]
        for sequence, _, _, cache in named or found:
            self.altering = sequence  # and stays so where it is refused
            connection.execute(f"ALTER SEQUENCE {sequence} CACHE {cache}".encode())
        self.altering = ""
