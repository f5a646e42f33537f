"""`Coordinator`: what a host application calls. Each call opens what it needs, does its work, and lets go of everything.

The coordinator decides which migrations are due and in which order; what is done to each is the loop's. Calls that change
something hold the local lock, and answer with a `Report` whatever happened to the migration; what is wrong with the input or
the circumstances is in the report too. Calls that only ask raise.

Read next: `session.py` (what a call holds open), `loop.py` (how one migration is driven), `report.py` (the answers).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from attrs import evolve

from ..events.errors import (
    Blocked,
    ConcurrencyConflict,
    Conflict,
    DefinitionError,
    InDoubt,
    Locked,
    Stranded,
    TwinstepError,
)
from ..events.lifecycle import State
from ..events.projections import BackupRow, SyncRow
from ..events.types import Recorded
from ..migrations.memory_target import MemoryDatabase
from ..migrations.quarantined import Quarantined
from ..stores.port import Clock, EventStore, utc_now
from ..stores.seam import Probe, no_probe
from .backup_report import BackupReport
from .baselining import baseline
from .conflicts import BLOCKING, DISAGREEING, conflicts
from .decide import Request
from .definitions import Defined, MigrationSource
from .driver import Driver, outcome_of
from .keeping import create_backup, known_backups, note_found, prune_backups, tidy, verify_backups
from .locks import coordinator_lock, pair_lock_name
from .pair_log import note_conflicts, open_conflicts
from .planning import due, order_of, planned
from .quarantining import QuarantineReport, restore_quarantined, take_in_put_back
from .replay import moment, status_at
from .report import (
    PlannedMigration,
    Report,
    RunReport,
    StatusReport,
    VerifyReport,
    begun_at,
    error_report,
    run_reports,
)
from .restoring import restore, take_in_restores
from .session import Listener, Session, Settings, check_addresses, load, recorded_statuses, session, silent
from .standing import needs_migration, status_report, sync_rows
from .verifying import verify

if TYPE_CHECKING:
    from ..stores.local_connection import OnConnect

RemoteRole = Literal["apply", "require", "skip"]

# What a corrected or an added down may mend.
CORRECTABLE = frozenset({"T336", "T337", "T338"})
# The lock was ours, and somebody else may hold it now.
LOST = frozenset({"T402", "T403", "T404"})


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

    def status(self, at: int | datetime | str | None = None) -> StatusReport:
        """Where both sides stand: from the log what was attempted, from the ledgers what is.

        A side that cannot be reached is reported as such. With `at`, where they stood: at a position of the log, or at a time
        (ISO 8601; UTC where it names no zone), as far as the log tells; neither database is asked for it. Raises what is
        wrong with the input (T275), or with the log.
        """
        if at is None:
            with self._reading() as opened:
                return status_report(opened, opened.known(with_remote=self._settings.remote_role != "skip", with_schemas=True))
        moment(at)  # refused before anything is opened
        with self._reading(needs_folder=False) as opened:
            return status_at(opened, at)

    def needs_migration(self) -> bool:
        """Whether anything is pending or in flight. No schema is looked at for that."""
        with self._reading() as opened:
            return needs_migration(opened, opened.known(with_remote=self._settings.remote_role != "skip"))

    def plan(self, *, to: str | None = None) -> tuple[PlannedMigration, ...]:
        """What `migrate` would do, in order, with the statements."""
        with self._reading() as opened:
            known = opened.known(with_remote=False)
            names = due(opened, known, to=to, skip_remote=False)
            return tuple(planned(opened, name, known.status(name)) for name in names)

    def history(self) -> tuple[RunReport, ...]:
        """Every attempt on this pair, also the failed ones, oldest first."""
        with self._reading(needs_folder=False) as opened:
            histories = opened.histories().values()
            found = [each for records in histories for each in zip(begun_at(records), run_reports(records), strict=True)]
        # By their places in the log: a clock may have been set back in between.
        return tuple(report for _, report in sorted(found, key=lambda each: each[0]))

    def events(self, stream: str | None = None) -> tuple[Recorded, ...]:
        """The log's events, of one stream or of all, in order."""
        with self._reading(needs_folder=False) as opened:
            return tuple(opened.store.read_all() if stream is None else opened.store.read(stream))

    def backups(self) -> tuple[BackupRow, ...]:
        """The backups of this pair's local database that the log knows, oldest first."""
        with self._reading(needs_folder=False) as opened:
            return tuple(known_backups(opened).values())

    def quarantine(self) -> tuple[Quarantined, ...]:
        """The rows of the local database that were ever set aside, oldest first; `put_back_at` tells which are back.

        Raises what keeps the local database from being read; empty where there is none.
        """
        with self._reading(needs_folder=False) as opened:
            if "local" in opened.problems:
                raise opened.problems["local"]
            return opened.targets["local"].quarantined() if "local" in opened.targets else ()

    def sync_status(self) -> tuple[SyncRow, ...]:
        """How each side stands, per migration: what the log's read table has."""
        with self._reading(needs_folder=False) as opened:
            return sync_rows(opened)

    # Calls that change something. One at a time; each answers with a report.

    def migrate(
        self, *, to: str | None = None, skip_remote: bool = False, adopt: bool = False, dry_run: bool = False
    ) -> Report:
        """Run what is pending, each migration to verified or rolled back; stop at the first that is not verified.

        What a crash left in flight is finished first. `to` names the last migration to run. With `adopt`, what the ledgers
        say is taken as the truth where the log disagrees (a lost or foreign log, a database restored from a copy), and
        recorded, before anything is run. Running again is recovery.

        With `dry_run`, all of it is executed and nothing is changed: locally on a copy, remotely in a transaction that is
        rolled back; the log gets no event, and the report's `rehearsal` has the details.
        """
        if dry_run:
            return self._rehearse(to=to, skip_remote=skip_remote, adopt=adopt)

        def work(opened: Session) -> Report:
            return self._migrate(opened, to=to, skip_remote=skip_remote, adopt=adopt)

        report = self._reported("migrate", work, adopt=adopt, to=to)
        if report.outcome != "failed" or not self._is_in_flight_without_a_folder():
            return report
        # The folder is for the caller to mend; what is in flight needs none, and is not left lying for it.
        finished = self.resume(skip_remote=skip_remote)
        return finished if finished.outcome == "in_flight" else evolve(report, runs=finished.runs)

    def resume(self, *, skip_remote: bool = False, discard_local_writes: bool = False) -> Report:
        """Finish what a crash or an unreachable remote left in flight; begin nothing.

        A run is finished from what was recorded when it began, so that a folder which is gone or broken by now is no obstacle.
        """

        def work(opened: Session) -> Report:
            driver = Driver(opened, discard_writes=discard_local_writes)
            self._refuse_conflicts(opened, skip_remote=skip_remote)
            self._finish(opened, driver, skip_remote=skip_remote)
            report = self._ended(opened, driver, skip_remote=skip_remote)
            return report if opened.has_folder else self._naming_what_is_unreadable(report)

        return self._reported("resume", work, needs_folder=False)

    def _naming_what_is_unreadable(self, report: Report) -> Report:
        """Where a down was refused again, its correction may be in a folder that cannot be used: that is said then (T371)."""
        if report.error is None or report.error.code not in CORRECTABLE:
            return report
        try:
            load(self._settings)
        except DefinitionError as problem:
            error = Stranded("T371", code=report.error.code, problem=problem)
            return evolve(report, error=error_report(error))
        return report

    def roll_back(self, id: str | None = None) -> Report:
        """Take the last migration back with its down steps, or the named one and all later ones, last first."""

        def work(opened: Session) -> Report:
            return self._roll_back(opened, id)

        return self._reported("roll back", work, new_ones=False)

    def verify(self, id: str | None = None, *, accept: bool = False) -> VerifyReport:
        """Check again what is applied (or the migration named): both databases are read, and neither is changed.

        With `accept`, what only a person can decide is accepted first: an irreversible migration whose verification was
        refused, a take-back that has undone nothing, a difference that going back has left, and a schema that drifted. What
        was accepted is named in the report and in the log.
        """
        try:
            with self._writing("verify", new_ones=False) as opened:
                report = verify(opened, id=id, accept=accept)
                return evolve(report, findings=(*opened.findings, *report.findings))
        except TwinstepError as error:
            return VerifyReport(outcome=outcome_of(error), exit_code=error.exit_code, error=error_report(error))

    def baseline(self, id: str) -> Report:
        """Record an existing pair of databases as being at that migration, after comparing schemas.

        Every migration up to it that does not stand yet is written into both ledgers, and then into the log. What is missing
        or other than the migrations would make it is refused, and nothing is recorded; what is there beside it is a finding.
        """
        return self._reported("baseline", lambda opened: baseline(opened, id), to=id)

    # Backups. The log is the list of them; their files lie in the state folder.

    def create_backup(self) -> BackupReport:
        """Back the local database up now; the host may go on writing."""
        return self._about_backups("back up", create_backup)

    def verify_backup(self, id: str | None = None) -> BackupReport:
        """Open, hash and check one backup, or all that there are; what is damaged, missing or foreign is exit code 5."""
        return self._about_backups("verify backups", lambda opened: verify_backups(opened, id))

    def restore_backup(self, id: str, *, discard_local_writes: bool = False) -> BackupReport:
        """Put a backup of the local database back, and record for each migration how it stands since.

        Refused (exit code 5) where others wrote to the database after the backup was made, unless `discard_local_writes`
        gives that up. The ledger is not rewound, and what is replaced is kept as a backup in any case.
        """
        return self._about_backups("restore a backup", lambda opened: restore(opened, id, discard_writes=discard_local_writes))

    def prune_backups(self, keep_days: int | None = None) -> BackupReport:
        """Delete the backups older than that many days (by default the coordinator's `keep_days`, 30).

        Never one that a run in flight may need. The report has what was really deleted.
        """
        days = self._settings.keep_days if keep_days is None else keep_days
        return self._about_backups("prune backups", lambda opened: prune_backups(opened, days))

    # Quarantine: rows that a new foreign key would not have allowed.

    def restore_quarantined(self, ids: Sequence[int] | None = None) -> QuarantineReport:
        """Put rows back that were set aside: those of these ids, or all. Those that cannot go back yet stay, and are named."""
        try:
            with self._writing("restore from quarantine", needs_folder=False) as opened:
                _refuse_another_log(opened)
                return restore_quarantined(opened, ids)
        except TwinstepError as error:
            return QuarantineReport(outcome=outcome_of(error), exit_code=error.exit_code, error=error_report(error))

    def _migrate(self, opened: Session, *, to: str | None, skip_remote: bool, adopt: bool) -> Report:
        driver = Driver(opened)
        if adopt:
            self._adopt(opened, driver, skip_remote=skip_remote)
        seen = self._refuse_conflicts(opened, skip_remote=skip_remote, done=driver.done())
        self._finish(opened, driver, skip_remote=skip_remote)
        if not driver.stopped:
            self._run_due(opened, driver, to=to, skip_remote=skip_remote)
        report = self._ended(opened, driver, skip_remote=skip_remote)
        return evolve(report, findings=(*report.findings, *_worth_saying(opened, seen)))

    def _run_due(self, opened: Session, driver: Driver, *, to: str | None, skip_remote: bool) -> None:
        """What is pending, up to the first that is not verified."""
        for name in due(opened, opened.known(with_remote=False), to=to, skip_remote=skip_remote):
            finished = driver.drive(name, Request(wish="apply", skip_remote=skip_remote))
            if not finished.went_well(State.VERIFIED):
                break

    def _rehearse(self, *, to: str | None, skip_remote: bool, adopt: bool) -> Report:
        from .rehearsal import rehearse

        said: list[str] = []

        def refuse(opened: Session) -> None:
            said.extend(_worth_saying(opened, self._refuse_conflicts(opened, skip_remote=skip_remote)))

        report = rehearse(self._settings, to=to, skip_remote=skip_remote, adopt=adopt, refuse_conflicts=refuse)
        return evolve(report, findings=(*report.findings, *said))

    def _adopt(self, opened: Session, driver: Driver, *, skip_remote: bool) -> None:
        """Have the log say what the ledgers say, migration by migration. Raises the first Conflict that this cannot settle."""
        found = [conflict for conflict in self._conflicts(opened, skip_remote=skip_remote) if conflict.kind in DISAGREEING]
        for name in sorted({str(conflict.details["migration"]) for conflict in found}, key=lambda name: order_of(opened, name)):
            finished = driver.drive(name, Request(wish="adopt"))
            if finished.error is not None:
                raise finished.error

    def _finish(self, opened: Session, driver: Driver, *, skip_remote: bool) -> None:
        """Bring every run in flight to its end; there is more than one only where several calls were killed."""
        for name, status in opened.statuses().items():
            if status.in_flight and not driver.stopped:
                finished = driver.drive(name, Request(wish="finish", skip_remote=skip_remote))
                driver.stopped = not finished.went_well(State.VERIFIED)

    def _roll_back(self, opened: Session, id: str | None) -> Report:
        self._refuse_conflicts(opened, skip_remote=False)
        statuses = opened.statuses()
        standing = sorted(
            (name for name, status in statuses.items() if status.state is State.VERIFIED or status.in_flight),
            key=lambda name: order_of(opened, name),
            reverse=True,
        )
        if id is not None and id not in statuses and id not in opened.defined:
            raise DefinitionError("T145", migration=id)
        if not standing or (id is not None and id not in standing):
            nothing = "nothing is applied" if id is None or not standing else f"{id} is not applied"
            return Report(outcome="up_to_date", findings=(f"{nothing}, so that there is nothing to take back",))
        wanted = standing[: standing.index(id) + 1] if id is not None else standing[:1]
        driver = Driver(opened)
        for name in wanted:
            finished = driver.drive(name, Request(wish="back"))
            if not finished.went_well(State.ROLLED_BACK):
                break
        return self._ended(opened, driver, skip_remote=False)

    def _refuse_conflicts(
        self, opened: Session, *, skip_remote: bool, done: Mapping[str, str] | None = None
    ) -> tuple[Conflict, ...]:
        """Promise 1: where the log and the ledgers do not fit together, nothing is run.

        Raises the first blocking Conflict; returns those that block nothing.
        """
        found = self._conflicts(opened, skip_remote=skip_remote, done=done)
        for conflict in found:
            if conflict.kind in BLOCKING:
                raise conflict
        return found

    def _conflicts(self, opened: Session, *, skip_remote: bool, done: Mapping[str, str] | None = None) -> tuple[Conflict, ...]:
        """What does not fit together now, recorded where it is new or gone."""
        skip = skip_remote or self._settings.remote_role == "skip"
        known = opened.known(with_remote=not skip, with_schemas=True)
        found = conflicts(known)
        note_conflicts(opened, known, found, done=done)
        return found

    def _ended(self, opened: Session, driver: Driver, *, skip_remote: bool) -> Report:
        """The call's report, once it is recorded which conflicts its work has put an end to."""
        done = driver.done()
        if done and open_conflicts(opened.of_the_pair()):
            # What was done is done, whether this can be recorded now or by the next call.
            with suppress(Blocked, InDoubt, ConcurrencyConflict, Locked):
                self._conflicts(opened, skip_remote=skip_remote, done=done)
        return driver.report()

    def _reported(
        self,
        doing: str,
        work: Callable[[Session], Report],
        *,
        needs_folder: bool = True,
        adopt: bool = False,
        to: str | None = None,
        new_ones: bool = True,
    ) -> Report:
        """Run a changing call under the lock; what it raises of ours is its report. A damaged log and our own bugs too."""
        try:
            with self._writing(doing, needs_folder=needs_folder, adopt=adopt, to=to, new_ones=new_ones) as opened:
                report = work(opened)
                lost = report.error is not None and report.error.code in LOST
                # Who has lost the lock writes nothing more, and deletes nothing.
                kept = () if lost else tidy(opened, self._settings.keep_days)
                return evolve(report, findings=(*opened.findings, *report.findings, *kept))
        except TwinstepError as error:
            return Report(outcome=outcome_of(error), exit_code=error.exit_code, error=error_report(error))

    def _about_backups(self, doing: str, work: Callable[[Session], BackupReport]) -> BackupReport:
        """The same for a call about backups. It needs no folder of migrations, and comes before any conflict is looked for."""
        try:
            if self._settings.local is None:
                raise Blocked("T280")
            with self._writing(doing, needs_folder=False) as opened:
                _refuse_another_log(opened)
                note_found(opened)
                report = work(opened)
                return evolve(report, findings=(*opened.findings, *report.findings))
        except TwinstepError as error:
            return BackupReport(outcome=outcome_of(error), exit_code=error.exit_code, error=error_report(error))

    @contextmanager
    def _writing(
        self,
        doing: str,
        *,
        needs_folder: bool = True,
        adopt: bool = False,
        to: str | None = None,
        new_ones: bool = True,
    ) -> Iterator[Session]:
        """A session under the lock, once the log knows of every restore. Bad input is found before the lock is taken, so that
        it leaves no state folder behind."""
        settings = self._settings
        defined = self._defined(needs_folder=needs_folder, new_ones=new_ones)
        if to is not None and defined is not None and to not in defined:
            raise DefinitionError("T145", migration=to)
        check_addresses(settings)
        opening = session(settings, defined, writes=True, adopt=adopt, doing=doing)
        with self._locks(doing), opening as opened:
            opened.hold_what_it_shares()
            opened.mend_read_tables()
            take_in_restores(opened)
            take_in_put_back(opened)
            yield opened

    @contextmanager
    def _locks(self, doing: str) -> Iterator[None]:
        """The lock of the state folder, and that of the pair where its log lies in another one: somebody with a state folder
        of their own may work on the same pair."""
        settings = self._settings
        with ExitStack() as held:
            wait = settings.wait_seconds
            held.enter_context(coordinator_lock(settings.state_folder, doing=doing, wait_seconds=wait))
            log = settings.log_file
            if log is not None and log.parent.resolve() != settings.state_folder.resolve():
                name = pair_lock_name(log, settings.pair_key())
                held.enter_context(coordinator_lock(log.parent, doing=doing, wait_seconds=wait, name=name))
            yield

    def _defined(self, *, needs_folder: bool, new_ones: bool = True) -> dict[str, Defined] | None:
        """The migrations; None where they cannot be used and the call can do without: what is in flight is in the log."""
        try:
            return load(self._settings, new_ones=new_ones)
        except DefinitionError:
            if needs_folder:
                raise
            return None

    def _is_in_flight_without_a_folder(self) -> bool:
        """Whether the folder cannot be used while the log names a run that has begun and not ended."""
        try:
            unusable = self._defined(needs_folder=False) is None
            return unusable and any(status.in_flight for status in recorded_statuses(self._settings).values())
        except TwinstepError:  # the log cannot be read either: the first trouble stands
            return False

    def _reading(self, *, needs_folder: bool = True) -> AbstractContextManager[Session]:
        return session(self._settings, self._defined(needs_folder=needs_folder), writes=False)


def _refuse_another_log(opened: Session) -> None:
    """Raise the Conflict where the local database does not belong to this log, or the log has lost what the ledger holds.

    What is done to a backup or to the quarantine concerns no migration, and is left alone by all other conflicts.
    """
    for conflict in conflicts(opened.known(with_remote=False)):
        if conflict.kind == "foreign_log" and conflict.code != "T288":
            raise conflict


def _worth_saying(opened: Session, found: Sequence[Conflict]) -> Iterator[str]:
    """What was seen at the beginning of a call, blocks nothing, and would not be seen any more after it."""
    for conflict in found:
        if conflict.kind == "drift":
            yield f"before this call: {conflict.condition}"
    remote = opened.problems.get("remote")
    if remote is not None:
        yield f"the remote was not looked at: {getattr(remote, 'condition', remote)}"
