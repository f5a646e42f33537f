"""What the ledger says after a backup was put back: restoring changes what stands, and never forgets what was.

A backup holds the ledger of its day. What comes back is today's ledger, every row of it, with rows of the restore's own run:
one that undoes each step which stands today and did not stand then, and one that makes stand again each step which stood then
and does not today. `before` of these rows names the backup, so that a process killed right after the restore leaves what the
next one can take into the log.

Pure but for the clock. Read next: `ledger.py`; `sqlite_restoring.py` and `memory_target.py`, which put backups back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from attrs import evolve

from ..events.types import Json
from .ledger import DOWN, HEAD, KEY, REPLACED, RESTORED, RESTORED_BY, UP, LedgerRow, SideLedger, noted
from .steps import head_row, stamp
from .work import RestoreOrder


def ledger_after(today: Sequence[LedgerRow], then: Sequence[LedgerRow], order: RestoreOrder, content: str) -> list[LedgerRow]:
    """All rows after the restore. `then` are those of the backup, `content` is the look at what it holds, as text."""
    rows = {_key(row): row for row in (*then, *today) if row.direction != HEAD}
    mark: dict[str, Json] = {RESTORED: order.id, REPLACED: order.replaced}
    head = head_row(pair=order.pair, log=order.log, token=order.token)
    head = evolve(head, before=json.dumps({**mark, RESTORED_BY: order.run}, sort_keys=True), content=content)
    changed = [*_undoing(rows.values(), then, order, mark), *_standing_again(rows.values(), then, order, mark)]
    return [head, *rows.values(), *(evolve(row, content=content) for row in changed)]


def concerned(today: Iterable[LedgerRow], then: Iterable[LedgerRow]) -> tuple[str, ...]:
    """The migrations of which something else stands once the backup is back."""
    now, before = _standing(today), _standing(then)
    return tuple(sorted({key[0] for key in now.keys() ^ before.keys()}))


def explained(held: str, now: str, ours: Iterable[tuple[str, str]]) -> bool:
    """Whether changes of ours alone lead from the content `held` (the backup's) to `now`: no write of others is lost then."""
    following: dict[str, set[str]] = {}
    for before, after in ours:
        following.setdefault(before, set()).add(after)
    seen, waiting = {held}, [held]
    while waiting:
        for after in following.get(waiting.pop(), set()) - seen:
            seen.add(after)
            waiting.append(after)
    return now in seen


def _undoing(
    today: Iterable[LedgerRow], then: Iterable[LedgerRow], order: RestoreOrder, mark: Mapping[str, Json]
) -> Iterator[LedgerRow]:
    stood = _standing(then)
    for key, row in _standing(today).items():
        if key not in stood:
            yield evolve(_by_this_run(row, order), direction=DOWN, undoes=row.run, before=json.dumps(mark, sort_keys=True))


def _standing_again(
    today: Iterable[LedgerRow], then: Iterable[LedgerRow], order: RestoreOrder, mark: Mapping[str, Json]
) -> Iterator[LedgerRow]:
    stands = _standing(today)
    for key, row in _standing(then).items():
        if key not in stands:
            # What its down must set back to stays in it.
            yield evolve(_by_this_run(row, order), before=json.dumps({**noted(row), **mark}, sort_keys=True))


def _by_this_run(row: LedgerRow, order: RestoreOrder) -> LedgerRow:
    version, last_hash = order.streams.get(row.migration, (0, ""))
    return evolve(
        row,
        run=order.run,
        undoes="",
        pair=order.pair,
        log=order.log,
        token=order.token,
        applied_at=stamp(),
        stream_version=version,
        stream_hash=last_hash,
    )


def _standing(rows: Iterable[LedgerRow]) -> dict[tuple[str, str, int], LedgerRow]:
    """The steps that stand, by migration, run and number."""
    ledgers: dict[str, list[LedgerRow]] = {}
    for row in rows:
        if row.direction != HEAD:
            ledgers.setdefault(row.migration, []).append(row)
    found = {}
    for migration, own in ledgers.items():
        for row in SideLedger(rows=tuple(own)).standing(each.run for each in own if each.direction == UP):
            found[migration, row.run, row.step] = row
    return found


def _key(row: LedgerRow) -> tuple[object, ...]:
    return tuple(getattr(row, name) for name in KEY)
