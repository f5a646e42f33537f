"""The local side: a SQLite file of a host application, changed in one transaction together with its ledger row.

The writer lock is taken before the first look and held until the change is committed, so that what was validated and
backed up is exactly what is changed. Reading alone uses a read-only connection, which leaves the file as it is. Foreign keys
are off while a change runs (with them on, dropping a table deletes its children); afterwards every reference that the
change broke is found by comparison, and refuses it.

Read next: `sqlite_ledger.py`, `sqlite_catalogue.py`, `stores/local_connection.py` (transactions), `stores/backups.py`.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve

from ..events.cut_short import cut_short
from ..events.errors import Blocked, DefinitionError, LostLock, Refused, TwinstepError
from ..events.types import Json
from ..stores.backups import Backup, BackupFolder
from ..stores.local_connection import (
    OnConnect,
    begin_immediate,
    commit,
    guarded,
    open_local,
    open_to_read,
    roll_back,
    set_foreign_keys_off,
    translate,
)
from ..stores.restoring import BEFORE
from ..stores.seam import Probe, no_probe
from ..stores.sqlite_errors import primary_code
from . import quarantined, sqlite_measuring
from . import sqlite_ledger as sql
from .accounting.accounting import Accounting, accounting
from .catalogue import Changes, Fingerprint, Schema
from .definition import Query, SideName, StepFunction, name_of
from .functions import said_by
from .kept import Kept
from .ledger import DECLARED, HEAD, LedgerRow, SideLedger
from .quarantined import PutBack, Quarantined
from .script import CompiledStep
from .sql import Statement
from .sqlite_catalogue import (
    ForeignKeyViolation,
    foreign_key_violations,
    integrity_problems,
    read_catalogue,
    read_fingerprint,
    read_schema,
)
from .sqlite_limits import limited_statements
from .sqlite_marks import note, put_back
from .steps import ToUndo, down_row, due_units, head_row, stamp, units_to_undo, up_row
from .target import Comparison, Timing, Undone, Whole
from .time_limit import OutOfTime, call_within
from .work import Order, SideWork

if TYPE_CHECKING:
    from .measuring import Round
    from .work import RestoreOrder

BUSY_SECONDS = 5.0
# What is the disk's doing, and not the statement's that met it.
DISK = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT})


class SQLiteTarget:
    """The local side of a pair. See `target.py` for what the methods promise."""

    side: SideName = "local"
    measures = True

    def __init__(
        self,
        path: Path,
        *,
        backups: BackupFolder,
        on_connect: OnConnect | None = None,
        wait_seconds: float = 0.0,
        busy_seconds: float = BUSY_SECONDS,
        fence: Callable[[], None] = lambda: None,
        probe: Probe = no_probe,
    ) -> None:
        self._path = path
        self._backups = backups
        self._on_connect = on_connect
        # Hosts hold the writer lock for moments all the time: that much is waited for without being asked to.
        self._wait_seconds = max(wait_seconds, busy_seconds)
        self._fence = fence
        self._probe = probe
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._held: str | None = None
        self._backed_up: str | None = None
        self._backup: Backup | None = None
        self._looked: tuple[str, Fingerprint] | None = None

    @property
    def held(self) -> str | None:
        """The token of the writer lock that is held."""
        return self._held

    def hold(self) -> str:
        """Take SQLite's writer lock (BEGIN IMMEDIATE), foreign keys being off before."""
        if self._held is None:
            if self._writer is None:
                self._writer = open_local(self._path, on_connect=self._on_connect)
            set_foreign_keys_off(self._writer)
            begin_immediate(self._writer, self._wait_seconds)
            self._held = uuid.uuid4().hex
        return self._held

    def hold_again(self) -> None:
        """The writer lock is never lost: it is the open transaction's."""

    def check_held(self, *, asking: bool = False) -> None:
        """The same."""

    def release(self) -> None:
        """Roll back what is open, and let go of the writer lock and its connection."""
        if self._writer is not None:
            roll_back(self._writer)
            self._writer.close()
        self._writer = None
        self._held = None

    def close(self) -> None:
        """Release, and let go of the reading connection."""
        self.release()
        if self._reader is not None:
            self._reader.close()
        self._reader = None

    def ledger(self, migration: str) -> SideLedger:
        """The ledger's rows of this migration."""
        with self._asking() as connection:
            return sql.read(connection, migration)

    def whole(self) -> Whole:
        """The head, all rows, and user_version."""
        with self._asking() as connection:
            return sql.read_whole(connection)

    def look(self, work: SideWork, *, content: bool) -> Fingerprint:
        """Schema and marks; with `content`, rows and their digests."""
        with self._asking() as connection:
            found = read_fingerprint(connection, content=content)
        if content and self._held is not None:
            self._looked = (self._held, found)
        return found

    def schema(self, schemas: Sequence[str]) -> Schema:
        """Objects and marks."""
        with self._asking() as connection:
            return read_schema(connection)

    def validate(self, work: SideWork, *, back: bool) -> None:
        """The version that the work begins from, and nothing pending. Raises Blocked (T201, T202)."""
        if back:
            return
        with self._asking() as connection:
            (version,) = connection.execute("PRAGMA main.user_version").fetchone()
            wanted = work.limits.user_version_from
            if wanted and version not in wanted:
                shown = " or ".join(str(each) for each in wanted)
                raise Blocked("T201", migration=work.migration, side=self.side, wanted=shown, actual=version)
            if work.limits.pending is not None:
                self._refuse_pending(connection, work, work.limits.pending)

    def back_up(self, order: Order) -> Mapping[str, Json] | None:
        """Copy the last committed state from beside the lock, and prove the copy."""
        self.hold()
        backup = self._backups.back_up(self._path, holder=self._writer, on_connect=self._on_connect, probe=self._probe)
        self._backed_up, self._backup = self._held, backup
        return {**backup.to_json(), "verified": True}

    def apply(self, order: Order) -> Changes:
        """Run the one group in the transaction that holds the lock, account for it, and commit it with its ledger row."""
        with self._changing("group") as connection:
            if due_units(order, sql.read(connection, order.migration)):
                return self._change(connection, order)
            roll_back(connection)  # it stands already
            return Changes()

    def confirm(self, order: Order, by: str) -> None:
        """Nobody else changes a local database."""
        raise AssertionError("a local change is never confirmed")

    def undo(self, order: Order) -> Undone:
        """Run the down steps in one transaction with the ledger; without a down, restore the backup."""
        with self._changing("undo") as connection:
            steps = units_to_undo(order, sql.read(connection, order.migration))
            if not steps:
                roll_back(connection)
                return Undone()
            if not any(step.unit.down is None for step in steps):
                return self._undo_by_steps(connection, order, steps)
            ledger = sql.read_rows(connection)
            # Nothing was written; the restore takes a lock of its own, and looks there whether anybody wrote in between.
            roll_back(connection)
        return self._restore(order, steps, ledger)

    def kept(self, run: str) -> tuple[Kept, ...]:
        """Nothing: what a local down takes away is in the backup that was made before it."""
        return ()

    def quarantined(self) -> tuple[Quarantined, ...]:
        """What lies in `twinstep_quarantine`."""
        with self._asking() as connection:
            return quarantined.read_quarantined(connection)

    def put_back(self, ids: Collection[int], by: str) -> PutBack:
        """In one transaction of its own."""
        with self._changing("quarantine") as connection:
            wanted = [each for each in quarantined.read_quarantined(connection) if each.id in ids and each.put_back_at is None]
            return quarantined.put_back(connection, wanted, by=by, at=stamp())

    def verify(self, work: SideWork, *, integrity: bool = True) -> tuple[str, ...]:
        """The file is sound, the version is the one wanted, and the migration's own check passes."""
        with self._asking() as connection:
            problems = list(integrity_problems(connection)) if integrity else []
            (version,) = connection.execute("PRAGMA main.user_version").fetchone()
            wanted = work.limits.user_version_to
            if wanted is not None and version != wanted:
                problems.append(f"user_version is {version}, not {wanted}")
            if problems:
                raise Refused("T332", migration=work.migration, side=self.side, problem="; ".join(problems))
            return said_by(self._check(work, work.check)) if work.check is not None else ()

    def compare(self, works: Sequence[SideWork]) -> Comparison:
        """Hold the schema and user_version against what the works make of an empty file."""
        from .sqlite_baseline import compare_local

        with self._asking() as connection:
            here = read_fingerprint(connection, content=False, count_rows=False)
        return compare_local(here, works, lambda path: SQLiteTarget(path, backups=self._backups, on_connect=self._on_connect))

    def declare(self, order: Order, before: Sequence[Mapping[str, Json]]) -> None:
        """Write the ledger row of a change that is there already."""
        with self._changing("declare") as connection:
            if sql.read(connection, order.migration).applied_by() is not None:
                roll_back(connection)
                return
            content, was = read_fingerprint(connection).to_text(), note(connection)
            rows = [
                up_row(order, step, token=self._held or "", before={**_began(was, said), DECLARED: True}, content=content)
                for step, said in enumerate(before, start=1)
            ]
            sql.write(connection, (self._head(order), *rows))

    def restore(self, order: RestoreOrder) -> None:
        """Put a backup back, with today's ledger carried over."""
        from .sqlite_restoring import restore_backup

        self.close()  # its own connections would be in the way
        restore_backup(self._path, self._backups, order, on_connect=self._on_connect, probe=self._probe)

    def measure(self, queries: Sequence[Query], *, only_reading: bool = False) -> tuple[Timing, ...]:
        """The plan, and the median of a few runs; whatever a query changes is rolled back, and none can commit it."""
        if not queries:
            return ()
        # A query that writes (and is rolled back) needs a connection that could; without the lock none is opened for it.
        with self._translating("measuring on it"):
            connection = self._writer
            if connection is None or only_reading:
                connection = open_local(self._path, readonly=only_reading, on_connect=self._on_connect)
            try:
                return sqlite_measuring.measure(connection, queries)
            finally:
                if connection is not self._writer:
                    connection.close()

    def measure_again(self, queries: Sequence[Query], backup: Mapping[str, Json] | None) -> Mapping[str, tuple[Round, ...]]:
        """On the backup and on the file, in turns; on the file alone where the backup is gone."""
        path = None if backup is None else Backup.from_json(backup, folder=self._backups.folder).path
        with self._translating("measuring on it"), closing(open_local(self._path, on_connect=self._on_connect)) as connection:
            return sqlite_measuring.measure_again(connection, queries, path, on_connect=self._on_connect)

    # The change

    @contextmanager
    def _changing(self, name: str) -> Iterator[sqlite3.Connection]:
        """The connection that holds the lock, around what is committed together; whatever is raised leaves nothing."""
        self.hold()
        connection = self._held_connection()
        try:
            with self._translating("changing it"):
                yield connection
            if connection.in_transaction:
                self._probe(f"local:{name}:before-commit")
                self._fence()
                commit(connection, self._wait_seconds)
                self._probe(f"local:{name}:after-commit")
        finally:
            self.release()

    def _change(self, connection: sqlite3.Connection, order: Order) -> Changes:
        before = read_catalogue(connection)
        broken = foreign_key_violations(connection)
        noted = note(connection)
        (unit,) = order.work.script.units
        limits = order.work.limits
        look, image = self._as_it_was()
        with accounting(connection, before=look, rows=before.rows, image=image) as account:
            self._run(connection, unit.up, order.work, "T331")
        set_aside = quarantined.sign(connection, migration=order.migration, run_id=order.run)
        changed = read_fingerprint(connection, known=account.unchanged())
        findings = account.settle(limits, changed, migration=order.migration, run=order.run)
        self._refuse_broken(connection, order.work, account, broken)
        content = changed
        if limits.user_version_to is not None:
            connection.execute(f"PRAGMA main.user_version = {limits.user_version_to:d}")
            content = evolve(changed, marks={**changed.marks, "user_version": limits.user_version_to})
        row = up_row(order, 1, token=self._held or "", before=noted, content=content.to_text())
        sql.write(connection, (self._head(order), row))
        changes = before.changes_to(read_catalogue(connection, count_rows=False).with_rows(changed.rows))
        return evolve(changes, rows_quarantined=set_aside, findings=findings)

    def _as_it_was(self) -> tuple[Fingerprint | None, Path | None]:
        """What the change is held against: the look taken under this lock, and the backup made under it."""
        look = self._looked[1] if self._looked is not None and self._looked[0] == self._held else None
        if self._backup is None or self._backed_up != self._held:
            return look, None
        return look, self._backup.path

    def _refuse_broken(
        self, connection: sqlite3.Connection, work: SideWork, account: Accounting, broken: Counter[ForeignKeyViolation]
    ) -> None:
        """Raise Refused (T333) where references are broken that were not before."""
        newly = account.newly_broken(broken, foreign_key_violations(connection))
        if newly:
            examples = ", ".join(
                f"{each.table}({', '.join(each.columns)}) to {each.parent}, row {each.rowid}" for each in list(newly)[:5]
            )
            raise Refused("T333", migration=work.migration, count=newly.total(), examples=examples)

    def _undo_by_steps(self, connection: sqlite3.Connection, order: Order, steps: Sequence[ToUndo]) -> Undone:
        """Run the down steps and put the marks back, in the open transaction. What others wrote is backed up first."""
        found = read_fingerprint(connection)
        others_wrote = steps[0].row.content != found.to_text()
        replaced = None
        # A backup that was made under this very lock holds it already.
        if others_wrote and self._backed_up != self._held:
            replaced = self.back_up(order)
        at = stamp()
        with quarantined.going_back(connection, order.undoes, by=order.run, at=at):
            for step in steps:
                self._run(connection, step.unit.down or (), order.work, "T338")
        # A down can add keys too.
        aside = quarantined.sign(connection, migration=order.migration, run_id=order.run)
        left = tuple(f"going back set {count} rows of {table} aside: they refer to nothing" for table, count in aside.items())
        left += quarantined.put_all_back(connection, order.undoes, by=order.run, at=at)
        for step in steps:
            changed = Fingerprint.from_text(step.row.content)
            put_back(connection, json.loads(step.row.before), changed=changed, found=found)
        after = read_fingerprint(connection)
        undone = Undone(
            others_wrote=others_wrote,
            found=found if others_wrote else None,
            after=after,
            replaced=replaced,
            findings=left,
        )
        rows = [down_row(order, step.row, token=self._held or "", undo=undone.to_json(), after=after) for step in steps]
        sql.write(connection, (self._head(order), *rows))
        return undone

    def _restore(self, order: Order, steps: Sequence[ToUndo], ledger: Sequence[LedgerRow]) -> Undone:
        """Put the backup back, unless somebody wrote since. The ledger is carried over: restoring does not rewind it."""
        if order.backup is None:
            raise Refused("T337", migration=order.migration, step=steps[0].row.step, side=self.side)
        wrote: list[bool] = []
        restored: list[Fingerprint] = []

        def look_who_wrote(connection: sqlite3.Connection) -> None:
            if sql.read_rows(connection) != [*ledger]:
                raise LostLock("T402", side=self.side)
            wrote.append(steps[0].row.content != read_fingerprint(connection).to_text())
            if wrote[0] and not order.discard_writes:
                raise Refused("T336", migration=order.migration)

        def carry_the_ledger_over(scratch: sqlite3.Connection) -> None:
            rows = [row for row in ledger if row.direction != HEAD]
            restored.append(read_fingerprint(scratch))
            undo = Undone(how="restore").to_json()
            undone = [down_row(order, step.row, undo=undo, after=restored[-1]) for step in steps]
            sql.write(scratch, (head_row(pair=order.pair, log=order.log, token=uuid.uuid4().hex), *rows, *undone))

        self.release()
        self._close_reader()
        backup = Backup.from_json(order.backup, folder=self._backups.folder)
        replaced = self._backups.restore(
            backup,
            self._path,
            check=look_who_wrote,
            prepare=carry_the_ledger_over,
            on_connect=self._on_connect,
            probe=self._fenced,
        )
        kept = {**replaced.to_json(), "verified": True}
        return Undone(how="restore", others_wrote=wrote[0], after=restored[-1], replaced=kept)

    def _fenced(self, crossing: str) -> None:
        """The last moment before a restore is final is the one to see whether the remote is still ours."""
        self._probe(crossing)
        if crossing == BEFORE:
            self._fence()

    def _run(self, connection: sqlite3.Connection, steps: Sequence[CompiledStep], work: SideWork, code: str) -> None:
        """Each step in turn, none of which can end the transaction. Raises Refused naming the one that was refused.

        The time is that of all steps together. Raises Refused (T269) when it is over, Blocked (T215, T216) where it is the disk
        that refused.
        """
        deadline = time.monotonic() + work.limits.timeout_seconds
        for step in steps:
            text = step.text if isinstance(step, Statement) else f"{step.name}()"
            with limited_statements(connection, deadline):
                if isinstance(step, Statement):
                    self._execute(connection, work, step.text, code, deadline)
                else:
                    self._call(connection, work, work.compiled.callables[step.name], code, deadline)
            if time.monotonic() > deadline:
                raise self._out_of_time(work, text)

    def _execute(self, connection: sqlite3.Connection, work: SideWork, statement: str, code: str, deadline: float) -> None:
        with guarded(connection) as guard:
            try:
                connection.execute(statement)
            except sqlite3.Error as error:
                # Said inside the guard: some errors (time is over, disk full) end the transaction, and nobody tried to.
                if guard.attempts:
                    raise
                raise self._refusal(error, work, code, statement, deadline) from error

    def _call(
        self, connection: sqlite3.Connection, work: SideWork, function: StepFunction, code: str, deadline: float
    ) -> object:
        # 0.4 s of import, paid only by migrations with functions.
        from ..stores.held_sqlalchemy import sqlalchemy_connection

        name = name_of(function)

        def call() -> object:
            with sqlalchemy_connection(connection) as lent:
                return function(lent)

        try:
            return call_within(deadline - time.monotonic(), call)
        except OutOfTime as error:
            raise self._out_of_time(work, f"{name}()") from error
        except TwinstepError as error:
            driver = getattr(error.__cause__, "orig", error.__cause__)
            if isinstance(error.__cause__, OutOfTime):
                raise self._out_of_time(work, f"{name}()") from error
            if error.code == "T219" and isinstance(driver, sqlite3.Error) and _ended_by_itself(driver):
                raise self._refusal(driver, work, code, f"{name}()", deadline) from error
            raise
        except (Exception, SystemExit) as error:  # a host's function may raise anything: it is one refusal, with its cause
            raise self._refusal(getattr(error, "orig", None) or error, work, code, f"{name}()", deadline) from error

    def _check(self, work: SideWork, check: StepFunction) -> object:
        # A connection of its own: whatever the check does to it, the file cannot be changed, and no lock is lost.
        connection = open_local(self._path, readonly=True, on_connect=self._on_connect)
        try:
            connection.execute("BEGIN")
            deadline = time.monotonic() + work.limits.timeout_seconds
            with limited_statements(connection, deadline):
                return self._call(connection, work, check, "T332", deadline)
        finally:
            roll_back(connection)
            connection.close()

    def _refuse_pending(self, connection: sqlite3.Connection, work: SideWork, query: str) -> None:
        try:
            (count,) = connection.execute(query).fetchone()
        except (sqlite3.Error, TypeError, ValueError) as error:
            raise DefinitionError("T341", query=query, migration=work.migration, side=self.side, problem=error) from error
        if count:
            raise Blocked("T202", migration=work.migration, count=count, query=query)

    # Connections and errors

    @contextmanager
    def _asking(self) -> Iterator[sqlite3.Connection]:
        """The connection that holds the lock, or a read-only one."""
        if self._writer is None and self._reader is None:
            self._reader = open_to_read(self._path, on_connect=self._on_connect)
        connection = self._writer if self._writer is not None else self._reader
        assert connection is not None
        with self._translating("reading it"):
            yield connection

    @contextmanager
    def _translating(self, doing: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise translate(error, path=str(self._path), doing=doing) from error

    def _held_connection(self) -> sqlite3.Connection:
        assert self._writer is not None
        return self._writer

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader = None

    def _head(self, order: Order) -> LedgerRow:
        return head_row(pair=order.pair, log=order.log, token=self._held or "")

    def _refusal(self, error: BaseException, work: SideWork, code: str, statement: str, deadline: float) -> TwinstepError:
        if isinstance(error, sqlite3.Error):
            primary = primary_code(error)
            if primary == sqlite3.SQLITE_INTERRUPT and time.monotonic() > deadline:
                return self._out_of_time(work, statement)
            if primary in DISK:  # nothing is wrong with the statement
                return translate(error, path=str(self._path), doing=f"running a step of {work.migration}")
        problem = error if isinstance(error, sqlite3.Error) else f"{type(error).__name__}: {error}"
        return Refused(code, migration=work.migration, side=self.side, problem=problem, statement=_short(statement))

    def _out_of_time(self, work: SideWork, statement: str) -> Refused:
        seconds, key = work.limits.timeout_seconds, "[local] timeout"
        return Refused("T269", migration=work.migration, side=self.side, seconds=seconds, key=key, statement=_short(statement))


def _began(was: Mapping[str, Json], said: Mapping[str, Json]) -> dict[str, Json]:
    """The marks from which a declared step is taken to have begun: those of now, apart from the version that is said."""
    marks = was["marks"]
    assert isinstance(marks, Mapping)
    return {**was, "marks": {**marks, **said}}


def _short(statement: str) -> str:
    line = " ".join(statement.split())
    return cut_short(line, 200)


def _ended_by_itself(error: sqlite3.Error) -> bool:
    """Whether it is one of the errors after which SQLite has rolled the whole transaction back."""
    return primary_code(error) in (sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM)
