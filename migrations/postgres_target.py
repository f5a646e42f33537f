"""The remote side: a PostgreSQL database that others use while it is changed.

One session does everything: it holds the advisory lock of all coordinators, and runs every step. It is opened when first
needed and never replaced by itself; when it is lost, nobody knows what its last statement did (InDoubt), and whoever calls
again gets a new session and reads the ledger.

A transactional group commits together with its ledger row. A single statement's row is committed first, as open, with what
was there before; then the statement; then the row as done. DDL waits for locks only as long as the definition says, and is
then tried again as a whole, with a pause, because everybody else queues behind a waiting ALTER.

Read next: `postgres_ledger.py`, `concurrent.py` (single statements), `stores/remote_connection.py`.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING

import psycopg
from attrs import evolve

from ..events.cut_short import cut_short
from ..events.errors import Blocked, DefinitionError, InDoubt, LostLock, Refused, TwinstepError
from ..events.types import Json
from ..stores.patience import Patience
from ..stores.remote_connection import (
    end_session,
    is_ended,
    is_lost,
    open_remote,
    reads_as_standard,
    refuse_unfit_remote,
    shown,
)
from ..stores.remote_lock import holds_lock, take_lock
from ..stores.seam import Probe, no_probe
from . import postgres_ledger as sql
from . import postgres_measuring
from .accounting.loss import refusal
from .build_progress import watching
from .catalogue import Catalogue, Changes, Fingerprint, Schema
from .concurrent import SingleStatement, parse_single
from .concurrent_index import CreateIndex, DropIndex
from .definition import Query, SideName, StepFunction, name_of
from .functions import said_by
from .kept import Kept
from .ledger import DECLARED, DONE, OBJECTS, OPEN, SideLedger
from .passing import IN_THE_WAY
from .postgres_accounting import count_rows, losses, names_outside, row_findings, rows_changed
from .postgres_catalogue import read_catalogue, read_fingerprint, read_schema
from .postgres_keeping import read_kept, run_keeping
from .postgres_sequences import KeptSequences
from .script import CallableStep, CompiledStep, Unit
from .sql import Statement
from .steps import Due, ToUndo, confirm_row, down_row, due_units, head_row, refuse_if_relied_on, units_to_undo, up_row
from .target import Comparison, Timing, Undone, Whole
from .work import Order, SideWork

if TYPE_CHECKING:
    from ..stores.remote_connection import Remote
    from ..stores.watched_connection import WatchedConnection
    from .concurrent_session import Tick
    from .measuring import Round
    from .quarantined import PutBack, Quarantined
    from .work import RestoreOrder

MEASURE_SECONDS = 30

# Of a query: others were in its way, it took too long, or it writes where nothing may be written.
UNMEASURED = (*IN_THE_WAY, psycopg.errors.QueryCanceled, psycopg.errors.ReadOnlySqlTransaction)
# PostgreSQL's words for "not in a transaction block" and "this procedure may not end the transaction".
NOT_IN_A_TRANSACTION = (psycopg.errors.ActiveSqlTransaction, psycopg.errors.InvalidTransactionTermination)


class PostgresTarget:
    """The remote side of a pair. See `target.py` for what the methods promise."""

    side: SideName = "remote"
    measures = True
    _keeps_owned_only = True

    def __init__(
        self,
        url: str,
        *,
        wait_seconds: float = 0.0,
        patience: Patience | None = None,
        changes: bool = True,
        is_pair: bool = False,
        doing: str = "change it",
        probe: Probe = no_probe,
    ) -> None:
        self._url = url
        self._doing = doing
        self._wait_seconds = wait_seconds
        self._patience = patience or Patience(30.0)
        self._changes = changes
        self._is_pair = is_pair
        self._probe = probe
        self._open: WatchedConnection | None = None
        self._left: tuple[int, str] | None = None
        self._heard: list[str] = []
        self._sequences = KeptSequences()
        self._held: str | None = None
        self._fenced = False
        # The tokens that the head may bear while nobody else has changed anything since the lock was first taken.
        self._ours: set[str] = set()

    @property
    def held(self) -> str | None:
        """The token of the advisory lock that is held."""
        return self._held

    def hold(self) -> str:
        """Take the advisory lock of this database on this target's session."""
        connection = self._connection()
        if self._held is None:
            with self._asking(""):
                refuse_unfit_remote(connection, self._url)
                take_lock(connection, self._wait_seconds)
                found = sql.token(connection)
            if self._ours and found not in self._ours:
                self._let_go()
                raise LostLock("T402", side=self.side)
            self._ours.add(found)
            self._held = uuid.uuid4().hex
            self._fenced = False
        return self._held

    def hold_again(self) -> None:
        """Where the session was lost with the lock: a new one, if nobody has changed anything meanwhile."""
        if self._ours:
            self.hold()

    def check_held(self, *, asking: bool = False) -> None:
        """See that the session that holds the lock has not ended."""
        if self._held is None:
            if self._ours:  # taken, and never let go of: its session was found ended by whoever asked something
                raise LostLock("T404", side=self.side)
            return
        if self._open is None or is_ended(self._open) or (asking and not self._asked_whether_held()):
            self.close()
            raise LostLock("T404", side=self.side)

    def _asked_whether_held(self) -> bool:
        try:
            return self._open is not None and holds_lock(self._open)
        except psycopg.Error:
            return False

    def release(self) -> None:
        """End the session, and its lock with it: the one way that leaves nothing to chance."""
        self._let_go()
        self._ours = set()

    def _let_go(self) -> None:
        # A server under load ends a session some time after its client has: who comes next would find the lock still held.
        with suppress(psycopg.Error):
            if self._open is not None and self._open.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
                self._open.execute(b"SELECT pg_advisory_unlock_all()")
                self._held = None
        self.close()

    def close(self) -> None:
        """End the session. The server may hear of it late, or never: the next one sees to it that it is gone."""
        if self._open is not None:
            self._left = self._open.backend if self._held is not None else None
            with suppress(psycopg.Error):
                self._open.close()
        self._open = None
        self._held = None

    def ledger(self, migration: str) -> SideLedger:
        """The ledger's rows of this migration."""
        with self._asking(migration) as connection:
            return sql.read(connection, migration)

    def whole(self) -> Whole:
        """The head and all rows."""
        with self._asking("") as connection:
            return sql.read_whole(connection)

    def look(self, work: SideWork, *, content: bool) -> Fingerprint:
        """The catalogue of the named schemas. Rows of a remote are never read: others write them all the time."""
        with self._asking(work.migration) as connection:
            return read_fingerprint(connection, work.limits.schemas)

    def schema(self, schemas: Sequence[str]) -> Schema:
        """The catalogue of these schemas, in a transaction that cannot write and waits for nobody's lock for long."""
        with self._asking("") as connection:
            try:
                connection.execute(_BEGIN_LOOK)
                return read_schema(connection, schemas)
            except (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled) as error:
                raise Blocked("T272", url=shown(self._url), problem=error.diag.message_primary or error) from error
            finally:
                self._abandon(connection)

    def validate(self, work: SideWork, *, back: bool) -> None:
        """A server that can be worked on and written to, and the rights for a ledger.

        Raises Blocked: T222, T223, T264, T265.
        """
        with self._asking(work.migration) as connection:
            refuse_unfit_remote(connection, self._url)
            row = connection.execute(_CIRCUMSTANCES).fetchone()
        assert row is not None
        standby, readonly, missing, role = row
        if standby or readonly == "on":
            problem = "it is a standby, which follows another server" if standby else "sessions begin read-only there"
            raise Blocked("T222", url=shown(self._url), problem=problem)
        if self._changes and missing:
            raise Blocked("T223", url=shown(self._url), role=role, missing=missing)

    def back_up(self, order: Order) -> Mapping[str, Json] | None:
        """None: a shared remote is never restored; its changes are taken back by down steps."""
        return None

    def apply(self, order: Order) -> Changes:
        """Run the units that are due, first to last."""
        self.hold()
        with self._asking(order.migration) as connection:
            before = read_catalogue(connection, order.work.limits.schemas)
            rows = count_rows(connection, before)
            due_now = due_units(order, sql.read(connection, order.migration))
        if due_now:
            self._make_ledger(order)
        for due in due_now:
            if due.unit.kind == "single":
                self._run_single(order, due)
            else:
                self._run_group(order, due)
        with self._asking(order.migration) as connection:
            after = read_catalogue(connection, order.work.limits.schemas)
            now = count_rows(connection, after)
        changes = before.changes_to(after)
        return evolve(changes, rows=rows_changed(rows, now), findings=tuple(row_findings(rows, now)))

    def confirm(self, order: Order, by: str) -> None:
        """Add the confirmation row; a role without the right to do so relies on the change all the same."""
        if not self._changes and not self._may_write():
            return
        self._make_ledger(order)
        self._transaction(order, "confirm", lambda connection: sql.write(connection, (confirm_row(order, by),)))

    def _may_write(self) -> bool:
        """Whether this role may write into the ledger that is there."""
        with self._asking("") as connection:
            row = connection.execute(_MAY_WRITE).fetchone()
        return row is not None and bool(row[0])

    def undo(self, order: Order) -> Undone:
        """Take the standing steps back, last first, and then the confirmations."""
        self.hold()
        ledger = self.ledger(order.migration)
        refuse_if_relied_on(order, ledger)
        steps = units_to_undo(order, ledger)
        rows = [down_row(order, row) for row in ledger.confirming(order.undoes)]
        if steps or rows:
            self._make_ledger(order)
        for step in steps:
            self._undo_step(order, step)
        if rows:
            self._transaction(order, "undo", lambda connection: sql.write(connection, rows))
        return Undone(how="down")

    def kept(self, run: str) -> tuple[Kept, ...]:
        """What the register says that this run's downs took away, and where it is."""
        with self._asking("") as connection:
            return read_kept(connection, run)

    def quarantined(self) -> tuple[Quarantined, ...]:
        """Nothing: on the remote a row that violates a new key refuses the step."""
        return ()

    def put_back(self, ids: Collection[int], by: str) -> PutBack:
        """Nothing lies there that could be put back."""
        raise AssertionError("the remote side has no quarantine")

    def verify(self, work: SideWork, *, integrity: bool = True) -> tuple[str, ...]:
        """The migration's own check, in a transaction that is rolled back, and the validity of every index."""
        with self._asking(work.migration) as connection:
            catalogue = read_catalogue(connection, work.limits.schemas)
        invalid = {found.name for found in catalogue.objects.values() if found.kind == "index" and not found.valid}
        built = _indexes_built(work)
        ours = sorted(name for name in invalid if name.rpartition(".")[2] in built)
        if ours:
            raise Refused("T332", migration=work.migration, side=self.side, problem=f"invalid indexes: {', '.join(ours)}")
        said = said_by(self._check(work, work.check)) if work.check is not None else ()
        # Somebody may be building one right now, or it waits for its partitions: no reason to take anything back.
        return (*said, *(f"the index {name} on the remote is invalid" for name in sorted(invalid)))

    def compare(self, works: Sequence[SideWork]) -> Comparison:
        """Hold the named schemas against what the works make of empty ones, in a transaction that is rolled back."""
        from .postgres_baseline import compare_remote

        def run(connection: Remote, unit: Unit, order: Order) -> None:
            self._run(connection, unit.up, order, "T331")

        with self._asking("the migrations") as connection:
            return compare_remote(self._url, connection, works, run, lambda url: PostgresTarget(url, patience=self._patience))

    def declare(self, order: Order, before: Sequence[Mapping[str, Json]]) -> None:
        """Write the ledger rows of a change that is there already."""
        self.hold()
        if self.ledger(order.migration).applied_by() is not None:
            return
        self._make_ledger(order)
        token = self._held or ""
        rows = [up_row(order, step, token=token, before={**said, DECLARED: True}) for step, said in enumerate(before, start=1)]
        self._transaction(order, "declare", lambda connection: sql.write(connection, rows))

    def restore(self, order: RestoreOrder) -> None:
        """Nobody restores a shared remote."""
        raise AssertionError("a remote is never restored")

    def measure(self, queries: Sequence[Query], *, only_reading: bool = False) -> tuple[Timing, ...]:
        """The plan, and the median of a few runs, each in a transaction that is rolled back."""
        return postgres_measuring.measure(queries, lambda query, ask: self._measured(query, ask, only_reading=only_reading))

    def measure_again(self, queries: Sequence[Query], backup: Mapping[str, Json] | None) -> Mapping[str, tuple[Round, ...]]:
        """Three rounds of now: how it was before cannot be asked of a shared database any more."""
        return postgres_measuring.measure_again(queries, lambda query, ask: self._measured(query, ask, only_reading=False))

    # One step

    def _run_group(self, order: Order, due: Due) -> None:
        runs_functions = any(isinstance(step, CallableStep) for step in due.unit.up)
        row = up_row(order, due.step, token=self._held or "")

        def work(connection: Remote) -> None:
            if runs_functions:
                sql.write(connection, (evolve(row, state=sql.RUNNING),))
            before = read_catalogue(connection, order.work.limits.schemas)
            self._heard.clear()
            self._run(connection, due.unit.up, order, "T331")
            if not sql.is_whole(connection, self._held or ""):
                raise Refused("T219", problem="to change Twinstep's ledger")
            after = read_catalogue(connection, order.work.limits.schemas)
            declared = order.work.limits.objects_removed
            lost = losses(before, after, self._heard, declared=declared, outside=self._names_outside)
            if lost:
                raise refusal(order.migration, lost)
            touched = before.touched_until(after)
            sql.write(connection, (evolve(row, before=json.dumps({OBJECTS: touched})),))

        self._transaction(order, "group", work, runs_functions=runs_functions)

    def _names_outside(self) -> frozenset[str]:
        """What is there for others, who do not see what the open transaction has dropped."""
        with closing(open_remote(self._url)) as beside:
            return names_outside(beside)

    def _run_single(self, order: Order, due: Due) -> None:
        statement = self._single(due.unit, order)
        catalogue: Catalogue | None = None
        if due.open_row is None:
            with self._asking(order.migration) as connection:
                before = statement.look(connection)
                catalogue = read_catalogue(connection, order.work.limits.schemas)
            row = up_row(order, due.step, state=OPEN, token=self._held or "", before=before)
            self._transaction(order, "open", lambda connection: sql.write(connection, (row,)))
        else:
            row = due.open_row
        self._probe("remote:single:before")
        limit, before = order.work.limits.timeout_seconds, json.loads(row.before)
        self._alone(
            order,
            lambda connection, tick: statement.run(connection, before, statement_timeout_seconds=limit, tick=tick),
        )
        self._probe("remote:single:after")
        if catalogue is not None:
            # Of a statement that was taken up again after a crash it is not known: what came before it is gone.
            with self._asking(order.migration) as connection:
                touched = catalogue.touched_until(read_catalogue(connection, order.work.limits.schemas))
            if isinstance(statement, CreateIndex | DropIndex):
                # Such a statement may take hours, and what others did meanwhile is seen too: it touched an index, no more.
                touched = [key for key in touched if key.startswith(("index ", "comment index "))]
            row = evolve(row, before=json.dumps({**json.loads(row.before), OBJECTS: touched}, sort_keys=True))
        done = evolve(row, state=DONE)
        self._transaction(order, "done", lambda connection: sql.write(connection, (done,)))

    def _undo_step(self, order: Order, step: ToUndo) -> None:
        row, unit = step.row, step.unit
        undone = down_row(order, row, token=self._held or "")
        if unit.down is None:
            self._invert(order, step)

        runs_functions = any(isinstance(step, CallableStep) for step in unit.down or ())

        def work(connection: Remote) -> None:
            if runs_functions:
                sql.write(connection, (evolve(undone, state=sql.RUNNING),))
            if unit.down:
                down = partial(self._run, connection, unit.down, order, "T338")
                run_keeping(connection, down, migration=order.migration, run=order.run, step=row.step)
            sql.write(connection, (undone,))

        self._transaction(order, "undo", work, runs_functions=runs_functions)

    def _invert(self, order: Order, step: ToUndo) -> None:
        """Take back what has no down of its own: a single statement by its built-in inverse. Raises Refused (T337)."""
        if step.unit.kind != "single":
            raise Refused("T337", migration=order.migration, step=step.row.step, side=self.side)
        statement = self._single(step.unit, order)
        if not statement.reversible:
            return  # marked by hand: what it did is for the down of a neighbouring group to take back
        self._probe("remote:single-undo:before")
        limit, before = order.work.limits.timeout_seconds, json.loads(step.row.before)
        self._alone(
            order,
            lambda connection, tick: statement.undo(connection, before, statement_timeout_seconds=limit, tick=tick),
        )
        self._probe("remote:single-undo:after")

    def _watched(self, order: Order) -> AbstractContextManager[Tick]:
        """While a single statement runs: how far it is, for whoever has given the order."""
        beside = partial(open_remote, self._url, connect_seconds=2)
        return watching(self._connection().info.backend_pid, beside, order.progress)

    def _single(self, unit: Unit, order: Order) -> SingleStatement:
        (step,) = unit.up
        assert isinstance(step, Statement)
        ask: Callable[[Remote], bool] | None = None
        if unit.probe is not None:
            function = order.work.compiled.callables[unit.probe]

            def ask(connection: Remote) -> bool:
                return bool(self._ask(order.work, function))

        return parse_single(step.text, probe=ask)

    def _run(self, connection: Remote, steps: Sequence[CompiledStep], order: Order, code: str) -> None:
        for step in steps:
            text = step.text if isinstance(step, Statement) else f"{step.name}()"
            began = time.monotonic()
            try:
                if isinstance(step, Statement):
                    if not reads_as_standard(connection):
                        problem = "a step before it has switched standard_conforming_strings off"
                        raise Refused(code, migration=order.migration, side=self.side, problem=problem, statement=_short(text))
                    self._hear(step.text)
                    connection.execute(step.text.encode(), prepare=False)
                else:
                    self._call(order.work.compiled.callables[step.name], connection, order.work, code)
            except IN_THE_WAY:
                raise
            except psycopg.errors.IdleInTransactionSessionTimeout as error:
                raise self._idled(order, text) from error
            except psycopg.errors.QueryCanceled as error:
                limit = order.work.limits.timeout_seconds
                if time.monotonic() - began < limit:  # somebody has cancelled it by hand
                    raise self._refusal(error, order.migration, code, text) from error
                raise self._out_of_time(order.migration, limit, text) from error
            except psycopg.Error as error:
                raise self._refusal(error, order.migration, code, text) from error

    def _hear(self, text: str) -> None:
        """Before a statement of a step is run."""
        self._heard.append(text)
        self._sequences.before(self._connection(), text, owned_only=self._keeps_owned_only)

    def _call(self, function: StepFunction, connection: Remote, work: SideWork, code: str) -> object:
        """Run a function inside the open transaction, which it cannot end; whatever it raises is a refusal."""
        from ..stores.remote_guard import sqlalchemy_connection

        name = name_of(function)
        try:
            with sqlalchemy_connection(connection, heard=self._hear) as lent:
                result = function(lent)
        except (TwinstepError, psycopg.Error):
            raise
        except (Exception, SystemExit) as error:  # a host's function may raise anything: it is one refusal, with its cause
            if isinstance(error.__cause__, psycopg.errors.IdleInTransactionSessionTimeout):
                raise error.__cause__ from error
            if is_lost(connection, error.__cause__):
                raise self._in_doubt(error, work.migration) from error
            original = getattr(error, "orig", None)
            if isinstance(original, psycopg.Error):  # of SQLAlchemy's errors the driver's own says what happened
                raise original from error
            problem = f"{type(error).__name__}: {error}"
            raise Refused(code, migration=work.migration, side=self.side, problem=problem, statement=f"{name}()") from error
        if connection.info.transaction_status == psycopg.pq.TransactionStatus.INERROR:
            problem = "it went on after an error that had ended its transaction"
            raise Refused(code, migration=work.migration, side=self.side, problem=problem, statement=f"{name}()")
        return result

    # Transactions

    def _transaction(self, order: Order, name: str, work: Callable[[Remote], object], *, runs_functions: bool = False) -> None:
        """One fenced transaction; tried again as a whole while others are in its way, within the limit."""

        def fenced(connection: Remote) -> None:
            sql.fence(connection, self._held or "")
            work(connection)

        self._tried(order, name, fenced, runs_functions=runs_functions)
        self._patience.done()

    def _tried(self, order: Order, name: str, work: Callable[[Remote], object], *, runs_functions: bool = False) -> None:
        was_in_trouble = self._patience.in_trouble
        while True:
            try:
                with self._unwritable_outside() if runs_functions else nullcontext():
                    self._once(order, name, work)
            except IN_THE_WAY as error:
                if not self._patience.wait():
                    raise self._refusal(error, order.migration, "T338" if name == "undo" else "T331", name) from error
            else:
                break
        if not was_in_trouble:
            self._patience.done()

    def _once(self, order: Order, name: str, work: Callable[[Remote], object]) -> None:
        connection = self._connection()
        limits = order.work.limits
        try:
            begin = _BEGIN.replace("BEGIN;", "BEGIN READ WRITE;")
            connection.execute(begin.format(lock=limits.lock_timeout_seconds, statement=limits.timeout_seconds).encode())
            work(connection)
            self._probe(f"remote:{name}:before-commit")
            connection.execute(b"COMMIT")
        except BaseException as error:
            self._abandon(connection)
            if isinstance(error, psycopg.errors.IdleInTransactionSessionTimeout):
                raise self._idled(order, name) from error
            if not isinstance(error, psycopg.Error) or isinstance(error, IN_THE_WAY):
                raise
            raise self._refusal(error, order.migration, "T331", "COMMIT") from error
        self._probe(f"remote:{name}:after-commit")

    @contextmanager
    def _unwritable_outside(self) -> Iterator[None]:
        """Around a transaction in which functions run: one that ends it by the driver finds itself where nothing can be
        written, not in autocommit, whose rows would stay without their ledger row."""
        connection = self._connection()
        try:
            connection.execute(b"SET default_transaction_read_only = on")
            yield
        finally:
            with suppress(psycopg.Error):
                connection.execute(b"RESET default_transaction_read_only")

    def _abandon(self, connection: Remote) -> None:
        """Roll back what is open. The error that led here is worth more than one from the rollback."""
        with suppress(psycopg.Error):
            if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                connection.execute(b"ROLLBACK")
        if connection.closed:
            self.close()

    def _make_ledger(self, order: Order) -> None:
        """Once per lock: the ledger is there, and its head holds our token."""
        token = self.hold()
        if self._fenced:
            return
        # Where the remote is a pair by itself its head bears that pair's id; else an id of its own, which all devices share.
        head = head_row(pair=order.pair if self._is_pair else str(uuid.uuid4()), log=order.log, token=token)
        self._ours.add(token)
        self._tried(order, "ledger", lambda connection: sql.make(connection, head))
        self._ours = {token}
        self._fenced = True

    def _check(self, work: SideWork, check: StepFunction) -> object:
        try:
            with self._only_reading(work) as connection:
                return self._call(check, connection, work, "T332")
        except psycopg.Error as error:
            raise self._refusal(error, work.migration, "T332", "check_remote()") from error

    def _ask(self, work: SideWork, function: StepFunction) -> object:
        """What a probe of the migration's own says."""
        with self._only_reading(work) as connection:
            return self._call(function, connection, work, "T331")

    @contextmanager
    def _only_reading(self, work: SideWork) -> Iterator[Remote]:
        """A transaction that cannot write, and neither could one that somebody begins in its place."""
        connection = self._connection()
        try:
            connection.execute(b"SET default_transaction_read_only = on")
            limits = work.limits
            connection.execute(_BEGIN.format(lock=limits.lock_timeout_seconds, statement=limits.timeout_seconds).encode())
            yield connection
        finally:
            self._abandon(connection)
            with suppress(psycopg.Error):
                connection.execute(b"RESET default_transaction_read_only")

    def _measured(self, query: Query, ask: Callable[[Remote], object], *, only_reading: bool) -> object:
        """None where others are in its way, it takes too long, or it writes and may not: no fault of the migration."""
        connection = self._connection()
        try:
            connection.execute(_BEGIN.format(lock=5, statement=MEASURE_SECONDS).encode())
            if only_reading:
                connection.execute(b"SET TRANSACTION READ ONLY")
            found = ask(connection)
            connection.execute(b"ROLLBACK")
        except psycopg.Error as error:
            self._abandon(connection)
            if is_lost(connection, error):
                raise self._in_doubt(error, query.name) from error
            if isinstance(error, UNMEASURED):
                return None
            problem = error.diag.message_primary or str(error)
            raise DefinitionError("T341", query=query.name, migration="", side=self.side, problem=problem) from error
        return found

    # The session and its errors

    def _connection(self) -> Remote:
        if self._open is None:
            opened = open_remote(self._url, doing=self._doing)
            try:
                if self._left is not None:
                    end_session(opened, self._url, self._left)
            except TwinstepError:
                opened.close()
                raise
            self._open, self._left = opened, None
        return self._open

    @contextmanager
    def _asking(self, migration: str) -> Iterator[Remote]:
        """A question that changes nothing; a lost session is InDoubt all the same, for the caller must begin anew."""
        connection = self._connection()
        try:
            yield connection
        except InDoubt:
            self.close()
            raise
        except psycopg.errors.InsufficientPrivilege as error:
            raise Blocked("T224", url=shown(self._url), role=connection.info.user) from error
        except psycopg.Error as error:
            raise self._refusal(error, migration, "T331", "a question of Twinstep's own") from error

    def _alone(self, order: Order, action: Callable[[Remote, Tick], None]) -> None:
        """Run or undo a single statement, from whichever state it is in; again while others are in its way."""
        while True:
            try:
                with self._statement(order.migration), self._watched(order) as tick:
                    return action(self._connection(), tick)
            except Refused as refused:
                if not isinstance(refused.__cause__, IN_THE_WAY) or not self._patience.wait():
                    raise

    @contextmanager
    def _statement(self, migration: str) -> Iterator[None]:
        """Around a single statement: a lost session takes its lock with it."""
        try:
            yield
        except InDoubt:
            self.close()
            raise
        except psycopg.Error as error:
            raise self._refusal(error, migration, "T331", "a single statement") from error

    def _refusal(self, error: psycopg.Error, migration: str, code: str, statement: str) -> TwinstepError:
        connection = self._open
        if connection is None or is_lost(connection, error):
            return self._in_doubt(error, migration)
        problem = f"{error.diag.message_primary or error} (SQLSTATE {error.sqlstate})"
        if error.sqlstate == sql.ENDED_BY_FUNCTION:
            return Refused("T219", migration=migration, side=self.side, problem="to end the transaction")
        if isinstance(error, NOT_IN_A_TRANSACTION):
            return Refused("T340", migration=migration, problem=problem, statement=_short(statement))
        if isinstance(error, psycopg.errors.InsufficientPrivilege):
            role, url = connection.info.user, shown(self._url)
            words = {"role": role, "url": url, "problem": problem, "statement": _short(statement)}
            return Refused("T268", migration=migration, side=self.side, **words)
        return Refused(code, migration=migration, side=self.side, problem=problem, statement=_short(statement))

    def _idled(self, order: Order, text: str) -> Refused:
        """A function kept its transaction open without a statement for too long, and the server ended the session: nothing of
        it stands, and nobody is kept waiting by its locks any more."""
        self.close()
        return self._out_of_time(order.migration, order.work.limits.timeout_seconds, text)

    def _out_of_time(self, migration: str, seconds: float, statement: str) -> Refused:
        key = "[remote] statement_timeout"
        return Refused("T269", migration=migration, side=self.side, seconds=seconds, key=key, statement=_short(statement))

    def _in_doubt(self, error: BaseException, migration: str) -> InDoubt:
        self.close()
        problem = " ".join(str(error).split())
        return InDoubt("T391", side=self.side, migration=migration or "the migrations", problem=problem)


# The rights for a ledger: to make it where it is not there yet, else to write to it (FOR SHARE asks for UPDATE).
_MAY_WRITE = """
SELECT coalesce(has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
    AND has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE'), false)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'twinstep' AND c.relname = 'ledger'
"""

_CIRCUMSTANCES = """
SELECT pg_is_in_recovery(), current_setting('transaction_read_only'), CASE
    WHEN to_regnamespace('twinstep') IS NULL THEN
        CASE WHEN NOT has_database_privilege(current_database(), 'CREATE')
            THEN format('CREATE ON DATABASE %I', current_database()) END
    WHEN NOT has_schema_privilege('twinstep', 'USAGE') THEN 'USAGE ON SCHEMA twinstep'
    WHEN to_regclass('twinstep.ledger') IS NULL THEN
        CASE WHEN NOT has_schema_privilege('twinstep', 'CREATE') THEN 'CREATE ON SCHEMA twinstep' END
    WHEN NOT (has_table_privilege('twinstep.ledger', 'SELECT') AND has_table_privilege('twinstep.ledger', 'INSERT')
        AND has_table_privilege('twinstep.ledger', 'UPDATE')) THEN 'SELECT, INSERT, UPDATE ON twinstep.ledger'
    END, current_user
"""

_BEGIN_LOOK = b"""
BEGIN READ ONLY;
SET LOCAL lock_timeout = '2s';
SET LOCAL statement_timeout = '30s';
"""

_BEGIN = """
BEGIN;
SET LOCAL lock_timeout = '{lock}s';
SET LOCAL statement_timeout = '{statement}s';
SET LOCAL idle_in_transaction_session_timeout = '{statement}s';
SET LOCAL synchronous_commit = 'on';
"""


def _indexes_built(work: SideWork) -> set[str]:
    """The names of the indexes that the side builds outside a transaction, as far as they can be read from its text."""
    names = set()
    for unit in work.script.units:
        for step in unit.up:
            if unit.kind == "single" and unit.probe is None and isinstance(step, Statement):
                statement = parse_single(step.text)
                if isinstance(statement, CreateIndex):
                    name = statement.name
                    names.add(name[1:-1].replace('""', '"') if name.startswith('"') else name.lower())
    return names


def _short(statement: str) -> str:
    line = " ".join(statement.split())
    return cut_short(line, 200)
