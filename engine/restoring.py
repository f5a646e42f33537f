"""Restoring a backup of the local database by a person's word, from any state, and what a killed restore leaves to the log.

A restore is one change of the local file that may concern several migrations. It becomes durable together with the ledger in
it; then `BackupRestored` goes into the stream of each migration that stands otherwise now. The first of them performs it, by
row 1c of the lifecycle table; for all others, and for a process that was killed in between, row 0f takes it from the ledger.

Writes of others are never lost unless that is asked for: the content of the backup and the content of the database now must be
joined by changes that the log knows (`migrations/restored.py`). Read next: `settling.py`, `keeping.py`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from itertools import chain

from uuid_utils import uuid7

from ..events import types as e
from ..events.codec import decode
from ..events.errors import Blocked, TwinstepError
from ..events.fold import Status
from ..events.types import Event, Json
from ..migrations.ledger import DOWN, UP, LedgerRow, noted
from ..migrations.restored import concerned
from ..migrations.target import Whole
from ..migrations.work import RestoreOrder
from .backup_report import BackupReport, OneBackup
from .decide import Request, unrecorded_restore
from .driver import Driver
from .keeping import backups_of, named_backup, note_found, prove
from .pair_log import append_to_pair
from .planning import order_of
from .report import error_report
from .session import Session
from .settling import may_have_changed_remote
from .worker import fingerprint_of


def take_in_restores(opened: Session) -> None:
    """Record what a restore has left in the local ledger and the log does not have yet: before anything else is decided."""
    local = opened.targets.get("local")
    if local is None or opened.pair is None:
        return
    whole, statuses = local.whole(), opened.statuses()
    found = [name for name, ledger in whole.ledgers.items() if unrecorded_restore(ledger, statuses.get(name, Status()))]
    for name in found:
        Driver(opened).drive_or_raise(name, Request(wish="record"))
    if found:
        note_found(opened)
    head = whole.head
    ours = (head.pair, head.log) == (opened.pair, opened.store.log_id)
    if head.restored_by and ours and not _is_recorded(opened, head.restored_by):
        append_to_pair(opened, [e.ContentRestored(run=head.restored_by, backup=head.restored, replaced=head.replaced)])


def restore(opened: Session, id: str, *, discard_writes: bool) -> BackupReport:
    """Put a backup back. Raises Blocked where it must not be (T232, T233, T281 to T284), and nothing is changed then."""
    copies, backup = backups_of(opened), named_backup(opened, id)
    prove(opened, copies, backup)
    for name, status in opened.statuses().items():
        if status.in_flight:
            # What the ledgers hold of it belongs into the log before its streams are looked at.
            Driver(opened).drive_or_raise(name, Request(wish="record"))
    today, then = _rows(opened.targets["local"].whole()), _rows(copies.holds(backup))
    names = sorted(concerned(today, then), key=lambda name: order_of(opened, name))
    for name in names:
        _refuse_to_strand(opened, name)
    order = _order(opened, backup, today, discard_writes=discard_writes)
    try:
        _perform(opened, order, names)
        note_found(opened)
    except TwinstepError as error:
        if opened.targets["local"].whole().head.restored_by != order.run:
            raise
        # It is done, and only the log does not say so yet: the next call takes it in.
        return _report(backup, order, names, error)
    return _report(backup, order, names, None)


def _perform(opened: Session, order: RestoreOrder, names: list[str]) -> None:
    if not names:
        opened.targets["local"].restore(order)
        append_to_pair(opened, [e.ContentRestored(run=order.run, backup=order.id, replaced=order.replaced)])
        return
    first, *others = names
    Driver(opened, restoring=order).drive_or_raise(first, Request(wish="restore"))
    for name in others:
        # By the ledger (row 0f), or, where the ledger in the backup says by itself what stands, by nothing at all.
        Driver(opened).drive_or_raise(name, Request(wish="record"))


def _order(opened: Session, backup: Mapping[str, Json], today: list[LedgerRow], *, discard_writes: bool) -> RestoreOrder:
    assert opened.pair is not None
    return RestoreOrder(
        backup=backup,
        run=str(uuid7()),
        pair=opened.pair,
        log=opened.store.log_id,
        replaced=str(uuid7()),
        token=uuid.uuid4().hex,
        streams={name: (status.version, status.last_hash) for name, status in opened.statuses().items()},
        ours=frozenset(our_changes(opened, today)),
        discard_writes=discard_writes,
    )


def our_changes(opened: Session, rows: list[LedgerRow]) -> Iterator[tuple[str, str]]:
    """Each change of ours as the content before and after it: by the looks in the log, and those in the ledger. An undo
    between which and its change others wrote explains nothing."""
    ups = {(row.migration, row.run): row.content for row in rows if row.direction == UP and row.content}
    for name, records in opened.histories().items():
        looks: dict[str, str] = {}
        for event in map(decode, records):
            if isinstance(event, e.Validated) and event.local is not None:
                looks[event.run] = fingerprint_of(event.local).to_text()
            elif isinstance(event, e.LocalApplied) and event.run in looks and (name, event.run) in ups:
                yield looks[event.run], ups[name, event.run]
    for row in rows:
        alone = row.direction == DOWN and row.content and not noted(row).get("others_wrote")
        if alone and (row.migration, row.undoes) in ups:
            yield ups[row.migration, row.undoes], row.content


def _refuse_to_strand(opened: Session, name: str) -> None:
    """What stands in part on the remote is finished or undone by the run in flight alone, which a restore would end.

    Raises Blocked (T283), and Unreachable where that cannot be seen.
    """
    status = opened.statuses().get(name, Status())
    if not may_have_changed_remote(status):
        return
    remote = opened.targets.get("remote")
    if remote is None:
        raise Blocked("T289", migration=name)
    half = remote.ledger(name).half_applied_by()
    if half is not None and half.pair == opened.pair:
        raise Blocked("T283", migration=name, run=half.run)


def _is_recorded(opened: Session, run: str) -> bool:
    assert opened.pair is not None
    of_migrations = chain.from_iterable(opened.histories().values())
    events: Iterator[Event] = map(decode, chain(opened.store.read(opened.pair), of_migrations))
    return any(isinstance(event, e.ContentRestored | e.BackupRestored) and event.run == run for event in events)


def _rows(whole: Whole) -> list[LedgerRow]:
    return [row for ledger in whole.ledgers.values() for row in ledger.rows]


def _report(backup: Mapping[str, Json], order: RestoreOrder, names: list[str], error: TwinstepError | None) -> BackupReport:
    return BackupReport(
        outcome="restored" if error is None else "in_flight",
        backups=(OneBackup.of(backup),),
        replaced=order.replaced,
        migrations=tuple(names),
        exit_code=0 if error is None else 6,
        error=None if error is None else error_report(error),
    )
