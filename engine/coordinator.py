"""`Coordinator`: what a host application calls. Each call opens what it needs, does its work, and lets go of everything.

The coordinator decides which migrations are due and in which order; what is done to each is the loop's. Calls that change
something hold the local lock, and answer with a `Report` whatever happened to the migration; what is wrong with the input or
the circumstances is in the report too. Calls that only ask raise.

Read next: `session.py` (what a call holds open), `loop.py` (how one migration is driven), `report.py` (the answers).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from attrs import evolve

from ..events.chain import check_stream
from ..events.errors import (
    Blocked,
    ConcurrencyConflict,
    Conflict,
    Defect,
    DefinitionError,
    InDoubt,
    InputError,
    Locked,
    LogDamaged,
    TwinstepError,
)
from ..events.fold import Status
from ..events.lifecycle import State
from ..events.projections import BackupRow, SyncRow
from ..events.types import BACK, Recorded
from ..migrations.definition import Migration, SideName
from ..migrations.ledger import SideLedger
from ..migrations.memory_target import MemoryDatabase
from ..migrations.script import CallableStep, Unit
from ..stores.port import Clock, EventStore, utc_now
from ..stores.seam import Probe, no_probe
from .conflicts import BLOCKING, Known, conflicts
from .decide import Request, Wish
from .locks import coordinator_lock
from .loop import Finished, Loop
from .perform import SIDES, Defined, Worker
from .report import (
    ConflictReport,
    InFlight,
    MigrationReport,
    PlannedMigration,
    PlannedStep,
    Report,
    RunReport,
    SideReport,
    StatusReport,
    error_report,
    run_reports,
)
from .session import Listener, MigrationSource, Session, Settings, check_local, load, session, silent

if TYPE_CHECKING:
    from ..stores.local_connection import OnConnect

RemoteRole = Literal["apply", "require", "skip"]


class Coordinator:
    """One pair of databases, its log and its migrations.

    `local` is a SQLite file, `remote` a PostgreSQL URL; either may be left out. `migrations` is a folder or a sequence of
    `Migration`. `log` is a URL or an event store (by default a file in `state_dir`, which lies beside the local database).
    `on_event` is called with each recorded event, `on_local_connect` with each driver connection to the local database.
    Times are in seconds. Nothing is opened before the first call. Raises ConfigurationError (T14x).
    """

    def __init__(
        self,
        *,
        local: str | Path | MemoryDatabase | None = None,
        remote: str | MemoryDatabase | None = None,
        migrations: MigrationSource,
        log: str | EventStore | None = None,
        state_dir: str | Path | None = None,
        remote_role: RemoteRole = "apply",
        wait_seconds: float = 0.0,
        retry_for_seconds: float = 30.0,
        keep_days: int = 30,
        on_event: Listener = silent,
        on_local_connect: OnConnect | None = None,
        clock: Clock = utc_now,
        probe: Probe = no_probe,
    ) -> None:
        self._settings = Settings(
            local=local,
            remote=remote,
            migrations=migrations,
            log=log,
            state_dir=state_dir,
            remote_role=remote_role,
            wait_seconds=wait_seconds,
            retry_for_seconds=retry_for_seconds,
            keep_days=keep_days,
            on_event=on_event,
            on_local_connect=on_local_connect,
            clock=clock,
            probe=probe,
        )

    def __enter__(self) -> Coordinator:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Nothing is held between calls, so that there is nothing to let go of."""

    # Calls that ask. They write nothing, and make no file.

    def status(self) -> StatusReport:
        """Where both sides stand: from the log what was attempted, from the ledgers what is.

        A side that cannot be reached is reported as such. Raises what is wrong with the input, or with the log.
        """
        with self._reading() as opened:
            known = opened.known(with_remote=self._settings.remote_role != "skip")
            return _status(self._settings, opened, known)

    def needs_migration(self) -> bool:
        """Whether anything is pending or in flight."""
        return self.status().needs_migration

    def plan(self, *, to: str | None = None) -> tuple[PlannedMigration, ...]:
        """What `migrate` would do, in order, with the statements."""
        with self._reading() as opened:
            known = opened.known(with_remote=False)
            due = _due(self._settings, opened, known, to=to, skip_remote=False)
            return tuple(_planned(opened, name, opened.defined[name], known.status(name)) for name in due)

    def history(self) -> tuple[RunReport, ...]:
        """Every attempt on this pair, also the failed ones, oldest first."""
        with self._reading() as opened:
            prefix = f"{opened.pair}/"
            streams = [name for name in opened.store.streams() if name.startswith(prefix)]
            reports = [report for name in streams for report in run_reports(opened.store.read(name))]
        # UUIDv7: the order of the ids is the order in which the runs began.
        return tuple(sorted(reports, key=lambda report: (report.started_at, report.run)))

    def events(self, stream: str | None = None) -> tuple[Recorded, ...]:
        """The log's events, of one stream or of all, in order."""
        with self._reading() as opened:
            return tuple(opened.store.read_all() if stream is None else opened.store.read(stream))

    def backups(self) -> tuple[BackupRow, ...]:
        """The backups of this pair's local database that the log knows, oldest first."""
        with self._reading() as opened:
            rows = opened.store.rows(BackupRow.TABLE)
            return tuple(row for row in rows if isinstance(row, BackupRow) and row.pair == opened.pair)

    def sync_status(self) -> tuple[SyncRow, ...]:
        """How each side stands, per migration: the log's own read table."""
        with self._reading() as opened:
            return _sync_rows(opened)

    # Calls that change something. One at a time; each answers with a report.

    def migrate(self, *, to: str | None = None, skip_remote: bool = False, adopt: bool = False) -> Report:
        """Run what is pending, each migration to verified or rolled back; stop at the first that is not verified.

        What a crash left in flight is finished first. `to` names the last migration to run. With `adopt`, what the ledgers
        say is taken as the truth where the log disagrees (a lost or foreign log, a database restored from a copy), and
        recorded, before anything is run. Running again is recovery.
        """

        def work(opened: Session) -> Report:
            return self._migrate(opened, to=to, skip_remote=skip_remote, adopt=adopt)

        return self._reported("migrate", work, adopt=adopt)

    def resume(self, *, skip_remote: bool = False, discard_local_writes: bool = False) -> Report:
        """Finish what a crash or an unreachable remote left in flight; begin nothing.

        A run is finished from what was recorded when it began, so that a folder which is gone or broken by now is no obstacle.
        """

        def work(opened: Session) -> Report:
            driver = _Driver(opened, discard_writes=discard_local_writes)
            self._refuse_conflicts(opened, skip_remote=skip_remote)
            self._finish(opened, driver, skip_remote=skip_remote)
            return driver.report()

        return self._reported("resume", work, needs_folder=False)

    def roll_back(self, id: str | None = None) -> Report:
        """Take the last migration back with its down steps, or the named one and all later ones, last first."""

        def work(opened: Session) -> Report:
            return self._roll_back(opened, id)

        return self._reported("roll back", work)

    def _migrate(self, opened: Session, *, to: str | None, skip_remote: bool, adopt: bool) -> Report:
        driver = _Driver(opened)
        if adopt:
            self._adopt(opened, driver, skip_remote=skip_remote)
        self._refuse_conflicts(opened, skip_remote=skip_remote)
        self._finish(opened, driver, skip_remote=skip_remote)
        if driver.stopped:
            return driver.report()
        for name in _due(self._settings, opened, opened.known(with_remote=False), to=to, skip_remote=skip_remote):
            finished = driver.drive(name, Request(wish="apply", skip_remote=skip_remote))
            if finished.status.state is not State.VERIFIED or finished.error is not None:
                break
        return driver.report()

    def _adopt(self, opened: Session, driver: _Driver, *, skip_remote: bool) -> None:
        """Have the log say what the ledgers say, migration by migration. Raises the first Conflict that this cannot settle."""
        disagreeing = {"behind_log", "foreign_log"}
        found = [conflict for conflict in self._conflicts(opened, skip_remote=skip_remote) if conflict.kind in disagreeing]
        for name in sorted(
            {str(conflict.details["migration"]) for conflict in found}, key=lambda name: _order_of(opened, name)
        ):
            finished = driver.drive(name, Request(wish="adopt"))
            if finished.error is not None:
                raise finished.error

    def _finish(self, opened: Session, driver: _Driver, *, skip_remote: bool) -> None:
        """Bring every run in flight to its end; there is more than one only where several calls were killed."""
        for name, status in opened.statuses().items():
            if status.in_flight and not driver.stopped:
                finished = driver.drive(name, Request(wish="finish", skip_remote=skip_remote))
                driver.stopped = finished.status.state is not State.VERIFIED

    def _roll_back(self, opened: Session, id: str | None) -> Report:
        self._refuse_conflicts(opened, skip_remote=False)
        statuses = opened.statuses()
        standing = sorted(
            (name for name, status in statuses.items() if status.state is State.VERIFIED or status.in_flight),
            key=lambda name: _order_of(opened, name),
            reverse=True,
        )
        if id is not None and id not in statuses and id not in opened.defined:
            raise DefinitionError("T145", migration=id)
        if not standing or (id is not None and id not in standing):
            raise Blocked("T262")
        wanted = standing[: standing.index(id) + 1] if id is not None else standing[:1]
        driver = _Driver(opened)
        for name in wanted:
            finished = driver.drive(name, Request(wish="back"))
            if finished.status.state is not State.ROLLED_BACK or finished.error is not None:
                break
        return driver.report()

    def _refuse_conflicts(self, opened: Session, *, skip_remote: bool) -> None:
        """Promise 1: on a damaged log, and where the log and the ledgers do not fit together, nothing is run.

        Raises LogDamaged, or the first blocking Conflict.
        """
        for records in opened.histories().values():
            check_stream(records)
        for conflict in self._conflicts(opened, skip_remote=skip_remote):
            if conflict.kind in BLOCKING:
                raise conflict

    def _conflicts(self, opened: Session, *, skip_remote: bool) -> tuple[Conflict, ...]:
        skip = skip_remote or self._settings.remote_role == "skip"
        return conflicts(opened.known(with_remote=not skip))

    def _reported(
        self, doing: str, work: Callable[[Session], Report], *, needs_folder: bool = True, adopt: bool = False
    ) -> Report:
        """Run a changing call under the lock; what it raises of ours is its report. A damaged log and our own bugs too.

        Bad input is found before the lock is taken, so that it leaves no state folder behind.
        """
        settings = self._settings
        try:
            migrations = self._migrations(needs_folder=needs_folder)
            check_local(settings)
            lock = coordinator_lock(settings.state_folder, doing=doing, wait_seconds=settings.wait_seconds)
            with lock, session(settings, migrations, writes=True, adopt=adopt) as opened:
                return work(opened)
        except TwinstepError as error:
            return Report(outcome=_outcome_of(error), exit_code=error.exit_code, error=error_report(error))

    def _migrations(self, *, needs_folder: bool) -> tuple[Migration, ...] | None:
        try:
            return load(self._settings.migrations)
        except DefinitionError:
            if needs_folder:
                raise
            return None

    def _reading(self) -> AbstractContextManager[Session]:
        return session(self._settings, load(self._settings.migrations), writes=False)


class _Driver:
    """Drives migrations one after the other in one session, and remembers for the report what came of each."""

    def __init__(self, opened: Session, *, discard_writes: bool = False) -> None:
        self._opened = opened
        self._discard_writes = discard_writes
        self._finished: list[tuple[str, Wish, Finished]] = []
        self.stopped = False

    def drive(self, migration: str, request: Request) -> Finished:
        """Drive one migration as far as it goes."""
        opened, settings = self._opened, self._opened.settings
        assert opened.pair is not None
        worker = Worker(
            defined=opened.defined.get(migration, Defined(id=migration)),
            pair=opened.pair,
            log=opened.store.log_id,
            targets=opened.targets,
            remote_role=settings.remote_role,
            discard_writes=self._discard_writes,
        )
        loop = Loop(
            store=opened.store,
            stream=opened.stream(migration),
            worker=worker,
            probe=settings.probe,
            listener=settings.on_event,
            retry_for_seconds=settings.retry_for_seconds,
        )
        finished = loop.drive(request)
        for target in opened.targets.values():
            target.release()
        self._finished.append((migration, request.wish, finished))
        return finished

    def report(self) -> Report:
        """What came of it all: the runs of this call, and the outcome of the last one."""
        runs: list[RunReport] = []
        for migration, _, finished in self._finished:
            records = self._opened.store.read(self._opened.stream(migration))
            runs += [report for report in run_reports(records) if report.run in finished.runs]
        if not self._finished:
            return Report(outcome="up_to_date")
        _, wish, last = self._finished[-1]
        outcome, exit_code = _outcome(wish, last)
        error = None if last.error is None else error_report(last.error)
        return Report(outcome=outcome, runs=tuple(runs), exit_code=exit_code, error=error)


def _outcome(wish: Wish, finished: Finished) -> tuple[str, int]:
    """The contract's word and exit code for where the loop stopped."""
    status, error = finished.status, finished.error
    if status.in_flight:
        return ("locked", 4) if isinstance(error, Locked | ConcurrencyConflict) else ("in_flight", 6)
    if status.state is State.ROLLED_BACK and finished.runs:
        took_back = wish == "back" or (status.run is not None and status.run.direction == BACK)
        if took_back and error is None:
            return "rolled_back", 0
        if _ended_here(finished):
            # 5 promises that nothing was changed, not even for a while.
            untouched = not status.local_undone and not status.remote_started
            return "rolled_back", 5 if isinstance(error, Blocked) and untouched else 1
    if error is not None and status.run is not None and status.run.direction == BACK and _ended_here(finished):
        # A take-back that was refused before it had undone anything: the migration stays applied.
        return _outcome_of(error), 5 if isinstance(error, Blocked) else 1
    if isinstance(error, InDoubt):
        return "blocked", 5  # lost while it was only looked at
    if error is not None:
        # A skipped remote that was tried and refused leaves the migration verified, and the run rolled back.
        return (_outcome_of(error), error.exit_code) if not _ended_here(finished) else ("rolled_back", 1)
    return ("up_to_date", 0) if not finished.runs else (str(status.state), 0)


def _ended_here(finished: Finished) -> bool:
    """Whether this call ended a run, rather than refusing to begin one."""
    run = finished.status.run
    return run is not None and run.run in finished.runs


def _outcome_of(error: TwinstepError) -> str:
    match error:
        case InputError():
            return "failed"
        case Locked() | ConcurrencyConflict():
            return "locked"
        case Blocked() | LogDamaged():
            return "blocked"
        case Defect():
            return "in_flight"
        case _:
            return "blocked"


def _order_of(opened: Session, migration: str) -> tuple[int, str]:
    """Numeric order, also for a migration that the folder no longer has."""
    digits = migration.partition("_")[0]
    return (int(digits) if digits.isdigit() else 0, migration)


def _due(settings: Settings, opened: Session, known: Known, *, to: str | None, skip_remote: bool) -> list[str]:
    """The migrations that are to be run, in order, up to `to`. Raises DefinitionError (T145) for an unknown one."""
    names = list(opened.defined)
    if to is not None:
        if to not in opened.defined:
            raise DefinitionError("T145", migration=to)
        names = names[: names.index(to) + 1]
    return [name for name in names if not _is_done(settings, known.status(name), skip_remote=skip_remote)]


def _is_done(settings: Settings, status: Status, *, skip_remote: bool) -> bool:
    if status.state is not State.VERIFIED:
        return False
    leaves_remote = skip_remote or settings.remote_role == "skip" or settings.remote is None
    return leaves_remote or not status.remote_skipped


def _planned(opened: Session, name: str, defined: Defined, status: Status) -> PlannedMigration:
    done = {"local": status.local_by is not None, "remote": status.remote_by is not None}
    applies = {"local": True, "remote": opened.settings.remote_role == "apply"}
    steps = [
        PlannedStep(side=side, kind=unit.kind, statements=tuple(_texts(unit)))
        for side in SIDES
        if side in defined.works and side in opened.targets and applies[side] and not done[side]
        for unit in defined.works[side].script.units
    ]
    return PlannedMigration(id=name, description=opened.migrations[name].description, steps=tuple(steps))


def _texts(unit: Unit) -> Iterator[str]:
    for step in unit.up:
        yield f"{step.name}(connection)" if isinstance(step, CallableStep) else step.text


def _sync_rows(opened: Session) -> tuple[SyncRow, ...]:
    rows = opened.store.rows(SyncRow.TABLE)
    return tuple(row for row in rows if isinstance(row, SyncRow) and row.pair == opened.pair)


def _status(settings: Settings, opened: Session, known: Known) -> StatusReport:
    pending = tuple(_due(settings, opened, known, to=None, skip_remote=False))
    in_flight = _in_flight(opened, known)
    return StatusReport(
        pair=opened.pair,
        needs_migration=bool(pending) or in_flight is not None,
        in_flight=in_flight,
        local=_side(opened, known, "local"),
        remote=evolve(_side(opened, known, "remote"), role=settings.remote_role),
        pending=pending,
        migrations=tuple(_migration_reports(opened, known)),
        conflicts=tuple(_conflict(conflict) for conflict in conflicts(known)),
    )


def _in_flight(opened: Session, known: Known) -> InFlight | None:
    for name, status in known.statuses.items():
        if status.in_flight and status.run is not None:
            own = [record for record in opened.store.read(opened.stream(name)) if record.type == "RunStarted"]
            return InFlight(run=status.run.run, migration=name, state=str(status.state), since=own[-1].recorded_at)
    return None


def _side(opened: Session, known: Known, side: SideName) -> SideReport:
    if side not in opened.targets:
        return SideReport(reachable=None)
    problem = opened.problems.get(side)
    whole = known.wholes.get(side)
    if whole is None:
        return SideReport(reachable=False if problem is not None else None, problem=str(problem) if problem else None)
    applied = [name for name, ledger in whole.ledgers.items() if _stands(ledger)]
    return SideReport(
        reachable=True,
        applied=tuple(sorted(applied, key=lambda name: _order_of(opened, name))),
        user_version=whole.user_version,
    )


def _stands(ledger: SideLedger) -> bool:
    return ledger.applied_by() is not None


def _migration_reports(opened: Session, known: Known) -> Iterator[MigrationReport]:
    rows = {row.migration_version: row for row in _sync_rows(opened)}
    names: Sequence[str] = sorted({*opened.defined, *known.statuses}, key=lambda name: _order_of(opened, name))
    for name in names:
        status, row, defined = known.status(name), rows.get(name), opened.defined.get(name)
        has = defined.works if defined is not None else {}
        checksums = defined.checksums() if defined is not None else {}
        yield MigrationReport(
            id=name,
            state=str(status.state),
            local_status=row.local_status if row is not None else ("pending" if "local" in has else "not_needed"),
            remote_status=row.remote_status if row is not None else ("pending" if "remote" in has else "not_needed"),
            checksum=" ".join(checksums[side] for side in SIDES if side in checksums),
            runs=status.runs,
        )


def _conflict(conflict: Conflict) -> ConflictReport:
    return ConflictReport(
        kind=conflict.kind,
        migration=str(conflict.details.get("migration", "")),
        message=f"{conflict.condition} {conflict.effect}",
        next_step=conflict.next_step,
    )
