"""What one call of the coordinator works with: the log, the targets and the pair, opened for the call and closed after it.

Nothing stays open between calls: no connection, no thread, no lock. A call that only reads makes no file and no folder, and
opens the local database and the log read-only.

Read next: `coordinator.py` (the calls), `loop.py` (what a writing call drives).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from attrs import define, field, frozen

from ..events.chain import check_stream
from ..events.codec import decode
from ..events.errors import Blocked, ConfigurationError, InDoubt, LogDamaged, TwinstepError, Unreachable
from ..events.fold import Status, fold
from ..events.projections import ROW_TYPES, Row, rebuild
from ..events.types import Recorded
from ..migrations.catalogue import Schema
from ..migrations.definition import SideName
from ..migrations.memory_target import MemoryDatabase, MemoryTarget
from ..migrations.target import Backups, Target, Whole
from ..stores.patience import Patience
from ..stores.port import Clock, EventStore, utc_now
from ..stores.rehearsal_folder import remove_leftovers
from ..stores.seam import Probe, no_probe
from .conflicts import DISAGREEING, Known, conflicts
from .definitions import SIDES, Defined, MigrationSource, definitions
from .drift import Baseline, baselines

if TYPE_CHECKING:
    from ..stores.backups import BackupFolder
    from ..stores.local_connection import OnConnect

Listener: TypeAlias = "Callable[[Recorded], None]"


def silent(record: Recorded) -> None:
    """Nobody listens."""


@frozen(kw_only=True)
class Settings:
    """Everything that a coordinator was given. Paths are as given; `local_path` resolves links."""

    local: str | Path | MemoryDatabase | None = None
    remote: str | MemoryDatabase | None = field(default=None, repr=False)  # it may hold a password
    migrations: MigrationSource
    log: str | EventStore | None = field(default=None, repr=False)
    state_dir: str | Path | None = None
    remote_role: str = "apply"
    wait_seconds: float = 0.0
    retry_for_seconds: float = 30.0
    keep_days: int = 30
    on_event: Listener = silent
    on_local_connect: OnConnect | None = None
    clock: Clock = utc_now
    probe: Probe = no_probe

    def __attrs_post_init__(self) -> None:
        if self.remote_role not in ("apply", "require", "skip"):
            raise ConfigurationError("T141", setting="remote role", value=self.remote_role, choices="apply, require or skip")
        if self.local is None and self.remote is None:
            raise ConfigurationError("T142")

    @property
    def local_path(self) -> Path | None:
        """The local database's file, links resolved; None where there is none, or where it is in memory."""
        if self.local is None or isinstance(self.local, MemoryDatabase):
            return None
        if str(self.local) == ":memory:":
            raise ConfigurationError("T143")
        return Path(self.local).resolve()

    @property
    def state_folder(self) -> Path:
        """Where the log, the backups and the lock are."""
        if self.state_dir is not None:
            return Path(self.state_dir)
        path = self.local_path
        return Path(".twinstep") if path is None else path.with_name(f"{path.name}.twinstep")

    @property
    def log_file(self) -> Path | None:
        """The file of a log that was named as one; None for the default log, and for one that is no file."""
        if not isinstance(self.log, str) or not self.log.startswith("sqlite:"):
            return None
        return log_path(self.log)

    def pair_key(self) -> str:
        """What the log knows this pair by."""
        if isinstance(self.local, MemoryDatabase):
            return self.local.name
        path = self.local_path
        if path is not None:
            return str(path)
        if isinstance(self.remote, MemoryDatabase):
            return self.remote.name
        from ..stores.remote_connection import key_of

        assert self.remote is not None
        return key_of(self.remote)


@define(kw_only=True)
class Session:
    """What one call holds open. `findings` are what was noticed on opening, for the call's report."""

    settings: Settings
    store: EventStore
    targets: Mapping[SideName, Target]
    defined: Mapping[str, Defined]
    pair: str | None
    patience: Patience
    backups: Backups | None = None
    has_folder: bool = True
    writes: bool = False
    problems: dict[SideName, TwinstepError] = field(factory=dict)
    findings: list[str] = field(factory=list)

    def stream(self, migration: str) -> str:
        """The name of the migration's stream on this pair."""
        return f"{self.pair}/{migration}"

    def histories(self) -> dict[str, list[Recorded]]:
        """The events of each migration of this pair that the log has a stream for. Raises LogDamaged (T501)."""
        return _histories(self.store, self.pair)

    def statuses(self) -> dict[str, Status]:
        """What the log says of each migration of this pair."""
        return {migration: fold(records) for migration, records in self.histories().items()}

    def of_the_pair(self) -> list[Recorded]:
        """The events of the pair's own stream. Raises LogDamaged (T501)."""
        return [] if self.pair is None else _whole(self.store.read(self.pair))

    def rows(self) -> list[Row]:
        """The rows of the read tables that the events of this pair make, in the order in which they first appeared.

        What is decided is decided by these: the tables themselves are for others to read, and anybody can write to them.
        """
        return list(rebuild(self.in_order()).values())

    def in_order(self) -> list[Recorded]:
        """All events of this pair, in the order in which they were recorded."""
        records = (*chain.from_iterable(self.histories().values()), *self.of_the_pair())
        return sorted(records, key=attrgetter("position"))

    def mend_read_tables(self) -> None:
        """Make the read tables again where this pair's rows are not what the events say, and say so in `findings`."""
        if self.pair is None:
            return
        wanted = self.rows()
        for table, kind in ROW_TYPES.items():
            try:
                found = [row for row in self.store.rows(table) if row.pair == self.pair]
            except LogDamaged:  # the events are sound: somebody has changed the table itself
                found = None
            if found != [row for row in wanted if isinstance(row, kind)]:
                self.store.rebuild_rows()
                self.findings.append(
                    "the read tables were not what the log says, and were made again; where nobody has edited them, and no "
                    "other version of Twinstep was at work, the log may have lost its last events"
                )
                return

    def check_chains(self) -> None:
        """Promise 1: on a log that is not what was written, nothing is done.

        Raises LogDamaged: T501, and T502 where a newer program wrote an event of the pair's own. Those of the migrations are
        read by whoever folds them.
        """
        self.histories()
        for record in self.of_the_pair():
            decode(record)

    def hold_what_it_shares(self) -> None:
        """Without a local database the remote is all that is worked on, and its lock is held for the whole call.

        Raises Locked (T401). A remote that is away is met again, and told of, by whatever needs it.
        """
        if "local" in self.targets or self.settings.remote_role == "skip":
            return
        with suppress(Unreachable, InDoubt, Blocked):
            self.targets["remote"].hold()

    def let_go(self) -> None:
        """Of the locks that one migration was changed under."""
        for side, target in self.targets.items():
            if side == "local" or "local" in self.targets:
                target.release()

    def known(self, *, with_remote: bool = True, with_schemas: bool = False) -> Known:
        """Everything that can be read of this pair now. A side that cannot is left out, and why is in `problems`.

        The schemas are read only where they are asked for: of a remote that is one question more. Where somebody at work is in
        between the two, the ledgers and the log do not agree for a moment: then all is read again, until the log rests.
        """
        known = self._known(with_remote=with_remote, with_schemas=with_schemas)
        while any(conflict.kind in DISAGREEING for conflict in conflicts(known)):
            before, known = known, self._known(with_remote=with_remote, with_schemas=with_schemas)
            if known.hashes == before.hashes:
                break
        return known

    def _known(self, *, with_remote: bool, with_schemas: bool) -> Known:
        wholes = self._wholes(with_remote=with_remote)
        histories = self.histories() if self.pair is not None else {}
        statuses = {migration: fold(records) for migration, records in histories.items()}
        in_flight = any(status.in_flight for status in statuses.values())
        held_against = baselines(histories, statuses, self.of_the_pair()) if with_schemas else {}
        return Known(
            pair=self.pair,
            location=self.store.location,
            log=self.store.log_id,
            has_folder=self.has_folder,
            defined=self.defined,
            statuses=statuses,
            hashes={migration: [record.hash for record in records] for migration, records in histories.items()},
            wholes=wholes,
            baselines=held_against,
            # While a run is in flight a schema is between two, and what it has left is for that run to finish.
            schemas=self._schemas(wholes, held_against) if with_schemas and not in_flight else {},
        )

    def _wholes(self, *, with_remote: bool) -> dict[SideName, Whole]:
        wholes: dict[SideName, Whole] = {}
        for side in SIDES:
            if side not in self.targets or (side == "remote" and not with_remote):
                continue
            try:
                wholes[side] = self.targets[side].whole()
            except (Unreachable, InDoubt) as error:
                self.problems[side] = error
        return wholes

    def _schemas(self, sides: Iterable[SideName], held_against: Mapping[SideName, Baseline]) -> dict[SideName, Schema]:
        """How each side looks now, as far as it was looked at before; of a new remote, the schemas that it is to have."""
        found: dict[SideName, Schema] = {}
        for side in sides:
            last = held_against.get(side)
            schemas = last.schemas if last is not None else self._schemas_defined()
            if last is None and (side == "local" or not schemas):
                continue
            try:
                found[side] = self.targets[side].schema(schemas)
            except (Unreachable, InDoubt, Blocked) as error:
                self.problems[side] = error
        return found

    def _schemas_defined(self) -> tuple[str, ...]:
        """Of the migrations that are not known from the log, and compiled therefore."""
        new = [defined.works for defined in self.defined.values() if defined.known is None]
        named = [schema for works in new if "remote" in works for schema in works["remote"].limits.schemas]
        return tuple(dict.fromkeys(named))


def _histories(store: EventStore, pair: str | None) -> dict[str, list[Recorded]]:
    prefix = f"{pair}/"
    names = [name for name in store.streams() if name.startswith(prefix)]
    return {name.removeprefix(prefix): _whole(store.read(name)) for name in names}


def _whole(records: list[Recorded]) -> list[Recorded]:
    """The events of one stream, once its chain was walked: before anything is concluded from them."""
    check_stream(records)
    return records


@contextmanager
def session(
    settings: Settings, defined: Mapping[str, Defined] | None, *, writes: bool, adopt: bool = False, doing: str = "look"
) -> Iterator[Session]:
    """Open what a call needs. `defined` is None where the folder cannot be read and the call can do without it. With
    `adopt`, the log is told of the pair that the databases say they are. `doing` is what others are told that it does.

    Raises what opening raises.
    """
    if writes:
        remove_leftovers(settings.state_folder)
    store = open_store(settings, writes=writes)
    targets: dict[SideName, Target] = {}
    try:
        # Before a pair is looked for in it, or told to it.
        store.check()
        patience = Patience(settings.retry_for_seconds)
        targets.update(open_targets(settings, patience, doing=doing))
        pair = _pair(settings, store, targets, writes=writes, adopt=adopt)
        if writes and pair is not None:
            # Before the first append: a coordinator that still believes to hold the lock is to write no more.
            store.claim(pair)
        opened = Session(
            settings=settings,
            patience=patience,
            store=store,
            targets=targets,
            defined=defined or {},
            has_folder=defined is not None,
            writes=writes,
            pair=pair,
            backups=open_backups(settings),
        )
        opened.check_chains()
        if writes and opened.backups is not None:
            with suppress(Blocked):  # under the lock of the folder, what lies there unfinished is a dead process's
                opened.backups.sweep(None)
        yield opened
    finally:
        for target in targets.values():
            target.close()
        if store is not settings.log:
            store.close()


def recorded_statuses(settings: Settings) -> dict[str, Status]:
    """What the log says of each migration of this pair; neither database and no migration is opened for it."""
    store = open_store(settings, writes=False)
    try:
        pair = store.pair_of(settings.pair_key())
        return {} if pair is None else {name: fold(records) for name, records in _histories(store, pair).items()}
    finally:
        if store is not settings.log:
            store.close()


def load(settings: Settings, *, new_ones: bool = True) -> dict[str, Defined]:
    """The migrations in order, as they are defined now. The log is looked into for what it knows of them, and not kept open.
    Without `new_ones`, those that it does not know are named only.

    Raises DefinitionError, and what reading the log raises.
    """
    store = open_store(settings, writes=False)
    try:
        pair = store.pair_of(settings.pair_key())
        histories = {} if pair is None else _histories(store, pair)
        return definitions(settings.migrations, histories, new_ones=new_ones)
    finally:
        if store is not settings.log:
            store.close()


def check_addresses(settings: Settings) -> None:
    """See that the local database is there and is one, and that the other addresses can be read, before anything is made.

    Raises what opening the local database raises, and ConfigurationError (T144, T516 the log, T225 the remote). Touches no
    network.
    """
    if isinstance(settings.log, str):
        open_store(settings, writes=False).close()
    if isinstance(settings.remote, str) and settings.remote_role != "skip":
        from ..stores.remote_connection import libpq_url

        libpq_url(settings.remote)
    path = settings.local_path
    if path is not None:
        from ..stores.local_connection import open_to_read

        open_to_read(path, on_connect=settings.on_local_connect).close()


def open_store(settings: Settings, *, writes: bool) -> EventStore:
    """The log: as given, in memory, in PostgreSQL, or a SQLite file; it is neither connected to nor made yet.

    Raises ConfigurationError: T144 for another kind, T516 for an address that cannot be read.
    """
    log = settings.log
    if log is not None and not isinstance(log, str):
        return log
    if log == "memory:":
        from ..stores.memory import MemoryEventStore

        return MemoryEventStore(clock=settings.clock, probe=settings.probe)
    if log is not None and log.partition("://")[0].partition("+")[0] in ("postgresql", "postgres"):
        from ..stores.postgres_events import PostgresEventStore

        return PostgresEventStore(
            log,
            clock=settings.clock,
            readonly=not writes,
            retry_for_seconds=settings.retry_for_seconds,
            probe=settings.probe,
        )
    from ..stores.sqlite_events import SQLiteEventStore

    path = settings.state_folder / "log.db" if log is None else log_path(log)
    return SQLiteEventStore(path, clock=settings.clock, readonly=not writes, probe=settings.probe)


def log_path(url: str) -> Path:
    """The file of a log given as `sqlite:///path`. Raises ConfigurationError (T144) for another kind of URL."""
    scheme, separator, path = url.partition(":///")
    if scheme != "sqlite" or not separator or not path:
        raise ConfigurationError("T144", log=url.partition("://")[0])
    return Path(path)


def open_targets(settings: Settings, patience: Patience, *, doing: str = "look") -> dict[SideName, Target]:
    """The two sides, as far as there are any; none of them connects yet.

    While the remote's lock is held, the local side commits nothing once it is lost.
    """
    remote = _open_remote_target(settings, patience, doing)
    if remote is None:
        local = _open_local_target(settings, _nobody_to_ask)
        return {} if local is None else {"local": local}
    local = _open_local_target(settings, lambda: remote.check_held(asking=True))
    return {"remote": remote} if local is None else {"local": local, "remote": remote}


def _nobody_to_ask() -> None:
    """There is no remote whose lock could be lost."""


def _open_local_target(settings: Settings, fence: Callable[[], None]) -> Target | None:
    if isinstance(settings.local, MemoryDatabase):
        return MemoryTarget("local", settings.local, fence=fence, probe=settings.probe)
    path = settings.local_path
    if path is None:
        return None
    from ..migrations.sqlite_target import SQLiteTarget

    return SQLiteTarget(
        path,
        backups=backup_folder(settings),
        on_connect=settings.on_local_connect,
        wait_seconds=settings.wait_seconds,
        fence=fence,
        probe=settings.probe,
    )


def _open_remote_target(settings: Settings, patience: Patience, doing: str) -> Target | None:
    if isinstance(settings.remote, MemoryDatabase):
        is_pair = settings.local is None
        return MemoryTarget("remote", settings.remote, is_pair=is_pair, probe=settings.probe)
    if settings.remote is None:
        return None
    from ..migrations.postgres_target import PostgresTarget

    return PostgresTarget(
        settings.remote,
        wait_seconds=settings.wait_seconds,
        patience=patience,
        changes=settings.remote_role == "apply",
        is_pair=settings.local is None,
        doing=doing,
        probe=settings.probe,
    )


def backup_folder(settings: Settings) -> BackupFolder:
    """Where the backups of the local database lie."""
    from ..stores.backups import BackupFolder

    return BackupFolder(settings.state_folder / "backups", clock=settings.clock)


def open_backups(settings: Settings) -> Backups | None:
    """The copies of the local database; None where there is no local database."""
    if isinstance(settings.local, MemoryDatabase):
        from ..migrations.memory_backups import MemoryBackups

        return MemoryBackups(settings.local, probe=settings.probe)
    path = settings.local_path
    if path is None:
        return None
    from ..migrations.sqlite_backups import SQLiteBackups

    return SQLiteBackups(path, backup_folder(settings), on_connect=settings.on_local_connect, probe=settings.probe)


def _pair(
    settings: Settings, store: EventStore, targets: Mapping[SideName, Target], *, writes: bool, adopt: bool
) -> str | None:
    """The pair's id: what the database itself says, where the log knows it (its file was moved); else the log's, by key.

    A remote without a local file is a pair by itself, and its own head row names it. Only a writing call draws a new id, and
    none is drawn for a database that says it belongs to a pair of another log.
    """
    own = targets.get("local") or targets["remote"]
    try:
        whole = own.whole()
    except (Blocked, ConfigurationError, InDoubt) as error:
        # Who only asks is told by whoever needs the database; and what was, the log tells without it.
        if writes and not isinstance(error, (Unreachable, InDoubt)):
            raise
        whole = Whole()
    named = whole.head.pair
    # A remote that only devices have changed so far is a pair by itself whose first run is still to come.
    unused = settings.local is None and not any(row.pair == named for ledger in whole.ledgers.values() for row in ledger.rows)
    key = settings.pair_key()
    if named and unused and (begun := store.pair_of(key)) is not None:
        return begun  # before those devices were there, and nothing of it has come so far as the remote
    if named and writes and (adopt or unused):
        store.adopt_pair(named)
    if named and unused:
        return named
    if named and store.knows_pair(named):
        return named
    return store.register_pair(key) if writes and not named else store.pair_of(key)
