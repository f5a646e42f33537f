"""What to do next: a pure function of the log's claim, the ledgers' truth and the request. It reads the lifecycle table.

`decide` goes through `TABLE` top-down; a row fits when the state is one of its sources and its question is answered with
yes. The questions are the functions below, one each. Nothing here reads a clock, a database or a file, and nothing here
knows how an effect is performed.

Read next: `events/lifecycle.py` (the table), `perform.py` (the effects), `loop.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeAlias

from attrs import frozen

from ..events import types as e
from ..events.fold import Status
from ..events.lifecycle import TABLE, Effect, Row, State, When
from ..migrations.ledger import LedgerRow, SideLedger

Wish: TypeAlias = Literal["apply", "back", "finish", "adopt", "baseline", "restore", "record"]


@frozen(kw_only=True)
class Request:
    """What the caller wants of one migration.

    `finish` finishes what is in flight and begins nothing; `record` only takes into the log what the ledgers hold. `began`
    says that this call has already begun a run, so that it does not begin another one. `accept` is the person's word that a
    difference is all right.
    """

    wish: Wish
    skip_remote: bool = False
    accept: bool = False
    began: bool = False


@frozen(kw_only=True)
class Observed:
    """What was read from the databases: the two ledgers of this migration, and the lock that is held.

    A side is None where it could not be read, or where there is no such database. `lock` is the token drawn when the
    local writer lock was taken, None while it is not held; `remote_held` whether the remote was read under its lock.
    """

    local: SideLedger | None = None
    remote: SideLedger | None = None
    lock: str | None = None
    remote_held: bool = False


def decide(status: Status, observed: Observed, request: Request) -> Row | None:
    """The first row of the table that fits, or None where nothing is left to do."""
    for row in TABLE:
        if status.state in row.sources and QUESTIONS[row.when](status, observed, request):
            return row if request.wish != "record" or row.effect is Effect.RECORD else None
    return None


def unrecorded_restore(ledger: SideLedger | None, status: Status) -> LedgerRow | None:
    """A row by which a restored backup changed what stands, and that the log is about to say; None where there is none.

    The row names where the stream was. One that has moved on since, or lost its tail, is another matter: a conflict.
    """
    if ledger is None:
        return None
    row = ledger.restored(known=status.known_runs | status.adopted_runs)
    if row is None or (row.stream_version, row.stream_hash) != (status.version, status.last_hash):
        return None
    return row


def has_work(status: Status, side: str) -> bool:
    """Whether the run in flight has anything to do on that side."""
    return status.run is not None and side in status.run.sides


def sides_of_rollback(status: Status, observed: Observed) -> tuple[str, ...]:
    """The sides on which something of ours stands, or may stand: a remote that was started and cannot be read counts."""
    runs = status.undone_runs()
    sides = []
    if has_work(status, "local") and (observed.local is None or observed.local.holds(runs)):
        sides.append("local")
    if has_work(status, "remote"):
        unread = observed.remote is None and (status.remote_started or _takes_back(status))
        if unread or (observed.remote is not None and observed.remote.holds(runs)):
            sides.append("remote")
    return tuple(sides)


def _takes_back(status: Status) -> bool:
    return status.run is not None and status.run.direction == e.BACK


def _always(status: Status, observed: Observed, request: Request) -> bool:
    return True


def _ledger_has_local(status: Status, observed: Observed, request: Request) -> bool:
    run = status.run
    return run is not None and not _takes_back(status) and observed.local is not None and observed.local.whole(run.run)


def _ledger_has_remote(status: Status, observed: Observed, request: Request) -> bool:
    return status.run is not None and observed.remote is not None and observed.remote.whole(status.run.run)


def _ledger_has_confirmation(status: Status, observed: Observed, request: Request) -> bool:
    run = status.run
    return run is not None and observed.remote is not None and bool(observed.remote.confirming((run.run,)))


def _ledger_has_remote_undo(status: Status, observed: Observed, request: Request) -> bool:
    return not status.remote_undone and _undone_in(observed.remote, status)


def _ledger_has_local_undo(status: Status, observed: Observed, request: Request) -> bool:
    return not status.local_undone and _undone_in(observed.local, status)


def _undone_in(ledger: SideLedger | None, status: Status) -> bool:
    if ledger is None or status.run is None:
        return False
    return ledger.undid(status.run.run) and not ledger.holds(status.undone_runs())


def _ledger_has_restore(status: Status, observed: Observed, request: Request) -> bool:
    return unrecorded_restore(observed.local, status) is not None


def _asked_to_adopt(status: Status, observed: Observed, request: Request) -> bool:
    return request.wish == "adopt" and not request.began


def _asked_to_baseline(status: Status, observed: Observed, request: Request) -> bool:
    return request.wish == "baseline" and not request.began


def _asked_to_restore(status: Status, observed: Observed, request: Request) -> bool:
    return request.wish == "restore" and not request.began


def _asked_and_not_so(status: Status, observed: Observed, request: Request) -> bool:
    if request.began:
        return False
    if request.wish == "apply":
        whole = status.state is State.VERIFIED and (request.skip_remote or not status.remote_skipped)
        return not whole
    return request.wish == "back" and status.state is State.VERIFIED


def _asked_to_take_back(status: Status, observed: Observed, request: Request) -> bool:
    return request.wish == "back" and not _takes_back(status)


def _taking_back(status: Status, observed: Observed, request: Request) -> bool:
    return _takes_back(status)


def _other_lock(status: Status, observed: Observed, request: Request) -> bool:
    return observed.lock != status.lock


def _remote_to_skip(status: Status, observed: Observed, request: Request) -> bool:
    asked = request.skip_remote or (status.run is not None and status.run.skip_remote)
    return asked and has_work(status, "remote") and not status.remote_started


def _remote_to_confirm(status: Status, observed: Observed, request: Request) -> bool:
    if status.run is None or not has_work(status, "remote"):
        return False
    if status.run.remote_role == "require":
        return True
    by = observed.remote.applied_by() if observed.remote is not None else None
    return by is not None and by.run != status.run.run


def _remote_to_start(status: Status, observed: Observed, request: Request) -> bool:
    # Also where it was started before a crash: what the ledger says counts only while nobody else can change it.
    return has_work(status, "remote") and not (status.remote_started and observed.remote_held)


def _asked_to_accept(status: Status, observed: Observed, request: Request) -> bool:
    return request.accept and _was_refused(status, Effect.VERIFY)


def _accept_the_difference(status: Status, observed: Observed, request: Request) -> bool:
    return request.accept and _was_refused(status, Effect.COMPARE)


def _was_refused(status: Status, effect: Effect) -> bool:
    """Whether the last thing that was refused is that effect, or accepting it: only what was reported can be accepted."""
    return status.failure is not None and status.failure.effect in (effect, Effect.ACCEPT)


def _accept_and_nothing_undone(status: Status, observed: Observed, request: Request) -> bool:
    if not (request.accept and _takes_back(status)) or status.run is None:
        return False
    sides = status.run.sides
    read = ("local" not in sides or observed.local is not None) and ("remote" not in sides or observed.remote is not None)
    undone = status.local_undone or status.remote_undone
    ledgers = (observed.local, observed.remote)
    return read and not undone and not any(ledger.undid(status.run.run) for ledger in ledgers if ledger is not None)


def _remote_stands(status: Status, observed: Observed, request: Request) -> bool:
    runs = status.undone_runs()
    if observed.remote is None:
        return _in_rollback(status, "remote") and not status.remote_undone
    return observed.remote.holds(runs) and not observed.remote.relied_on_by_others(runs)


def _local_stands(status: Status, observed: Observed, request: Request) -> bool:
    if observed.local is None:
        return _in_rollback(status, "local") and not status.local_undone
    return observed.local.holds(status.undone_runs())


def _in_rollback(status: Status, side: str) -> bool:
    return status.rollback is not None and side in status.rollback.sides


Question: TypeAlias = "Callable[[Status, Observed, Request], bool]"

QUESTIONS: Final[Mapping[When, Question]] = {
    When.ALWAYS: _always,
    When.LEDGER_HAS_LOCAL: _ledger_has_local,
    When.LEDGER_HAS_REMOTE: _ledger_has_remote,
    When.LEDGER_HAS_CONFIRMATION: _ledger_has_confirmation,
    When.LEDGER_HAS_REMOTE_UNDO: _ledger_has_remote_undo,
    When.LEDGER_HAS_LOCAL_UNDO: _ledger_has_local_undo,
    When.LEDGER_HAS_RESTORE: _ledger_has_restore,
    When.ASKED_TO_ADOPT: _asked_to_adopt,
    When.ASKED_TO_BASELINE: _asked_to_baseline,
    When.ASKED_TO_RESTORE: _asked_to_restore,
    When.ASKED_AND_NOT_SO: _asked_and_not_so,
    When.TAKING_BACK: _taking_back,
    When.ASKED_TO_TAKE_BACK: _asked_to_take_back,
    When.OTHER_LOCK: _other_lock,
    When.REMOTE_TO_SKIP: _remote_to_skip,
    When.REMOTE_TO_CONFIRM: _remote_to_confirm,
    When.REMOTE_TO_START: _remote_to_start,
    When.ASKED_TO_ACCEPT: _asked_to_accept,
    When.ACCEPT_AND_NOTHING_UNDONE: _accept_and_nothing_undone,
    When.REMOTE_STANDS: _remote_stands,
    When.LOCAL_STANDS: _local_stands,
    When.ACCEPT_THE_DIFFERENCE: _accept_the_difference,
    When.NOTHING_STANDS: _always,
}
