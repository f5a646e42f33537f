"""What a migration is: values only, valid once built, whether they come from a folder or from Python.

A `Migration` has up to two sides. A side is what to run (`up`), what takes it back (`down`), and how to look at it. A
step is SQL text, or a callable that is given a SQLAlchemy `Connection` inside a transaction that it cannot end.

No I/O here, and no parsing of SQL. Read next: `loader.py` (from a folder), `script.py` (text into units that run).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, TypeVar

from attrs import field, frozen

from ..events.errors import DefinitionError

if TYPE_CHECKING:
    from sqlalchemy import Connection

SideName: TypeAlias = Literal["local", "remote"]
StepFunction: TypeAlias = "Callable[[Connection], object]"
Step: TypeAlias = "str | StepFunction"

NUMBERED = re.compile(r"(?P<number>[0-9]+)_(?P<slug>.+)", re.DOTALL)


@frozen(kw_only=True)
class FileFunction:
    """A step or probe that came from a migration.py, together with the whole text of that file: what it is recognised by."""

    name: str
    source: str
    function: StepFunction

    def __call__(self, connection: Connection) -> object:
        """Call the function itself."""
        return self.function(connection)


def name_of(function: object) -> str:
    """What messages call a function."""
    return function.name if isinstance(function, FileFunction) else str(getattr(function, "__name__", "function"))


def _steps(given: Step | Sequence[Step]) -> tuple[Step, ...]:
    return (given,) if isinstance(given, str) or callable(given) else tuple(given)


def _optional_steps(given: Step | Sequence[Step] | None) -> tuple[Step, ...] | None:
    return None if given is None else _steps(given)


@frozen(kw_only=True)
class Side:
    """One side of a migration. `down=None` says that there is no way back; an empty one, that nothing needs to be done.

    `check` is called after the change, in `VERIFY`, and refuses by raising. `probes` answer for statements that
    run outside a transaction whether they are done, by the name that `-- twinstep: single NAME` gives them.
    """

    up: tuple[Step, ...] = field(converter=_steps)
    down: tuple[Step, ...] | None = field(default=None, converter=_optional_steps)
    check: StepFunction | None = None
    probes: Mapping[str, StepFunction] = field(factory=dict)


@frozen(kw_only=True)
class LocalOptions:
    """`[local]` of migration.toml. `pending` is a SELECT of one number that must be 0; the timeout is in seconds."""

    user_version_from: tuple[int, ...] = ()
    user_version_to: int | None = None
    pending: str | None = None
    timeout_seconds: float = 900.0


@frozen(kw_only=True)
class RemoteOptions:
    """`[remote]` of migration.toml. `schemas` are those that are fingerprinted and accounted for."""

    lock_timeout_seconds: float = 5.0
    statement_timeout_seconds: float = 900.0
    schemas: tuple[str, ...] = ("public",)


@frozen(kw_only=True)
class Expectation:
    """`[expect]`: what may disappear or change on the local side. `rows_removed` and `definitions_changed` name tables,
    `columns_changed` "table.column", `objects_removed` what is dropped or made otherwise, such as "index idx_notes"."""

    rows_removed: tuple[str, ...] = ()
    columns_changed: tuple[str, ...] = ()
    objects_removed: tuple[str, ...] = ()
    definitions_changed: tuple[str, ...] = ()


@frozen(kw_only=True)
class Query:
    """`[[query]]`: measured before and after. One statement, without parameters."""

    name: str
    side: SideName
    sql: str
    uses_index: str | None = None
    fail_on_slowdown: bool = False


def _queries(given: Iterable[Query]) -> tuple[Query, ...]:
    return tuple(given)


@frozen(kw_only=True)
class Migration:
    """One change of an application's two databases, applied as one.

    `id` is digits, an underscore and a slug; order is numeric, then by name. A side that is None is not touched.
    Raises DefinitionError (T104, T105) for an id without a number, and for a migration without any side.

    >>> migration = Migration(id="0012_phase3", local=Side(up="CREATE TABLE notes (id INTEGER PRIMARY KEY)"))
    >>> migration.order, migration.side("remote") is None
    ((12, '0012_phase3'), True)
    """

    id: str
    local: Side | None = None
    remote: Side | None = None
    description: str = ""
    irreversible: bool = False
    load_timeout_seconds: float = 10.0
    local_options: LocalOptions = LocalOptions()
    remote_options: RemoteOptions = RemoteOptions()
    rehearsal_budget_seconds: float = 2.0
    expect: Expectation = Expectation()
    queries: tuple[Query, ...] = field(default=(), converter=_queries)

    def __attrs_post_init__(self) -> None:
        order_of(self.id)
        if self.local is None and self.remote is None:
            raise DefinitionError("T105", migration=self.id)

    @property
    def order(self) -> tuple[int, str]:
        """What migrations are sorted by."""
        return order_of(self.id)

    def side(self, name: SideName) -> Side | None:
        """The side of that name, or None where it is not touched."""
        return self.local if name == "local" else self.remote


def order_of(id: str) -> tuple[int, str]:
    """What a migration of that name is sorted by. Raises DefinitionError (T104) for one without a number."""
    matched = NUMBERED.fullmatch(id)
    if matched is None:
        raise DefinitionError("T104", name=id)
    return int(matched["number"]), id


class Ordered(Protocol):
    """What has a place among migrations."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def order(self) -> tuple[int, str]:
        """What it is sorted by."""


OrderedKind = TypeVar("OrderedKind", bound=Ordered)


def in_order(migrations: Sequence[OrderedKind]) -> tuple[OrderedKind, ...]:
    """The migrations as they are run. Raises DefinitionError (T103) where two bear the same number.

    >>> change = Side(up="SELECT 1")
    >>> [each.id for each in in_order([Migration(id="10_later", local=change), Migration(id="9_first", local=change)])]
    ['9_first', '10_later']
    """
    ordered = sorted(migrations, key=lambda migration: migration.order)
    for first, second in pairwise(ordered):
        if first.order[0] == second.order[0]:
            raise DefinitionError("T103", first=first.id, second=second.id)
    return tuple(ordered)
