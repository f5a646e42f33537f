"""What a down would take away from PostgreSQL is copied first, in the transaction in which it goes.

Nobody can tell from its text what a down takes away: CASCADE, functions and triggers reach further. So it is run twice: first
inside a savepoint, to be looked at. The savepoint is rolled back; what would go is locked as the down will lock it, and copied
into the schema `twinstep`; then the down runs for good. What went then must be what was expected, else the whole transaction
is tried again.

- A dropped table or materialized view is copied whole; of dropped columns, what is neither null nor the default, with the
  primary key (without one, with all other columns); of removed rows, those that are not there any more afterwards, by
  primary key (without one, by counting equal rows). Where a dropped sequence stood is noted. Nothing is made where nothing
  goes.
- What a policy of row level security would hide from this role is not left out in silence: then nothing is dropped (T370).
- Not copied: what an UPDATE writes over, temporary and foreign tables, values that the database computes from others.

Raises Refused (T370) where it cannot be copied, and the driver's errors of the down itself. Must never import SQLAlchemy.
Read next: `postgres_going.py` (what goes), `kept.py` (the values), `postgres_target.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import psycopg
from attrs import frozen
from psycopg import sql

from ..events.errors import Refused
from ..stores.remote_connection import is_lost
from .kept import COLUMNS, ROWS, SEQUENCE, Kept
from .passing import IN_THE_WAY
from .postgres_going import MODES, Column, Going, Relation, Watch, count_of, read_relations, rows_of, what_goes

if TYPE_CHECKING:
    from ..stores.remote_connection import Remote

# A copy needs at least that others write no more; they may go on reading where the down lets them.
LEAST: Final = MODES.index("SHARE ROW EXCLUSIVE")


class ChangedMeanwhile(psycopg.errors.SerializationFailure):
    """Between the look and the down others wrote what it then took away; the transaction is tried again as a whole."""


@frozen(kw_only=True)
class Copy:
    """What was made of something that goes: a table of that name, or only a note of where a sequence stood."""

    going: Going
    name: str = ""
    last_value: int | None = None


def run_keeping(connection: Remote, down: Callable[[], None], *, migration: str, run: str, step: int) -> None:
    """Run the down in the open transaction; what it takes away is in the schema `twinstep` once that commits."""
    watch = Watch(connection)
    connection.execute(b"SAVEPOINT twinstep_trial")
    down()
    after = watch.looked()
    connection.execute(b"ROLLBACK TO twinstep_trial; RELEASE twinstep_trial")
    before = read_relations(connection, tuple(after.locks))
    rows_before = {oid: count_of(connection, before[oid]) for oid in after.recounted}
    going = tuple(what_goes(before, rows_before, after))
    copies: list[Copy] = []
    if going:
        with _copying(connection, migration):
            _lock(connection, going, after.locks)
            connection.execute(_MAKE.encode())
            copies = [_copy(connection, each) for each in going]
    watch = Watch(connection)
    down()
    then = watch.looked()
    if {each.key for each in what_goes(before, rows_before, then)} - {each.key for each in going}:
        raise ChangedMeanwhile("others wrote, meanwhile, what the down then took away")
    if copies:
        with _copying(connection, migration):
            for copy in copies:
                _enter(connection, copy, then.relations, (run, migration, step))


def read_kept(connection: Remote, run: str) -> tuple[Kept, ...]:
    """What the undoing steps of that run kept, first to last; nothing where there is no register, or no right to read it."""
    try:
        found = rows_of(connection, _READ, run)
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName, psycopg.errors.InsufficientPrivilege):
        return ()
    return tuple(
        Kept(what=what, relation=relation, kept_as=kept_as, columns=columns, rows=rows, last_value=last_value)
        for what, relation, kept_as, columns, rows, last_value in found
    )


@contextmanager
def _copying(connection: Remote, migration: str) -> Iterator[None]:
    """Around our own statements: no policy hides a row from them, and what is refused is said as what it is."""
    try:
        ((was, _),) = rows_of(connection, "SELECT current_setting('row_security'), set_config('row_security', 'off', true)")
        yield
        connection.execute("SELECT set_config('row_security', %s, true)", (was,))
    except psycopg.Error as error:
        if isinstance(error, IN_THE_WAY) or is_lost(connection, error):
            raise
        problem = f"{error.diag.message_primary or error} (SQLSTATE {error.sqlstate})"
        raise Refused("T370", migration=migration, side="remote", problem=problem) from error


def _lock(connection: Remote, going: Sequence[Going], locks: Mapping[int, int]) -> None:
    """Lock what goes as strongly as the down will: a lock that is made stronger later is how deadlocks come about."""
    # A sequence or a materialized view cannot be named here; neither is written to by others while it is read.
    relations = {each.relation.oid: each.relation for each in going if each.relation.kind in "rp"}
    for oid, relation in relations.items():
        mode = MODES[max(LEAST, locks.get(oid, LEAST))]
        connection.execute(sql.SQL("LOCK TABLE {} IN {} MODE").format(relation.named(), sql.SQL(mode)))


def _copy(connection: Remote, going: Going) -> Copy:
    """Copy what goes; of rows that are removed all for now, since which they are shows only afterwards."""
    relation = going.relation
    if going.what == SEQUENCE:
        ((last_value, called),) = rows_of(connection, sql.SQL("SELECT last_value, is_called FROM {}").format(relation.named()))
        return Copy(going=going, last_value=last_value if called else None)
    columns, where = relation.columns, sql.Composed([])
    if going.what == COLUMNS:
        if relation.key and not set(relation.key) & {each.number for each in going.columns}:
            columns = tuple(each for each in relation.columns if each.number in relation.key) + going.columns
        where = sql.SQL(" WHERE ") + sql.SQL(" OR ").join(each.filled() for each in going.columns)
    ((number,),) = rows_of(connection, "SELECT nextval(pg_get_serial_sequence('twinstep.kept', 'id'))")
    name = f"kept_{number}_{relation.name}".encode()[:63].decode(errors="ignore")
    copied = sql.SQL(", ").join(sql.SQL(each.copied) for each in columns)
    connection.execute(sql.SQL("CREATE TABLE {} AS SELECT {} FROM {}{}").format(_place(name), copied, relation.named(), where))
    # Who could not read the original must not read the copy, whatever the default privileges of this schema are.
    connection.execute(sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(_place(name)))
    return Copy(going=going, name=name)


def _enter(connection: Remote, copy: Copy, then: Mapping[int, Relation], whose: tuple[str, str, int]) -> None:
    """Write into the register what was kept, or drop the copy again where there is nothing in it."""
    going, rows = copy.going, 0
    if going.what == SEQUENCE and copy.last_value is None:
        return
    if copy.name:
        if going.what == ROWS:
            _leave_only_what_is_gone(connection, copy.name, going.relation, then[going.relation.oid])
        ((rows,),) = rows_of(connection, sql.SQL("SELECT count(*) FROM {}").format(_place(copy.name)))
        if not rows:
            connection.execute(sql.SQL("DROP TABLE {}").format(_place(copy.name)))
            return
    kept_as = _place(copy.name).as_string(connection) if copy.name else ""
    columns = [each.name for each in going.columns]
    values = (*whose, going.what, going.relation.shown, columns, rows, copy.last_value, kept_as)
    connection.execute(_ENTER.encode(), values)


def _leave_only_what_is_gone(connection: Remote, name: str, before: Relation, now: Relation) -> None:
    """Delete from the copy every row that is still in the table."""
    columns = now.numbered()
    pairs = [(each, columns[each.number]) for each in before.columns if each.number in columns and not each.computed]
    key = [pair for pair in pairs if pair[0].number in before.key]
    if not pairs:
        return  # nothing is left to compare by: the copy stays whole
    if key and len(key) == len(before.key):
        same = sql.SQL(" AND ").join(_same(was, is_) for was, is_ in key)
        statement = sql.SQL("DELETE FROM {} kept USING {} now WHERE {}").format(_place(name), now.named(), same)
    else:
        statement = sql.SQL(_BY_COUNTING).format(
            kept=_place(name),
            now=now.named(),
            kept_row=_text([was.name for was, _ in pairs]),
            now_row=_text([is_.name for _, is_ in pairs]),
        )
    connection.execute(statement)


def _same(was: Column, is_: Column) -> sql.Composed:
    """Whether the two hold the same value; as text where they are not of the same type, as in a copy of a type of one's own."""
    cast = sql.SQL("") if was.type == is_.type and "::text" not in was.copied else sql.SQL("::text")
    return sql.SQL("kept.{}{cast} = now.{}{cast}").format(sql.Identifier(was.name), sql.Identifier(is_.name), cast=cast)


def _text(names: Sequence[str]) -> sql.Composed:
    """The values of these columns as one text."""
    return sql.SQL("ROW({})::text").format(
        sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in names)
    )


def _place(name: str) -> sql.Identifier:
    return sql.Identifier("twinstep", name)


_MAKE: Final = """
CREATE TABLE IF NOT EXISTS twinstep.kept (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, run text NOT NULL, migration text NOT NULL, step integer NOT NULL,
    what text NOT NULL, relation text NOT NULL, columns text[] NOT NULL, rows bigint NOT NULL, last_value bigint,
    kept_as text NOT NULL, at timestamptz NOT NULL DEFAULT now()
)
"""
_ENTER: Final = """
INSERT INTO twinstep.kept (run, migration, step, what, relation, columns, rows, last_value, kept_as)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_READ: Final = """
SELECT what, relation, kept_as, columns, rows, last_value FROM twinstep.kept WHERE run = %s ORDER BY id
"""
# Of equal rows as many are gone as there are fewer of now.
_BY_COUNTING: Final = """
DELETE FROM {kept} WHERE ctid IN (
    SELECT k.ctid FROM (
        SELECT ctid, {kept_row} AS r, row_number() OVER (PARTITION BY {kept_row}) AS n FROM {kept}
    ) k JOIN (SELECT {now_row} AS r, count(*) AS c FROM {now} GROUP BY 1) t ON t.r = k.r AND k.n <= t.c
)
"""
