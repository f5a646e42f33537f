"""What the catalogue of migrations is made of: a wrong migration, a right one, and the rows that show it.

An entry is a schema (`before`: migrations that make it from nothing), the migration that is judged, and one database of rows
written by hand; `folder` is where the migrations lie as files, for a few. `test_catalogue_of_migrations.py` runs each entry on
its own rows, so that the catalogue itself is known to say the truth; what judges migrations on rows of its own must find each
wrong one wrong and each right one right.

Read next: `wrong_local.py`, `wrong_remote.py`, `wrong_both.py` and `folder_entries.py`, gathered in `wrong_migrations.py`; and
`right_migrations.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from attrs import field, frozen
from psycopg.errors import UndefinedColumn, UndefinedTable
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError, ProgrammingError

from twinstep import Migration, Side, rebuild_table
from twinstep.migrations.definition import SideName

# What must hold of a migration on every database that the schema before it admits.
Property: TypeAlias = Literal[
    "applies",
    "keeps-rows",
    "constraints",
    "down-restores",
    "again",
    "dry-run",
    "crash",
    "refusal",
    "new-install",
    "queries",
    "invariants",
]

# After what the hand-written rows show the fault:
# up: migrated. down: and taken back. dry run: rehearsed, then migrated. crash: killed at `killed_at`, then run again.
# refusal: refused by its last check, then migrated. new install: migrated without the rows.
Moment: TypeAlias = Literal["up", "down", "dry run", "crash", "refusal", "new install"]

# Called with a connection to each side, None where the migration has none, after the change; it raises where it does not hold.
Invariant: TypeAlias = "Callable[[Connection | None, Connection | None], None]"

Rows: TypeAlias = "tuple[tuple[Any, ...], ...]"


def _properties(given: str | Collection[Property]) -> frozenset[str]:
    return frozenset((given,)) if isinstance(given, str) else frozenset(given)


@frozen(kw_only=True)
class Look:
    """A query of one side: what it answers where nothing went wrong, and what it answers here.

    `found=None` says that anything but `right` is the fault; of what is looked at twice, both are None.
    """

    side: SideName
    sql: str
    right: Rows | None
    found: Rows | None = None


@frozen(kw_only=True)
class Wrong:
    """A migration that some database makes wrong, and such a database.

    One of `properties` at least must fail. `code` is what the engine by itself refuses it with, at `moment`, on these rows;
    None where it says that all is well: then `look`, or an invariant, tells otherwise.
    """

    name: str
    why: str
    properties: frozenset[str] = field(converter=_properties)
    before: tuple[Migration, ...]
    migration: Migration
    folder: Path | None = None
    local_rows: tuple[str, ...] = ()
    remote_rows: tuple[str, ...] = ()
    moment: Moment = "up"
    code: str | None = None
    killed_at: str = ""
    look: Look | None = None
    invariants: tuple[Invariant, ...] = ()

    @property
    def sides(self) -> tuple[SideName, ...]:
        """The databases that it takes."""
        return sides_of((*self.before, self.migration))


@frozen(kw_only=True)
class Right:
    """A migration that is right on every database that `before` admits, and one such database, with odd rows."""

    name: str
    before: tuple[Migration, ...]
    migration: Migration
    folder: Path | None = None
    local_rows: tuple[str, ...] = ()
    remote_rows: tuple[str, ...] = ()
    invariants: tuple[Invariant, ...] = ()

    @property
    def sides(self) -> tuple[SideName, ...]:
        """The databases that it takes."""
        return sides_of((*self.before, self.migration))


def sides_of(migrations: Sequence[Migration]) -> tuple[SideName, ...]:
    """The sides that any of them touches."""
    names: tuple[SideName, ...] = ("local", "remote")
    return tuple(name for name in names if any(each.side(name) is not None for each in migrations))


def schema(*, local: str | None = None, remote: str | None = None) -> tuple[Migration, ...]:
    """The migration that makes the schema before from nothing."""
    return (
        Migration(
            id="0001_before",
            local=None if local is None else Side(up=local),
            remote=None if remote is None else Side(up=remote),
            irreversible=True,
        ),
    )


def change(local: Side | None = None, remote: Side | None = None, **options: Any) -> Migration:
    """The migration that is judged."""
    return Migration(id="0002_change", local=local, remote=remote, **options)


def rebuilt(table: str, **options: Any) -> Callable[[Connection], None]:
    """A step that calls rebuild_table."""

    def step(connection: Connection) -> None:
        rebuild_table(connection, table, **options)

    return step


def next_ids_are_new(local: Connection | None, remote: Connection | None) -> None:
    """The sequence of the remote's notes gives out no id that a note has."""
    assert remote is not None
    highest = remote.exec_driver_sql("SELECT coalesce(max(id), 0) FROM notes").scalar_one()
    drawn = remote.exec_driver_sql("SELECT nextval(pg_get_serial_sequence('notes', 'id'))").scalar_one()
    assert drawn > highest, f"the next id is {drawn}, and {highest} is there"


def agree(sql: str) -> Invariant:
    """Rows of the two sides in which all but the last value are the same have the same last value.

    Nothing is compared where the schema has nothing to ask for, as before the migration.
    """

    def asked(connection: Connection) -> dict[tuple[Any, ...], Any]:
        try:
            return {tuple(row[:-1]): row[-1] for row in connection.exec_driver_sql(sql)}
        except (OperationalError, ProgrammingError) as error:
            if "no such " in str(error.orig) or isinstance(error.orig, (UndefinedColumn, UndefinedTable)):
                return {}
            raise

    def same_last_value(local: Connection | None, remote: Connection | None) -> None:
        assert local is not None
        assert remote is not None
        here, there = asked(local), asked(remote)
        different = {key: (here[key], there[key]) for key in here.keys() & there.keys() if here[key] != there[key]}
        assert not different, different

    return same_last_value
