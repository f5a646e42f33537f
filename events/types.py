"""The events: facts in the past tense, each a frozen value that turns into JSON and back without loss.

An event says what happened, not what to do about it. Times and versions are not in here: they belong to the envelope
(`Recorded`), which the store fills in. Every class has a `SCHEMA_VERSION`; when a field changes its meaning, the number goes
up and `codec.py` gets an upcaster.

Events of a migration's stream carry the run that they belong to. Fields hold JSON values only; a sequence is a tuple.
This module must never import a store or a database. Read next: `lifecycle.py`, `codec.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, TypeAlias

from attrs import field, frozen

Json: TypeAlias = "None | bool | int | float | str | Sequence[Json] | Mapping[str, Json]"

APPLY = "apply"
BACK = "back"

# The reasons of RollbackStarted.
ASKED_FOR = "asked for"
REFUSED = "refused"


def _strings(given: Iterable[str]) -> tuple[str, ...]:
    return tuple(given)


def _mappings(given: Iterable[Mapping[str, Json]]) -> tuple[Mapping[str, Json], ...]:
    return tuple(given)


@frozen(kw_only=True)
class Event:
    """What all events share."""

    SCHEMA_VERSION: ClassVar[int] = 1


@frozen(kw_only=True)
class RunEvent(Event):
    """An event of one run of a migration."""

    run: str


@frozen(kw_only=True)
class RunStarted(RunEvent):
    """A run began. It says everything that the run needs to be finished when the folder is gone.

    `undoes` are the runs that a run of direction `back` takes back; `local` and `remote` are the compiled scripts as JSON,
    both ways, None for a side that is not touched; `checksums` are by side, `digest` is that of the definition's bytes.
    """

    migration: str
    direction: str
    undoes: tuple[str, ...] = field(default=(), converter=_strings)
    sides: tuple[str, ...] = field(converter=_strings)
    remote_role: str = "apply"
    skip_remote: bool = False
    irreversible: bool = False
    digest: str = ""
    checksums: Mapping[str, str] = field(factory=dict)
    local: Mapping[str, Json] | None = None
    remote: Mapping[str, Json] | None = None


@frozen(kw_only=True)
class Validated(RunEvent):
    """Both sides were looked at, under the lock named here. The fingerprints are what rolled back must equal."""

    lock: str
    local: Mapping[str, Json] | None = None
    remote: Mapping[str, Json] | None = None
    queries: tuple[Mapping[str, Json], ...] = field(default=(), converter=_mappings)
    seconds: float = 0.0


@frozen(kw_only=True)
class ValidationFailed(RunEvent):
    """A run was refused before it began; neither database was touched."""

    code: str
    message: str
    next_step: str = ""
    direction: str = APPLY
    checksums: Mapping[str, str] = field(factory=dict)


@frozen(kw_only=True)
class BackedUp(RunEvent):
    """The local database was copied, and the copy proved. `backup` is None where there is no local work to protect."""

    backup: Mapping[str, Json] | None = None
    seconds: float = 0.0


@frozen(kw_only=True)
class LocalApplied(RunEvent):
    """The local change stands. `by` is the run whose ledger row says so: this one, or an earlier one. `nothing`: no work."""

    by: str | None = None
    nothing: bool = False
    changes: Mapping[str, Json] = field(factory=dict)
    findings: tuple[str, ...] = field(default=(), converter=_strings)
    recovered: bool = False
    seconds: float = 0.0


@frozen(kw_only=True)
class RemoteStarted(RunEvent):
    """From here on, an effect of this run may exist on the remote."""


@frozen(kw_only=True)
class RemoteApplied(RunEvent):
    """The remote change stands whole. `nothing`: the remote has no work."""

    by: str | None = None
    nothing: bool = False
    changes: Mapping[str, Json] = field(factory=dict)
    findings: tuple[str, ...] = field(default=(), converter=_strings)
    recovered: bool = False
    seconds: float = 0.0


@frozen(kw_only=True)
class RemoteSkipped(RunEvent):
    """The remote was left alone because it was asked for; a later run does it."""


@frozen(kw_only=True)
class RemoteConfirmed(RunEvent):
    """The remote change stands already, made by the run `by`, of this pair or of another."""

    by: str
    recovered: bool = False


@frozen(kw_only=True)
class Verified(RunEvent):
    """Both sides hold what they should. `findings` are sentences for the report, none of them a failure."""

    accepted: bool = False
    local: Mapping[str, Json] | None = None
    remote: Mapping[str, Json] | None = None
    queries: tuple[Mapping[str, Json], ...] = field(default=(), converter=_mappings)
    findings: tuple[str, ...] = field(default=(), converter=_strings)
    seconds: float = 0.0


@frozen(kw_only=True)
class VerificationAccepted(RunEvent):
    """A person accepted what differs."""

    differences: tuple[str, ...] = field(default=(), converter=_strings)


@frozen(kw_only=True)
class StepFailed(RunEvent):
    """An effect was refused. The message is for people, the code for programs."""

    effect: str
    side: str
    code: str
    message: str
    next_step: str = ""
    seconds: float = 0.0


@frozen(kw_only=True)
class StepProgressed(RunEvent):
    """A long step is `done` of `total` on its way; units are the step's own."""

    effect: str
    done: int
    total: int
    note: str = ""


@frozen(kw_only=True)
class RollbackStarted(RunEvent):
    """The decision to go back, which survives a crash. `sides` may hold something of ours, or could not be read yet."""

    reason: str
    sides: tuple[str, ...] = field(converter=_strings)


@frozen(kw_only=True)
class RemoteUndone(RunEvent):
    """Nothing of the undone runs stands on the remote any more. `kept` describes the copies of what went with it."""

    undoes: tuple[str, ...] = field(converter=_strings)
    kept: tuple[Mapping[str, Json], ...] = field(default=(), converter=_mappings)
    recovered: bool = False
    seconds: float = 0.0


@frozen(kw_only=True)
class LocalUndone(RunEvent):
    """Nothing of the undone runs stands on the local side any more. `how` is "down" or "restore".

    `found` is the fingerprint at its beginning, where down steps met what others had written; `after` the one taken before
    anybody else could write again. `replaced` describes the backup of what others had written to, made before it was undone.
    `findings` say which rows stay in quarantine, and why.
    """

    undoes: tuple[str, ...] = field(converter=_strings)
    how: str
    others_wrote: bool | None = None
    found: Mapping[str, Json] | None = None
    after: Mapping[str, Json] | None = None
    replaced: Mapping[str, Json] | None = None
    findings: tuple[str, ...] = field(default=(), converter=_strings)
    recovered: bool = False
    seconds: float = 0.0


@frozen(kw_only=True)
class RollbackAbandoned(RunEvent):
    """A take-back was given up before anything was undone."""


@frozen(kw_only=True)
class RolledBack(RunEvent):
    """Both sides are as before. `stands` names, by side, the runs that stood before this one and still do."""

    stands: Mapping[str, str] = field(factory=dict)
    accepted: bool = False
    findings: tuple[str, ...] = field(default=(), converter=_strings)
    seconds: float = 0.0


@frozen(kw_only=True)
class Settled(RunEvent):
    """What the ledgers say was taken as the truth: `local` and `remote` name the runs that stand whole, or None.

    `runs` are all runs of this pair that the ledgers hold rows of: from here on the log knows of them. `digest` and
    `checksums` are those of the definition, as in RunStarted.
    """

    migration: str
    state: str
    local: str | None = None
    remote: str | None = None
    sides: tuple[str, ...] = field(default=(), converter=_strings)
    runs: tuple[str, ...] = field(default=(), converter=_strings)
    digest: str = ""
    checksums: Mapping[str, str] = field(factory=dict)


@frozen(kw_only=True)
class Adopted(Settled):
    """A person had the ledgers overrule the log."""


@frozen(kw_only=True)
class Baselined(Settled):
    """A person declared an existing pair of databases to be here, and the schemas agreed.

    `confirmed_in` is the run of this pair that confirmed a remote which another one applied. `findings` are sentences.
    """

    confirmed_in: str | None = None
    findings: tuple[str, ...] = field(default=(), converter=_strings)


@frozen(kw_only=True)
class BackupRestored(Settled):
    """A person restored a backup of the local database in which this migration stood otherwise than just before.

    `run` is the restore's, the same in each migration's stream; `replaced` is the backup of what was there.
    """

    backup: str = ""
    replaced: str = ""


@frozen(kw_only=True)
class DownReplaced(RunEvent):
    """A down step that had been refused was corrected; `down` is the new script of that side as JSON."""

    side: str
    down: Mapping[str, Json]


@frozen(kw_only=True)
class BackupCreated(Event):
    """A backup that no migration's stream tells of. `backup` describes it; its `why` is "by hand", "replaced by a restore",
    or "found" for one that lay in the folder because a process was killed before it could say so."""

    backup: Mapping[str, Json]


@frozen(kw_only=True)
class BackupVerified(Event):
    """A backup was opened, checked and compared with its hash again."""

    backup: str
    sha256: str


@frozen(kw_only=True)
class BackupDeleted(Event):
    """A backup's file was deleted, by retention or by hand. `bytes` were freed; 0 where it was gone already."""

    backup: str
    bytes: int


@frozen(kw_only=True)
class ContentRestored(Event):
    """A person restored a backup in which the same migrations stood: only rows, or what is not Twinstep's, may differ."""

    run: str
    backup: str
    replaced: str


@frozen(kw_only=True)
class BackupCleanupScheduled(Event):
    """A backup may be deleted from `at` on (UTC, ISO 8601)."""

    backup: str
    at: str


@frozen(kw_only=True)
class ConflictDetected(Event):
    """The two sides, or a side and the log, do not fit together. `side` is empty where it is about both."""

    kind: str
    migration: str
    message: str
    side: str = ""
    next_step: str = ""


@frozen(kw_only=True)
class ConflictResolved(Event):
    """A conflict is gone; `how` says by what: adopted, migrated, rolled_back, accepted, or gone by itself.

    Where a person accepted a drift, `differences` are what was accepted, and `look` is what later checks compare with.
    """

    kind: str
    migration: str
    how: str
    side: str = ""
    differences: tuple[str, ...] = field(default=(), converter=_strings)
    look: Mapping[str, Json] | None = None


@frozen(kw_only=True)
class SyncChecked(Event):
    """The two sides were compared, as far as they could be read; `migrations` are those that stood."""

    conflicts: int
    migrations: tuple[str, ...] = field(default=(), converter=_strings)


@frozen(kw_only=True)
class QuarantineRestored(Event):
    """Rows that had been set aside went back to their table, by a person's word; `restore` is written beside each of them."""

    table: str
    rows: int
    restore: str = ""


@frozen(kw_only=True)
class Recorded:
    """An event in its envelope, as a store keeps it.

    `version` counts from 1 in the stream, `position` grows over the whole log; both without gaps where the store can
    promise it. `recorded_at` is UTC, ISO 8601 with zone: for people, never for order. `payload` is the event as JSON text.
    `hash` covers all but `position`, and the hash before it.
    """

    stream: str
    version: int
    position: int
    type: str
    schema_version: int
    recorded_at: str
    payload: str
    previous_hash: str
    hash: str
