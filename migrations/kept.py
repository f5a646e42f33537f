"""What a down took away from a shared database, and where the copy of it is: a value, as it lies in the log.

Others use a remote, so that it is never restored from a backup; what goes is copied instead, by the transaction in which it
goes. Pure. Read next: `postgres_keeping.py` (who copies), `target.py` (`Target.kept`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import field, fields, frozen

from ..events.types import Json

TABLE, COLUMNS, ROWS, SEQUENCE = "table", "columns", "rows", "sequence"


def _names(given: Iterable[str]) -> tuple[str, ...]:
    return tuple(given)


@frozen(kw_only=True)
class Kept:
    """One copy. `what` is "table" (a dropped one, whole), "columns" (dropped ones, with what tells the rows apart), "rows"
    (those that are gone), or "sequence" (where a dropped one stood: `last_value`, without a copy).

    `relation` is where it was, with its schema; `kept_as` where the copy is, `rows` how many there are in it.
    """

    what: str
    relation: str
    kept_as: str = ""
    columns: tuple[str, ...] = field(default=(), converter=_names)
    rows: int = 0
    last_value: int | None = None

    def to_json(self) -> dict[str, Json]:
        """As it lies in an event."""
        return {
            "what": self.what,
            "relation": self.relation,
            "kept_as": self.kept_as,
            "columns": list(self.columns),
            "rows": self.rows,
            "last_value": self.last_value,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Kept:
        """Read back what `to_json` wrote."""
        known: dict[str, Any] = {attribute.name: data[attribute.name] for attribute in fields(cls) if attribute.name in data}
        return cls(**known)

    def sentence(self) -> str:
        """For a report: what went, where it is now, and how to be rid of it."""
        if self.what == SEQUENCE:
            return f"the sequence {self.relation} stood at {self.last_value} when it was dropped from the remote"
        count = f"{self.rows} row{'' if self.rows == 1 else 's'}"
        gone = {
            TABLE: f"the dropped table {self.relation} ({count})",
            COLUMNS: f"what {count} held in the dropped {self._columns()} of {self.relation}",
            ROWS: f"{count} that the way back removed from {self.relation}",
        }[self.what]
        return f"{gone} is kept on the remote as {self.kept_as}; when nobody needs it any more: DROP TABLE {self.kept_as}"

    def _columns(self) -> str:
        return f"column{'' if len(self.columns) == 1 else 's'} {', '.join(self.columns)}"
