"""The ledger: the rows inside each database that say what is, as values, and what can be concluded from them. Pure.

Each row is written in the transaction of the change that it records, so that the two cannot disagree. Rows are added and
never removed: an undone step is one that another row says was undone. Where a change cannot run in a transaction, its row
is committed first, as `open`, and then set to `done`; an open row counts as standing, because it may.

The first row of a ledger is its *head*: whose it is, and the fencing token of the coordinator that may change it.

The SQL lies with the targets. Read next: `target.py`; `engine/decide.py` for who asks these questions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from attrs import fields, frozen

from ..events.errors import Blocked

HEAD, UP, DOWN, CONFIRM = "head", "up", "down", "confirm"
OPEN, DONE = "open", "done"
# On PostgreSQL, inside the transaction of a step that runs a function.
RUNNING: Final = "running"
DIRECTIONS: Final = frozenset({HEAD, UP, DOWN, CONFIRM})
STATES: Final = frozenset({OPEN, DONE, RUNNING})

# Names in `before`: of rows that a restored backup left, the backup and the one of what it replaced; of rows that a baseline
# wrote for a change which was there already. The head names the run of the last restore too, until the next change.
RESTORED, REPLACED, RESTORED_BY, DECLARED = "restored", "replaced", "restored_by", "declared"
# In `before` of a remote step: the keys of the objects that it touched, so that those of others are not held against it.
OBJECTS: Final = "objects"


@frozen(kw_only=True)
class LedgerRow:
    """One row. The key is migration, direction, step, run and undoes.

    `step` counts from 1 to `steps`; 0 for the head and for a confirmation (and its undoing). `undoes` is the run whose step
    this one takes back, or whose change it confirms. `before` is what was there before, `down` the steps that take it back,
    `content` the look at a local database right after the change, or after its undo (all three JSON texts).
    """

    migration: str = ""
    direction: str
    step: int = 0
    run: str = ""
    undoes: str = ""
    steps: int = 0
    state: str = DONE
    pair: str = ""
    log: str = ""
    token: str = ""
    checksum: str = ""
    applied_at: str = ""
    stream_version: int = 0
    stream_hash: str = ""
    before: str = "{}"
    down: str = "null"
    content: str = ""


COLUMNS: Final = tuple(attribute.name for attribute in fields(LedgerRow))
KEY: Final = ("migration", "direction", "step", "run", "undoes")
INTEGERS: Final = ("step", "steps", "stream_version")


@frozen(kw_only=True)
class SideLedger:
    """All rows of one migration on one side, of every pair, as read at one instant."""

    rows: tuple[LedgerRow, ...] = ()

    def standing(self, runs: Iterable[str]) -> tuple[LedgerRow, ...]:
        """The up rows of these runs that no row undoes, first step first."""
        wanted = frozenset(runs)
        undone = {(row.undoes, row.step) for row in self.rows if row.direction == DOWN and row.state == DONE}
        found = [row for row in self.rows if row.direction == UP and row.run in wanted and (row.run, row.step) not in undone]
        return tuple(sorted(found, key=lambda row: row.step))

    def confirming(self, runs: Iterable[str]) -> tuple[LedgerRow, ...]:
        """The confirmations by these runs that stand."""
        wanted = frozenset(runs)
        undone = {row.undoes for row in self.rows if row.direction == DOWN and row.step == 0}
        return tuple(row for row in self.rows if row.direction == CONFIRM and row.run in wanted and row.run not in undone)

    def holds(self, runs: Iterable[str]) -> bool:
        """Whether anything of these runs stands here, a confirmation included."""
        wanted = tuple(runs)
        return bool(self.standing(wanted) or self.confirming(wanted))

    def whole(self, run: str) -> bool:
        """Whether every step of the run stands, and none is open."""
        standing = self.standing((run,))
        return bool(standing) and len(standing) == standing[0].steps and all(row.state == DONE for row in standing)

    def applied_by(self) -> LedgerRow | None:
        """The first row of the run whose change stands whole; None where there is none."""
        for row in self.rows:
            if row.direction == UP and row.step == 1 and self.whole(row.run):
                return row
        return None

    def half_applied_by(self, *, other_than: Iterable[str] = ()) -> LedgerRow | None:
        """A row of a run whose change stands in part, leaving aside the runs named; None where there is none."""
        aside = frozenset(other_than)
        for row in self.rows:
            if row.direction == UP and row.run not in aside and self.standing((row.run,)) and not self.whole(row.run):
                return row
        return None

    def relied_on_by_others(self, runs: Iterable[str]) -> bool:
        """Whether runs other than these confirm what these applied."""
        ours = frozenset(runs)
        confirming = frozenset(row.run for row in self.rows if row.direction == CONFIRM) - ours
        return any(row.undoes in ours for row in self.confirming(confirming))

    def restored(self, *, known: Iterable[str]) -> LedgerRow | None:
        """A row that a restored backup left here and that is of none of these runs; None where there is none."""
        runs = frozenset(known)
        for row in self.rows:
            if row.run not in runs and RESTORED in noted(row):
                return row
        return None

    def touched(self, runs: Iterable[str]) -> frozenset[str] | None:
        """The objects that the steps of these runs made, dropped or changed; None where a row does not say."""
        wanted = frozenset(runs)
        noted = [json.loads(row.before).get(OBJECTS) for row in self.rows if row.direction == UP and row.run in wanted]
        if not noted or not all(isinstance(each, list) for each in noted):
            return None
        return frozenset(str(key) for each in noted for key in each)

    def undoing(self, run: str) -> tuple[LedgerRow, ...]:
        """The rows of steps that `run` undid, first step first."""
        return tuple(sorted((row for row in self.rows if row.direction == DOWN and row.run == run), key=lambda row: row.step))

    def undid(self, run: str) -> bool:
        """Whether `run` undid anything here."""
        return any(row.direction == DOWN and row.run == run for row in self.rows)


def noted(row: LedgerRow) -> dict[str, Any]:
    """What a row's `before` says."""
    found: dict[str, Any] = json.loads(row.before)
    return found


def row_from(values: Iterable[str | int]) -> LedgerRow:
    """A row from its columns, in the order of COLUMNS.

    Raises Blocked (T295) for one that this program does not know the meaning of: whoever passed over it might build on what is
    not there, or do again what is.
    """
    named: dict[str, Any] = dict(zip(COLUMNS, values, strict=True))
    row = LedgerRow(**named)
    if row.direction not in DIRECTIONS or row.state not in STATES:
        raise Blocked("T295", migration=row.migration, run=row.run, direction=row.direction, row_state=row.state)
    return row
