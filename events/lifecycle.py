"""The life of a migration, as one table.

A migration on one pair of databases is *pending* until a run of it begins. A run first looks (*validated*), then copies
the local database (*backed_up*), then changes the local side (*local_applied*), then the remote side (*remote_applied*),
then looks again (*verified*). Whatever refuses on the way leads to *rolling_back*, and from there to *rolled_back*: the
decision to go back is an event of its own, because it must survive a crash. A run may also take a verified migration
back; it passes through the same states and is rolled back because it was asked to be.

`TABLE` is read top-down, and the first row that fits says what is done next: its `effect`, the events that record it in
one append, and the state after them. All but the last event of a row leave the state where it is; the last one moves it.
`decide` (in the engine) reads the table forwards, `evolve` reads it backwards as what is legal, and the diagram in
`docs/lifecycle.md` and the histories that the tests generate are made from it. A row's `when` names a question that
`decide` answers; the table itself asks nothing.

This module must never import a database, a clock or anything that does I/O. Read next: `fold.py`.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Final

from attrs import frozen

if TYPE_CHECKING:
    from transitions import Machine


class State(StrEnum):
    """Where a migration stands on one pair of databases."""

    PENDING = "pending"
    VALIDATED = "validated"
    BACKED_UP = "backed_up"
    LOCAL_APPLIED = "local_applied"
    REMOTE_APPLIED = "remote_applied"
    VERIFIED = "verified"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"


class Effect(StrEnum):
    """What can be done about it: orders, each one call to a target (validate, verify and compare ask both)."""

    RECORD = "RECORD"
    ADOPT = "ADOPT"
    BASELINE = "BASELINE"
    RESTORE = "RESTORE"
    VALIDATE = "VALIDATE"
    GIVE_UP = "GIVE_UP"
    BACK_UP = "BACK_UP"
    APPLY_LOCAL = "APPLY_LOCAL"
    SKIP_REMOTE = "SKIP_REMOTE"
    CONFIRM_REMOTE = "CONFIRM_REMOTE"
    START_REMOTE = "START_REMOTE"
    APPLY_REMOTE = "APPLY_REMOTE"
    ACCEPT = "ACCEPT"
    VERIFY = "VERIFY"
    UNDO_REMOTE = "UNDO_REMOTE"
    UNDO_LOCAL = "UNDO_LOCAL"
    COMPARE = "COMPARE"


class When(StrEnum):
    """The questions that decide between rows of the same state. The words are those of the documentation."""

    ALWAYS = "always"
    LEDGER_HAS_LOCAL = "the local ledger holds this run's change, the log does not"
    LEDGER_HAS_REMOTE = "the remote ledger holds this run's whole change, the log does not"
    LEDGER_HAS_CONFIRMATION = "the remote ledger holds this run's confirmation, the log does not"
    LEDGER_HAS_REMOTE_UNDO = "the remote ledger holds this run's whole undo, the log does not"
    LEDGER_HAS_LOCAL_UNDO = "the local ledger holds this run's undo, the log does not"
    LEDGER_HAS_RESTORE = "the local ledger holds what a restore changed, the log does not"
    ASKED_TO_ADOPT = "asked to adopt what the ledgers say"
    ASKED_TO_BASELINE = "asked to take the databases as being here"
    ASKED_TO_RESTORE = "asked to restore a backup"
    ASKED_AND_NOT_SO = "asked to apply or to take back, not so already, nothing appended yet by this call"
    TAKING_BACK = "the run takes back"
    ASKED_TO_TAKE_BACK = "the run applies, and it is asked to take back"
    OTHER_LOCK = "the lock that is held is not the one named in Validated"
    REMOTE_TO_SKIP = "skip asked for, the remote has work, no RemoteStarted"
    REMOTE_TO_CONFIRM = "the remote has work that another run must have done, or has done whole"
    REMOTE_TO_START = "the remote has work, and no RemoteStarted or no lock on it"
    ASKED_TO_ACCEPT = "verification was refused, asked: verify --accept"
    ACCEPT_AND_NOTHING_UNDONE = "the run takes back, both ledgers are read and hold no undo, asked: verify --accept"
    REMOTE_STANDS = "something of ours stands on the remote, and nobody else relies on it"
    LOCAL_STANDS = "something of ours stands on the local side, and nothing on the remote"
    ACCEPT_THE_DIFFERENCE = "nothing of ours stands, comparing was refused, asked: verify --accept"
    NOTHING_STANDS = "nothing of ours stands on any side of the rollback"


@frozen(kw_only=True)
class Row:
    """One row: in any of `sources`, when the question is answered with yes, `effect` is due and `events` record it.

    `destination` is the state after the last event; None where the event itself says it. `refusable` says that a refused
    effect is recorded and leads to rolling back.
    """

    number: str
    sources: tuple[State, ...]
    when: When
    effect: Effect
    events: tuple[str, ...]
    destination: State | None
    refusable: bool = False


RESTING: Final = (State.PENDING, State.VERIFIED, State.ROLLED_BACK)
UNDERWAY: Final = (State.VALIDATED, State.BACKED_UP, State.LOCAL_APPLIED, State.REMOTE_APPLIED)


def _row(
    number: str,
    sources: State | tuple[State, ...],
    when: When,
    effect: Effect,
    events: str,
    destination: State | None,
    *,
    refusable: bool = False,
) -> Row:
    return Row(
        number=number,
        sources=sources if isinstance(sources, tuple) else (sources,),
        when=when,
        effect=effect,
        events=tuple(events.split()),
        destination=destination,
        refusable=refusable,
    )


S, E, W = State, Effect, When

# fmt: off
TABLE: Final[tuple[Row, ...]] = (
    _row("0a", (S.VALIDATED, S.BACKED_UP), W.LEDGER_HAS_LOCAL, E.RECORD, "LocalApplied", S.LOCAL_APPLIED),
    _row("0b", S.LOCAL_APPLIED, W.LEDGER_HAS_REMOTE, E.RECORD, "RemoteApplied", S.REMOTE_APPLIED),
    _row("0c", S.LOCAL_APPLIED, W.LEDGER_HAS_CONFIRMATION, E.RECORD, "RemoteStarted RemoteConfirmed", S.REMOTE_APPLIED),
    _row("0d", S.ROLLING_BACK, W.LEDGER_HAS_REMOTE_UNDO, E.RECORD, "RemoteUndone", S.ROLLING_BACK),
    _row("0e", S.ROLLING_BACK, W.LEDGER_HAS_LOCAL_UNDO, E.RECORD, "LocalUndone", S.ROLLING_BACK),
    _row("0f", tuple(State), W.LEDGER_HAS_RESTORE, E.RECORD, "BackupRestored", None),
    _row("1a", tuple(State), W.ASKED_TO_ADOPT, E.ADOPT, "Adopted", None),
    _row("1b", tuple(State), W.ASKED_TO_BASELINE, E.BASELINE, "Baselined", None),
    _row("1c", tuple(State), W.ASKED_TO_RESTORE, E.RESTORE, "BackupRestored", None),
    _row("2", RESTING, W.ASKED_AND_NOT_SO, E.VALIDATE, "RunStarted Validated", S.VALIDATED),
    _row("3a", S.BACKED_UP, W.TAKING_BACK, E.GIVE_UP, "RollbackStarted", S.ROLLING_BACK),
    _row("3b", UNDERWAY, W.ASKED_TO_TAKE_BACK, E.GIVE_UP, "RollbackStarted", S.ROLLING_BACK),
    _row("4", (S.VALIDATED, S.BACKED_UP), W.OTHER_LOCK, E.VALIDATE, "Validated", S.VALIDATED, refusable=True),
    _row("5", S.VALIDATED, W.ALWAYS, E.BACK_UP, "BackedUp", S.BACKED_UP, refusable=True),
    _row("6", S.BACKED_UP, W.ALWAYS, E.APPLY_LOCAL, "LocalApplied", S.LOCAL_APPLIED, refusable=True),
    _row("7", S.LOCAL_APPLIED, W.REMOTE_TO_SKIP, E.SKIP_REMOTE, "RemoteSkipped", S.REMOTE_APPLIED, refusable=True),
    _row("8", S.LOCAL_APPLIED, W.REMOTE_TO_CONFIRM, E.CONFIRM_REMOTE, "RemoteStarted RemoteConfirmed", S.REMOTE_APPLIED,
         refusable=True),
    _row("9a", S.LOCAL_APPLIED, W.REMOTE_TO_START, E.START_REMOTE, "RemoteStarted", S.LOCAL_APPLIED, refusable=True),
    _row("9b", S.LOCAL_APPLIED, W.ALWAYS, E.APPLY_REMOTE, "RemoteApplied", S.REMOTE_APPLIED, refusable=True),
    _row("10", S.REMOTE_APPLIED, W.ASKED_TO_ACCEPT, E.ACCEPT, "VerificationAccepted Verified", S.VERIFIED),
    _row("11", S.REMOTE_APPLIED, W.ALWAYS, E.VERIFY, "Verified", S.VERIFIED, refusable=True),
    _row("12", S.ROLLING_BACK, W.ACCEPT_AND_NOTHING_UNDONE, E.ACCEPT, "RollbackAbandoned", S.VERIFIED),
    _row("13a", S.ROLLING_BACK, W.REMOTE_STANDS, E.UNDO_REMOTE, "RemoteUndone", S.ROLLING_BACK),
    _row("13b", S.ROLLING_BACK, W.LOCAL_STANDS, E.UNDO_LOCAL, "LocalUndone", S.ROLLING_BACK),
    _row("14", S.ROLLING_BACK, W.ACCEPT_THE_DIFFERENCE, E.ACCEPT, "VerificationAccepted RolledBack", None),
    _row("15", S.ROLLING_BACK, W.NOTHING_STANDS, E.COMPARE, "RolledBack", None),
)
# fmt: on

# The outcome of a refused effect of a refusable row, in one append.
REFUSAL: Final = ("StepFailed", "RollbackStarted")

# Events that belong to a migration's stream and leave its state alone, wherever it is.
NOTES: Final = frozenset({"ValidationFailed", "StepFailed", "StepProgressed", "DownReplaced"})

# Events of the pair's own stream, which has no state.
PAIR_EVENTS: Final = frozenset(
    {
        "ConflictDetected",
        "ConflictResolved",
        "SyncChecked",
        "BackupCreated",
        "BackupVerified",
        "BackupCleanupScheduled",
        "BackupDeleted",
        "ContentRestored",
        "QuarantineRestored",
    }
)


def _moves() -> dict[tuple[State, str], State | None]:
    """(state, event) to the state after it, from the table; None where the event itself says which."""
    moves: dict[tuple[State, str], State | None] = {}
    for row in TABLE:
        for source in row.sources:
            for event in row.events[:-1]:
                moves.setdefault((source, event), source)
            moves[source, row.events[-1]] = row.destination
            if row.refusable:
                moves[source, "RollbackStarted"] = State.ROLLING_BACK
    for source in State:
        for event in sorted(NOTES):
            moves[source, event] = source
    return moves


MOVES: Final = _moves()


@cache
def machine() -> Machine:
    """The `transitions` machine of the table, built once: the authority wherever a transition is about to be written.

    Its triggers are the events' names, its states those of `State`. Where an event itself says where it leads, each
    state that it may lead to is a destination of its own trigger, "RolledBack to verified" for example.
    """
    from transitions import Machine

    built = Machine(
        model=None, states=[str(state) for state in State], initial=str(State.PENDING), auto_transitions=False, send_event=False
    )
    for (source, event), destination in MOVES.items():
        for target in (destination,) if destination is not None else RESTING:
            trigger = event if destination is not None else f"{event} to {target}"
            built.add_transition(trigger, str(source), str(target))
    return built
