"""Which units of a script are due, and the ledger rows that record them: what all targets share. Pure but for the clock.

Read next: `ledger.py` (what a row means), `script.py` (what a unit is).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from attrs import evolve, frozen

from ..events.errors import Blocked
from ..events.types import Json
from .catalogue import Fingerprint
from .ledger import CONFIRM, DONE, DOWN, HEAD, OPEN, UP, LedgerRow, SideLedger
from .script import Unit
from .target import Undone
from .work import Order


@frozen(kw_only=True)
class Due:
    """A unit that is to run: its number from 1 on, and the row that stands open for it from an earlier attempt."""

    step: int
    unit: Unit
    open_row: LedgerRow | None = None


@frozen(kw_only=True)
class ToUndo:
    """A step that stands and is to be taken back."""

    row: LedgerRow
    unit: Unit


def due_units(order: Order, ledger: SideLedger) -> tuple[Due, ...]:
    """The units of the order's script that do not stand whole yet, first to last."""
    rows = {row.step: row for row in ledger.standing((order.run,))}
    due = []
    for step, unit in enumerate(order.work.script.units, start=1):
        row = rows.get(step)
        if row is None or row.state == OPEN:
            due.append(Due(step=step, unit=unit, open_row=row))
    return tuple(due)


def units_to_undo(order: Order, ledger: SideLedger) -> tuple[ToUndo, ...]:
    """The steps of the undone runs that stand, last to first."""
    units = order.work.script.units
    rows = sorted(ledger.standing(order.undoes), key=lambda row: (row.stream_version, row.step), reverse=True)
    return tuple(ToUndo(row=row, unit=units[row.step - 1]) for row in rows)


def refuse_if_relied_on(order: Order, ledger: SideLedger) -> None:
    """Raise Blocked (T208) where others confirmed, meanwhile, what is to be undone: asked again under the lock."""
    if units_to_undo(order, ledger) and ledger.relied_on_by_others((*order.undoes, order.run)):
        raise Blocked("T208", migration=order.migration, side=order.work.side)


def up_row(
    order: Order, step: int, *, state: str = DONE, token: str = "", before: Mapping[str, Json] | None = None, content: str = ""
) -> LedgerRow:
    """The row that says that this step of the run stands (or, open, that it may)."""
    unit = order.work.script.units[step - 1]
    row = _row(order, direction=UP, step=step, token=token)
    down = None if unit.down is None else [each.to_json() for each in unit.down]
    return evolve(row, state=state, before=json.dumps(before or {}, sort_keys=True), down=json.dumps(down), content=content)


def down_row(
    order: Order,
    undone: LedgerRow,
    *,
    token: str = "",
    undo: Mapping[str, Json] | None = None,
    after: Fingerprint | None = None,
) -> LedgerRow:
    """The row that says that the step of that row does not stand any more; on the local side also how it was undone, and
    the look afterwards, so that a crash before they are in the log loses neither."""
    row = _row(order, direction=DOWN, step=undone.step, token=token)
    content = "" if after is None else after.to_text()
    return evolve(row, undoes=undone.run, before=json.dumps(undo or {}, sort_keys=True), content=content)


def undone_by(row: LedgerRow) -> Undone:
    """What the undo did that wrote this row, where a crash kept it out of the log."""
    read = json.loads(row.before)
    found = read.get("found")
    return Undone(
        how=read.get("how", "down"),
        others_wrote=read.get("others_wrote"),
        found=None if found is None else Fingerprint.from_json(found),
        after=Fingerprint.from_text(row.content),
        replaced=read.get("replaced"),
        findings=tuple(read.get("findings", ())),
    )


def confirm_row(order: Order, by: str) -> LedgerRow:
    """The row that says that the run relies on what the run `by` applied."""
    return evolve(_row(order, direction=CONFIRM, step=0, token=""), undoes=by)


def head_row(*, pair: str, log: str, token: str) -> LedgerRow:
    """The first row of a ledger."""
    return LedgerRow(direction=HEAD, pair=pair, log=log, token=token, applied_at=stamp())


def _row(order: Order, *, direction: str, step: int, token: str) -> LedgerRow:
    return LedgerRow(
        migration=order.migration,
        direction=direction,
        step=step,
        run=order.run,
        steps=len(order.work.script.units),
        pair=order.pair,
        log=order.log,
        token=token,
        checksum=order.work.checksum,
        applied_at=stamp(),
        stream_version=order.version,
        stream_hash=order.last_hash,
    )


def stamp() -> str:
    """Now, as it is shown to people: UTC, ISO 8601 with zone."""
    return datetime.now(UTC).isoformat()
