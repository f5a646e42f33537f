"""Steps of a migration inside a transaction that will be rolled back: the real target's code, without its commits.

Each unit runs in a savepoint, so that what is refused leaves the units before it standing. A statement that cannot run in a
transaction is looked up instead, and (an index that is built) tried on an empty copy of its table. Functions, checks and
queries cannot commit: a ledger row is `running` meanwhile, and a deferred trigger refuses COMMIT; should one roll the
transaction back, the session behind it is read-only.

Read next: `postgres.py` (who calls this), `postgres_target.py`, `postgres_left_out.py`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Final

import psycopg
from attrs import evolve

from ...events.errors import DefinitionError, InDoubt, Refused, TwinstepError
from ...stores.seam import Probe, no_probe
from .. import postgres_ledger as sql
from ..concurrent_index import CreateIndex, DropIndex
from ..concurrent_partition import DetachPartition
from ..concurrent_session import shortened, text_of
from ..concurrent_upkeep import Marked
from ..definition import Query
from ..ledger import UP, LedgerRow
from ..passing import IN_THE_WAY
from ..postgres_target import PostgresTarget
from ..script import CallableStep, CompiledStep, Unit
from ..sql import Statement
from ..steps import down_row, head_row, up_row
from ..target import Timing
from ..work import SideWork
from .postgres_budget import Budget, OverBudget
from .postgres_left_out import EXISTING_ROWS, LeftOut, only_because
from .postgres_traces import defer, deferred, enum_values, locks, relations, stronger
from .rehearsing import Part, PartRehearsal, RehearsedStep

if TYPE_CHECKING:
    from ...events.types import Json
    from ...stores.remote_connection import Remote
    from ..concurrent import SingleStatement

TOKEN: Final = "rehearsal"
# How the server ends what takes longer than it may: a statement, or a session that waits for its client.
CUT_OFF: Final = (psycopg.errors.QueryCanceled, psycopg.errors.IdleInTransactionSessionTimeout)

Predicted = tuple[str, str]
"""What a statement that was looked up would do to the catalogue: "added" or "dropped", and the object's key."""


class NotRehearsed(Exception):
    """Why something could not be tried; nobody's fault."""


class Inside(PostgresTarget):
    """A session whose transaction is never committed. It takes no lock of coordinators."""

    _keeps_owned_only = False

    def __init__(self, url: str, *, probe: Probe = no_probe) -> None:
        super().__init__(url, probe=probe)
        self.budget = Budget()
        self.left_out: list[LeftOut] = []
        self.held_seconds = 0.0
        self._known: dict[int, str] = {}
        self._locks: dict[str, str] = {}
        self._values: dict[int, str] = {}
        self._flushed = False
        self._deferred: set[str] = set()
        self._text = ""

    @property
    def connection(self) -> Remote:
        """The session's connection. Raises Unreachable (T221)."""
        return self._connection()

    @property
    def is_open(self) -> bool:
        """Whether the transaction is still the one that was begun: a function may have ended it."""
        if self._open is None or self._open.closed:
            return False
        return self._open.info.transaction_status != psycopg.pq.TransactionStatus.IDLE

    @contextmanager
    def asking(self, migration: str) -> Iterator[Remote]:
        """A question of ours inside the transaction. Raises OverBudget where it took too long, or others were in its way."""
        try:
            with self._asking(migration) as connection:
                yield connection
        except Refused as error:
            if isinstance(error.__cause__, (*IN_THE_WAY, psycopg.errors.QueryCanceled)):
                raise OverBudget from error
            raise

    def begin(self) -> None:
        """Open the transaction. Nothing is locked yet that anybody waits for."""
        with self._asking("") as connection:
            # Whoever rolls our transaction back behind our back goes on in one that cannot write.
            connection.execute(b"SET default_transaction_read_only = on")
            connection.execute(b"BEGIN READ WRITE")
            self._known = relations(connection)
            self._values = enum_values(connection)

    def begin_part(self, part: Part, *, head_pair: str) -> None:
        """Start the clock of a part, and make the ledger where there is none: rights that are missing show."""
        with self.asking(part.order.migration) as connection:
            if self.budget.begin(part.budget_seconds):
                self.budget.limit(connection)
            self.arm()
            row = connection.execute("SELECT to_regclass('twinstep.ledger') IS NULL").fetchone()
            if row is not None and row[0]:
                sql.make(connection, head_row(pair=head_pair, log=part.order.log, token=TOKEN))

    def roll_back(self) -> None:
        """End the transaction, and with it every lock."""
        if self._open is not None:
            self._abandon(self._open)
        self.held_seconds = self.budget.held()

    def arm(self, *, at_most: float | None = None, lock_seconds: float = 5.0) -> None:
        """Give the next statement what is left of the time. Raises OverBudget."""
        self.budget.arm(self._connection(), at_most=at_most, lock_seconds=lock_seconds)

    # One unit

    def up(self, part: Part, told: PartRehearsal, number: int, unit: Unit) -> list[Predicted]:
        """Run a unit, or look it up. Raises NotRehearsed, OverBudget, or what the real run would be refused with."""
        row = up_row(part.order, number, token=TOKEN)
        if unit.kind == "single":
            with self._savepoint(part, "T331"):
                predicted = self._look_up(part, told, number, unit)
                sql.write(self._connection(), (row,))
            return predicted
        with self._savepoint(part, "T331"):
            self._group(part, told, number, unit.up, row, "T331")
        return []

    def down(self, part: Part, told: PartRehearsal, number: int, unit: Unit) -> None:
        """Take a unit back. What was only looked up needs no taking back."""
        if unit.kind == "single":
            if unit.down:
                raise NotRehearsed("what it takes back was not run")
            return
        row = down_row(part.order, up_row(part.order, number), token=TOKEN)
        with self._savepoint(part, "T338"):
            self._group(part, told, number, unit.down or (), row, "T338")

    def _group(
        self, part: Part, told: PartRehearsal, number: int, steps: Sequence[CompiledStep], row: LedgerRow, code: str
    ) -> None:
        connection, order = self._connection(), part.order
        self._put_back_deferred()
        if any(isinstance(step, CallableStep) for step in steps):
            self.arm()
            sql.write(connection, (evolve(row, state=sql.RUNNING),))
        for step in steps:
            self._put_back_deferred()
            self._step(part, told, number, step, code)
        self.arm()
        sql.write(connection, (row,))
        self._text = "COMMIT"
        try:
            connection.execute(b"SET CONSTRAINTS ALL IMMEDIATE")
        except psycopg.Error as error:
            raise self._refusal(error, order.migration, code, "COMMIT") from error
        self._flushed, self._deferred = True, set()

    def _step(self, part: Part, told: PartRehearsal, number: int, step: CompiledStep, code: str) -> None:
        connection, limits = self._connection(), part.order.work.limits
        self._text = step.text if isinstance(step, Statement) else f"{step.name}()"
        self.arm(at_most=limits.timeout_seconds, lock_seconds=limits.lock_timeout_seconds)
        foreign = isinstance(step, CallableStep)
        began = time.perf_counter()
        with self.budget.watching(connection) if foreign else nullcontext():
            self._run(connection, (step,), part.order, code)
        seconds = time.perf_counter() - began
        held = locks(connection, self._known)
        told.steps.append(
            RehearsedStep(
                direction="up" if code == "T331" else "down",
                step=number,
                statement=shortened(self._text),
                seconds=seconds,
                locks=stronger(self._locks, held),
            )
        )
        self._locks = held
        self._probe("rehearsal:step")

    @contextmanager
    def _savepoint(self, part: Part, code: str) -> Iterator[None]:
        """Around a unit: what it is refused with leaves the units before it as they are, and is a fault or has a reason."""
        connection = self._connection()
        migration = part.order.migration
        try:
            connection.execute(b"SAVEPOINT twinstep_unit")
            yield
            connection.execute(b"RELEASE twinstep_unit")
        except (TwinstepError, psycopg.Error) as error:
            told = self._refusal(error, migration, code, self._text) if isinstance(error, psycopg.Error) else error
            if isinstance(told, InDoubt):
                raise told from error
            cause = error if isinstance(error, psycopg.Error) else error.__cause__
            if isinstance(cause, CUT_OFF) and self.budget.is_over:
                raise OverBudget from error
            if not self.is_open:  # a function has ended it, and is told so; nothing can follow
                raise told from error
            self._back_to("twinstep_unit")
            reason = self.why_not(cause, self._text)
            if reason is not None:
                raise NotRehearsed(reason) from error
            raise told from error

    def _back_to(self, savepoint: str) -> None:
        if self._open is None:  # lost; a new session has no savepoint to go back to
            return
        self._open.execute(f"ROLLBACK TO {savepoint}; RELEASE {savepoint}".encode())
        self._deferred = set()
        self._locks = locks(self._open, self._known)

    def why_not(self, cause: BaseException | None, text: str) -> str | None:
        """Why what was refused is no fault: others were in the way, or it needs what only a commit makes real. Else None."""
        if isinstance(cause, IN_THE_WAY):
            return "another session was in its way, and it is not waited for while locks are held"
        if isinstance(cause, psycopg.errors.UnsafeNewEnumValueUsage):
            new = [label for number, label in enum_values(self._connection()).items() if number not in self._values]
            if any(f"'{label}'" in text for label in new) or (new and text.endswith("()")):
                return "it uses a value that an earlier step adds to an enum, which is possible only after that one's commit"
        if isinstance(cause, psycopg.errors.InsufficientPrivilege) and self._sequences.altering:
            return f"what it sets {self._sequences.altering} to could not be rolled back: another role owns that sequence"
        if isinstance(cause, psycopg.Error):
            return only_because(cause, text, self.left_out)
        return None

    def _put_back_deferred(self) -> None:
        """Defer again what is deferred from the start: also what this unit has made since, which would be immediate."""
        if self._flushed:
            wanted = deferred(self._connection()) - self._deferred
            defer(self._connection(), wanted)
            self._deferred |= wanted

    # Statements outside a transaction

    def _look_up(self, part: Part, told: PartRehearsal, number: int, unit: Unit) -> list[Predicted]:
        statement = self._single(unit, part.order)
        self._text = statement.text
        self.arm(lock_seconds=part.order.work.limits.lock_timeout_seconds)
        connection = self._connection()
        began = time.perf_counter()
        before = statement.look(connection)
        reason, predicted = self._try(statement, before)
        seconds = time.perf_counter() - began
        step = RehearsedStep(direction="up", step=number, statement=shortened(statement.text), seconds=seconds)
        told.steps.append(step)
        if reason:
            told.omit(f"step {number}: {shortened(statement.text)}", reason)
        return predicted

    def _try(self, statement: SingleStatement, before: dict[str, Json]) -> tuple[str, list[Predicted]]:
        """Why it was not rehearsed (or not all of it), and what it would do."""
        match statement:
            case CreateIndex():
                return self._try_building(statement, before)
            case DropIndex():
                return self._try_dropping(statement, before)
            case DetachPartition():
                if before["state"] == "missing" and not self.left_out:
                    reason = f"{statement.parent} or {statement.partition} is not there"
                    raise Refused("T320", statement=shortened(statement.text), reason=reason, sqlstate="42P01")
                self.left_out.append(LeftOut(unknown=True))
                return f"it runs in transactions of its own; the partition is {before['state']} now", []
            case Marked():
                self.left_out.append(LeftOut(unknown=True))
                done = "is done already" if before["done"] else "is not done yet"
                return f"it cannot run in a transaction; its probe says that it {done}", []
            case _:
                return "it cannot run in a transaction", []

    def _try_building(self, statement: CreateIndex, before: dict[str, Json]) -> tuple[str, list[Predicted]]:
        definition, wanted, index = before["definition"], before["wanted"], text_of(before, "index") or statement.name
        freed = any(each.dropped == index for each in self.left_out)
        if definition is not None and not freed:
            if definition != wanted:
                raise Refused("T325", index=index, found=definition, wanted=wanted)
            if before["valid"]:
                return "", []
        statement.rehearse(self._connection())
        self.left_out.append(LeftOut(made=statement.name, unique=statement.unique))
        return EXISTING_ROWS, [] if definition is not None and not freed else [("added", f"index {index}")]

    def _try_dropping(self, statement: DropIndex, before: dict[str, Json]) -> tuple[str, list[Predicted]]:
        index = text_of(before, "index")
        if index is None:
            if any(each.made for each in self.left_out):
                return "it cannot run in a transaction, and neither could what builds the index", []
            if not statement.guarded:
                reason = f"the index {statement.name} does not exist"
                raise Refused("T320", statement=shortened(statement.text), reason=reason, sqlstate="42704")
            return "", []
        self.left_out.append(LeftOut(dropped=index))
        return "it cannot run in a transaction; the index is there", [("dropped", f"index {index}")]

    # Checks and queries

    def verify_inside(self, part: Part) -> tuple[str, ...]:
        """The real target's verification. Raises Refused (T332)."""
        with self.budget.watching(self._connection()):
            return self.verify(part.order.work)

    def timed(self, query: Query, *, at_most_seconds: float, repetitions: int) -> Timing | None:
        """The plan and the median of a few runs; None where there was no time, or others were in its way.

        Raises DefinitionError (T341) for a query that the server refuses.
        """
        connection, until = self._connection(), time.monotonic() + at_most_seconds
        times: list[float] = []
        plan = ""
        try:
            for repetition in range(repetitions + 1):
                with self._aside(""):
                    self.arm(at_most=max(0.001, until - time.monotonic()))
                    if repetition == 0:
                        # By the extended protocol, in which one statement is all there is: none brings a COMMIT along.
                        rows = connection.execute(b"EXPLAIN (COSTS OFF) " + query.sql.encode(), binary=True).fetchall()
                        plan = "\n".join(str(row[0]) for row in rows)
                        continue
                    began = time.perf_counter()
                    connection.execute(query.sql.encode(), binary=True)  # as when it is measured: fetched, and not read
                    times.append(time.perf_counter() - began)
        except psycopg.Error as error:
            if self.budget.is_over:
                raise OverBudget from error
            if isinstance(error, (*IN_THE_WAY, psycopg.errors.QueryCanceled)):
                return None
            problem = error.diag.message_primary or str(error)
            raise DefinitionError("T341", query=query.name, migration="", side=self.side, problem=problem) from error
        return Timing(name=query.name, side=self.side, milliseconds=1000 * statistics.median(times), plan=plan)

    @contextmanager
    def _only_reading(self, work: SideWork) -> Iterator[Remote]:
        """What a check or a probe is run in: a savepoint that cannot write, instead of a transaction of its own."""
        with self._aside(work.migration) as connection:
            connection.execute(b"SET LOCAL transaction_read_only = on")
            yield connection

    @contextmanager
    def _aside(self, migration: str) -> Iterator[Remote]:
        """A savepoint that is rolled back, and in which nothing can commit."""
        connection = self._connection()
        connection.execute(b"SAVEPOINT twinstep_aside")
        try:
            self._put_back_deferred()
            sql.write(connection, (LedgerRow(migration=migration, direction=UP, run=TOKEN, state=sql.RUNNING),))
            yield connection
        finally:
            # The first error is what the caller must see; without a connection there is nothing to go back to.
            with suppress(psycopg.Error):
                self._back_to("twinstep_aside")
