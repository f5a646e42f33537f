"""`bootstrap`: the one call for a host's start. It makes both databases what the code needs, or says why not to start.

It asks first, and only asks where nothing is to be done: no lock, no write, nothing heavy loaded. Otherwise it finishes what
is in flight, and runs what is pending. What it decides is decided from how the databases stand *afterwards*, whoever brought
them there; the report and the error are the reason.

A migration that was rolled back is not run again while its text is the same: a host that a supervisor starts again and again
would otherwise back up, migrate and roll back each time. What was refused by circumstances alone is tried at each start.

Trouble of ours is in the outcome, never raised. Read next: `bootstrap_rules.py` (the decision), `coordinator.py` (the calls).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import frozen

from ..events import types as e
from ..events.errors import Blocked, ConfigurationError, TwinstepError
from ..events.fold import fold
from ..migrations.memory_target import MemoryDatabase
from ..stores.port import Clock, EventStore, utc_now
from ..stores.seam import Probe, no_probe
from .bootstrap_rules import BootstrapOutcome, decision_on, has_blocking_conflict, lacking_locally, rolled_back_run
from .coordinator import Coordinator, RemoteRole
from .definitions import SIDES, MigrationSource
from .report import Report, StatusReport, error_report
from .session import Listener, Settings, load, open_store, silent

if TYPE_CHECKING:
    from ..stores.local_connection import OnConnect

AWAY: Final = frozenset({"T221", "T391"})


def bootstrap(
    *,
    local: str | Path | MemoryDatabase | None = None,
    remote: str | MemoryDatabase | None = None,
    migrations: MigrationSource,
    log: str | EventStore | None = None,
    state_dir: str | Path | None = None,
    remote_role: RemoteRole = "apply",
    create_local: bool = False,
    migrate: bool = True,
    skip_remote: bool = False,
    skip_remote_if_away: bool = False,
    retry_rolled_back: bool = False,
    wait_seconds: float = 30.0,
    retry_for_seconds: float = 30.0,
    keep_days: int = 30,
    on_event: Listener = silent,
    on_local_connect: OnConnect | None = None,
    clock: Clock = utc_now,
    probe: Probe = no_probe,
) -> BootstrapOutcome:
    """Make both databases what the code needs, as far as that can be done now, and say whether the host may start.

    With `create_local`, a local file that is not there is made empty, for a new install; not where the log knows it (T165: it
    is lost, not new). With `migrate=False`, only what is in flight is finished. `skip_remote` leaves the remote for a later
    start, `skip_remote_if_away` only where it cannot be reached now. With `retry_rolled_back`, a migration is run again
    although it was rolled back and is unchanged (T164). Of several processes that start at once, one works and the others
    wait for up to `wait_seconds`. All else is as with `Coordinator`. Raises nothing of ours.
    """
    try:
        settings = Settings(
            local=local,
            remote=remote,
            migrations=migrations,
            log=log,
            state_dir=state_dir,
            remote_role=remote_role,
            on_local_connect=on_local_connect,
            clock=clock,
        )
        coordinator = Coordinator(
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
        if create_local:
            _create_local(settings)
        start = _Start(
            coordinator=coordinator,
            settings=settings,
            skip_remote=skip_remote,
            skip_remote_if_away=skip_remote_if_away,
            retry_rolled_back=retry_rolled_back,
        )
        return start.outcome(migrate=migrate)
    except TwinstepError as error:
        return BootstrapOutcome(decision="stop", reason=error.condition, error=error_report(error))


@frozen(kw_only=True)
class _Start:
    """One start of a host."""

    coordinator: Coordinator
    settings: Settings
    skip_remote: bool
    skip_remote_if_away: bool
    retry_rolled_back: bool

    def outcome(self, *, migrate: bool) -> BootstrapOutcome:
        """Ask, work if there is something to do, ask again, decide."""
        status = self.coordinator.status()
        if has_blocking_conflict(status):
            return decision_on(status)
        due = self._due(status) if migrate else []
        barred = self._barred(status, due)
        runnable = due if barred is None else due[: due.index(str(barred.details["migration"]))]
        if status.in_flight is None and not runnable:
            return decision_on(status, error=None if barred is None else error_report(barred))
        report = self._work(status, runnable)
        error = report.error
        if error is None and barred is not None:
            error = error_report(barred)
        return decision_on(self.coordinator.status(), error=error, report=report)

    def _due(self, status: StatusReport) -> list[str]:
        """What is to be run at this start: not what only the remote lacks, where it is left alone or away."""
        local_only = self.skip_remote or (self.settings.local is not None and status.remote.reachable is False)
        return lacking_locally(status) if local_only else list(status.pending)

    def _work(self, status: StatusReport, runnable: Sequence[str]) -> Report:
        may_skip = self.skip_remote_if_away and self.settings.local is not None
        if self.skip_remote or (may_skip and status.remote.reachable is False):
            return self._run(runnable, skip_remote=True)
        report = self._run(runnable, skip_remote=False)
        went_away = report.outcome == "blocked" and report.error is not None and report.error.code in AWAY
        return self._run(runnable, skip_remote=True) if may_skip and went_away else report

    def _run(self, runnable: Sequence[str], *, skip_remote: bool) -> Report:
        """What is in flight is finished first, also where a later migration is barred."""
        if not runnable:
            return self.coordinator.resume(skip_remote=skip_remote)
        return self.coordinator.migrate(to=runnable[-1], skip_remote=skip_remote)

    def _barred(self, status: StatusReport, due: Iterable[str]) -> Blocked | None:
        """Why the first of these that must not be run again is not: it was rolled back, and its text is the same."""
        if self.retry_rolled_back or status.pair is None:
            return None
        flying = None if status.in_flight is None else status.in_flight.migration
        defined = load(self.settings)
        for name in due:
            records = self.coordinator.events(f"{status.pair}/{name}") if name != flying else ()
            ended = rolled_back_run(records)
            if ended is None:
                continue
            run, why = ended
            if self._is_unchanged(run, defined[name].checksums()):
                return Blocked("T164", migration=name, when=records[-1].recorded_at, why=why)
        return None

    def _is_unchanged(self, run: e.RunStarted, now: Mapping[str, str]) -> bool:
        """Whether the run's texts are today's. A side that has no database here is no part of either."""
        sides = ("remote",) if self.settings.local is None else SIDES
        return all(run.checksums.get(side) == now.get(side) for side in sides)


def _stood_once(store: EventStore, pair: str | None) -> bool:
    """Whether the log says that something of ours stands, or is in flight, in the pair's local database."""
    streams = [name for name in store.streams() if pair is not None and name.startswith(f"{pair}/")]
    return any(status.in_flight or status.local_by is not None for status in (fold(store.read(name)) for name in streams))


def _create_local(settings: Settings) -> None:
    """Make an empty local file where there is none. Raises ConfigurationError: T165 where the log knows it, T162."""
    path = settings.local_path
    if path is None or path.exists():
        return
    store = open_store(settings, writes=False)
    try:
        if _stood_once(store, store.pair_of(settings.pair_key())):
            raise ConfigurationError("T165", path=path, location=store.location)
    finally:
        if store is not settings.log:
            store.close()
    import sqlite3
    from contextlib import closing

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Through SQLite, like everything that opens this file: another process may have been first.
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            if settings.on_local_connect is not None:
                settings.on_local_connect(connection)
            connection.execute("PRAGMA user_version = 0")
    except (OSError, sqlite3.Error) as error:
        raise ConfigurationError("T162", path=path, problem=error) from error
