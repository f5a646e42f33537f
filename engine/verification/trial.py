"""One trial of the change itself: a filled pair, up by the real targets, looked at, and down again.

The log, the locks and the recovery are not part of it; they are what `whole_runs.py` is for. A database that the migration
refuses by circumstances (`pending`, `user_version`) is none that it has to hold for.

Read next: `losses.py` (what is compared), `searching.py` (who makes the rows).
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import psycopg
import sqlglot
from attrs import evolve, field, frozen
from sqlglot import expressions

from ...events.errors import Blocked, TwinstepError
from ...events.types import Json
from ...migrations.checksums import DIALECTS
from ...migrations.definition import Query, SideName
from ...stores.local_connection import open_local, roll_back
from ...stores.remote_connection import open_remote
from .applying import RUN, apply_to_both, order_for
from .looks import Look, Value
from .losses import Same, differences, losses, never_the_same
from .own import Invariant, Own
from .properties import Property, failed
from .scratch import Databases
from .subject import Subject

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ...stores.remote_connection import Remote


class NotForThis(Exception):
    """The migration is not held to this database: it does not begin there, or is known not to apply. The text is why."""


@frozen(kw_only=True)
class Trial:
    """What is held to which properties. `new_schemas` are the looks at what the migration makes of no rows at all."""

    subject: Subject
    wanted: Collection[Property]
    own: Own = field(factory=Own)
    new_schemas: Mapping[SideName, Look] = field(factory=dict)

    def run(self, databases: Databases) -> dict[SideName, Look]:
        """The whole trial on a filled pair; the looks after the change. Raises what `failed` makes, and NotForThis."""
        before = databases.look()
        answers, said = self._ask_queries(databases), self._ask_invariants(databases, "before")
        backup = self._up(databases)
        after = databases.look()
        self._judge(databases, before, after)
        self._compare_queries(databases, answers, after)
        self._compare_invariants(databases, said, "afterwards")
        if self.takes_back:
            self._down(databases, backup)
            back = databases.look()
            for side, look in back.items():
                told = tuple(differences(before[side], look, ids_may_rise=side == "remote"))
                if told:
                    raise failed(Property.DOWN_RESTORES, *told, side=side)
            self._compare_invariants(databases, said, "taken back")
        return after

    @property
    def takes_back(self) -> bool:
        """Whether going back is asked for, and possible."""
        return Property.DOWN_RESTORES in self.wanted and all(self.subject.has_down(side) for side in self.subject.works)

    # The change

    def _up(self, databases: Databases) -> Mapping[str, Json] | None:
        """Both sides; the backup of the local one."""
        return apply_to_both(databases.target, self.subject.works, validating=self._begins, applying=self._applies)

    @contextmanager
    def _begins(self, side: SideName) -> Iterator[None]:
        try:
            yield
        except Blocked as error:
            raise NotForThis(f"{error.code} {error.condition}") from error

    @contextmanager
    def _applies(self, side: SideName) -> Iterator[None]:
        try:
            yield
        except TwinstepError as error:
            told = f"{error.code} {error.condition}"
            if Property.APPLIES not in self.wanted:
                raise NotForThis(told) from error
            raise failed(Property.APPLIES, told, side=side, code=error.code) from error

    def _down(self, databases: Databases, backup: Mapping[str, Json] | None) -> None:
        for side in reversed([*self.subject.works]):
            with databases.target(side) as target:
                try:
                    target.hold()
                    order = order_for(self.subject.works[side])
                    target.undo(evolve(order, undoes=(RUN,), backup=backup if side == "local" else None))
                except TwinstepError as error:
                    told = f"{error.code} {error.condition}"
                    raise failed(Property.DOWN_RESTORES, told, side=side, code=error.code) from error

    # What is found afterwards

    def _judge(self, databases: Databases, before: Mapping[SideName, Look], after: Mapping[SideName, Look]) -> None:
        for side, look in after.items():
            if Property.KEEPS_ROWS in self.wanted:
                same = _same_values(databases, side)
                if told := tuple(losses(before[side], look, declared=self.subject.declared(side), same=same)):
                    raise failed(Property.KEEPS_ROWS, *told, side=side)
            if Property.CONSTRAINTS in self.wanted and (told := tuple(_untrue(before[side], look))):
                raise failed(Property.CONSTRAINTS, *told, side=side)
            if Property.NEW_INSTALL in self.wanted and side in self.new_schemas:
                told = tuple(f"with rows, {each}" for each in self.new_schemas[side].schema.differences(look.schema))
                if told:
                    raise failed(Property.NEW_INSTALL, *told, side=side)

    # Queries

    def _ask_queries(self, databases: Databases) -> dict[str, list[str]]:
        """What each query answers; one that the schema before has no answer for is left out."""
        if Property.QUERIES not in self.wanted:
            return {}
        answers = ((query, answer_of(databases, query)) for query in self.subject.migration.queries)
        return {query.name: rows for query, rows in answers if rows is not None}

    def _compare_queries(self, databases: Databases, before: Mapping[str, list[str]], after: Mapping[SideName, Look]) -> None:
        for query in self.subject.migration.queries:
            if query.name not in before or after[query.side].aside or after[query.side].cleared:
                continue  # without what was set aside, it may answer otherwise
            was, now = before[query.name], answer_of(databases, query)
            if now is None:
                raise failed(Property.QUERIES, f"the query {query.name} cannot be answered any more", side=query.side)
            if was != now:
                raise failed(Property.QUERIES, *_unlike(query.name, was, now), side=query.side)

    # Invariants

    def _ask_invariants(self, databases: Databases, when: str) -> dict[str, object]:
        if Property.INVARIANTS not in self.wanted:
            return {}
        return {each.name: _asked(databases, each, when) for each in self.own.invariants}

    def _compare_invariants(self, databases: Databases, before: Mapping[str, object], when: str) -> None:
        for name, now in self._ask_invariants(databases, when).items():
            if now != before[name]:
                told = f"{name} was {before[name]!r} before, and is {now!r} {when}"
                raise failed(Property.INVARIANTS, told, code=name)


def _untrue(before: Look, after: Look) -> Iterator[str]:
    """What is declared and does not hold, unless it did not before."""
    for key in sorted(after.unproved - before.unproved):
        yield f"{key} is declared, and not valid"
    if after.broken > before.broken:
        yield f"{after.broken} references lead nowhere, {before.broken} did before"
    for problem in after.problems:
        if problem not in before.problems:
            yield f"the database says: {problem}"


def _unlike(name: str, was: Sequence[str], now: Sequence[str]) -> Iterator[str]:
    gone, new = Counter(was) - Counter(now), Counter(now) - Counter(was)
    for row in list(gone)[:3]:
        yield f"the query {name} no longer returns {row}"
    for row in list(new)[:3]:
        yield f"the query {name} now returns {row}"
    if not gone and not new:
        yield f"the query {name} returns its rows in another order: {was[0]} came first, and {now[0]} does"


def answer_of(databases: Databases, query: Query) -> list[str] | None:
    """The rows of a query, in an order that does not depend on chance; None where the database refuses it."""
    if query.side == "local":
        if databases.local is None:
            return None
        with closing(open_local(databases.local, readonly=True)) as reading:
            try:
                plain = reading.execute(query.sql)
                width = len(plain.description or ())
                return [repr(row) for row in reading.execute(determined(query.sql, query.side, width)).fetchall()]
            except sqlite3.Error:
                return None
    if databases.remote is None:
        return None
    connection = databases.session
    try:
        with connection.transaction(force_rollback=True):
            width = len(connection.execute(query.sql.encode()).description or ())
        with connection.transaction(force_rollback=True):
            return _texts(connection.execute(determined(query.sql, query.side, width).encode()))
    except psycopg.errors.UndefinedFunction:  # no order of a type such as json
        with connection.transaction(force_rollback=True):
            return sorted(_texts(connection.execute(query.sql.encode())))
    except psycopg.Error:
        return None


def _texts(cursor: psycopg.Cursor[Any]) -> list[str]:
    """The rows as the server writes them: it has values that Python has not, such as infinity for a timestamp."""
    found = cursor.pgresult
    if found is None:
        return []
    values = ([found.get_value(row, column) for column in range(found.nfields)] for row in range(found.ntuples))
    return [repr(tuple(None if value is None else value.decode("utf-8", "replace") for value in row)) for row in values]


@cache
def determined(sql: str, side: SideName, width: int) -> str:
    """The query with every column of its answer behind what it is ordered by: rows that tie have an order then.

    >>> determined("SELECT id, title FROM notes ORDER BY pinned LIMIT 5", "local", 2)
    'SELECT id, title FROM notes ORDER BY pinned, 1, 2 LIMIT 5'
    """
    try:
        read = sqlglot.parse_one(sql, read=DIALECTS[side])
    except sqlglot.errors.SqlglotError:
        return sql
    if not isinstance(read, expressions.Query):
        return sql
    positions = [expressions.Literal.number(place) for place in range(1, width + 1)]
    return read.order_by(*positions, append=True).sql(dialect=DIALECTS[side])


def _asked(databases: Databases, invariant: Invariant, when: str) -> object:
    """What the invariant returns. It raises, or cannot be asked: that is its failure."""
    with ExitStack() as opened:
        connections: list[Connection] = []
        for side in invariant.sides:
            connections.append(opened.enter_context(_lent(databases, side)))
        try:
            return invariant.function(*connections)
        except Exception as error:  # whatever a function of the host raises says that it does not hold
            said = str(error).strip() or type(error).__name__
            told = f"{invariant.name} does not hold {when}: {' '.join(said.split())}"
            raise failed(Property.INVARIANTS, told, code=invariant.name) from error


@contextmanager
def _lent(databases: Databases, side: SideName) -> Iterator[Connection]:
    """A SQLAlchemy connection in a transaction that is rolled back."""
    if side == "local":
        from ...stores.held_sqlalchemy import sqlalchemy_connection

        assert databases.local is not None
        with closing(open_local(databases.local)) as connection:
            connection.execute("BEGIN")
            with sqlalchemy_connection(connection) as lent:
                yield lent
            roll_back(connection)
        return
    from ...stores.remote_guard import sqlalchemy_connection as remote_connection

    assert databases.remote is not None
    with (
        closing(open_remote(databases.remote)) as remote,
        remote.transaction(force_rollback=True),
        remote_connection(remote) as it,
    ):
        yield it


def _same_values(databases: Databases, side: SideName) -> Same:
    """Whether values of two types say the same: PostgreSQL is asked to turn each into the other, and back."""
    if side == "local":
        return never_the_same

    def same(type: str, value: Value, new_type: str, new_value: Value) -> bool:
        if type == new_type or not isinstance(value, tuple) or not isinstance(new_value, tuple):
            return False
        return _turns_into(databases.session, type, value[1], new_type, new_value[1])

    return same


def _turns_into(connection: Remote, type: str, value: Any, new_type: str, new_value: Any) -> bool:
    there = f"%(old)s::text::{type}::{new_type} = %(new)s::text::{new_type}"
    back = f"%(new)s::text::{new_type}::{type} = %(old)s::text::{type}"
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(b"SET LOCAL TimeZone = 'UTC'")
            row = connection.execute(f"SELECT {there} AND {back}".encode(), {"old": value, "new": new_value}).fetchone()
    except psycopg.Error:
        return False
    return row is not None and bool(row[0])
