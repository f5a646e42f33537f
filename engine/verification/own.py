"""What the author of a migration adds: invariants, and values for columns that no schema can tell.

They stand in a file `verification.py`, of one migration beside its `migration.py` or of all in the folder of migrations::

    from hypothesis import strategies as st
    from twinstep.engine.verification import invariant

    columns = {"local.notes.color": st.sampled_from(["red", "blue"])}

    @invariant(side="local")
    def every_task_has_a_note(connection):
        return connection.exec_driver_sql("SELECT count(*) FROM tasks WHERE note_id IS NULL").scalar_one()

Read next: `trial.py` (when they are asked).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar

from attrs import evolve, field, frozen

from ...events.errors import DefinitionError
from ...migrations.definition import SideName

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

Sides: TypeAlias = Literal["local", "remote", "both"]
OwnFunction = TypeVar("OwnFunction", bound="Callable[..., Any]")

FILE: Final = "verification.py"
_MARK: Final = "__twinstep_invariant__"


@frozen(kw_only=True)
class Invariant:
    """A function that is asked before and after the migration. It refuses by raising; what it returns must stay the same.

    It takes a SQLAlchemy connection to its side; for both sides the local one first, then the remote one.
    """

    name: str
    side: Sides
    function: Callable[..., Any]

    @property
    def sides(self) -> tuple[SideName, ...]:
        """The databases that it asks."""
        return ("local", "remote") if self.side == "both" else (self.side,)


def invariant(*, side: Sides) -> Callable[[OwnFunction], OwnFunction]:
    """Mark a function as an invariant of that side, or of both.

    Raises DefinitionError (T384) for another side.
    """
    if side not in ("local", "remote", "both"):
        raise DefinitionError("T384", side=side)

    def marked(function: OwnFunction) -> OwnFunction:
        setattr(function, _MARK, side)
        return function

    return marked


def as_invariant(function: Callable[..., Any]) -> Invariant:
    """The invariant that was marked. Raises DefinitionError (T385) for a function that was not."""
    side = getattr(function, _MARK, None)
    name = getattr(function, "__name__", repr(function))
    if side is None:
        raise DefinitionError("T385", name=name)
    return Invariant(name=name, side=side, function=function)


def _invariants(given: Iterable[Invariant | Callable[..., Any]]) -> tuple[Invariant, ...]:
    return tuple(each if isinstance(each, Invariant) else as_invariant(each) for each in given)


@frozen(kw_only=True)
class Own:
    """Invariants, and strategies by column: "local.notes.color"."""

    invariants: tuple[Invariant, ...] = field(default=(), converter=_invariants)
    columns: Mapping[str, SearchStrategy[Any]] = field(factory=dict)

    def and_of(self, other: Own) -> Own:
        """Both; of two strategies for one column the other's."""
        return evolve(self, invariants=(*self.invariants, *other.invariants), columns={**self.columns, **other.columns})

    def of_side(self, side: SideName) -> dict[str, SearchStrategy[Any]]:
        """The strategies for one side, by table and column."""
        prefix = f"{side}."
        return {name.removeprefix(prefix): each for name, each in self.columns.items() if name.startswith(prefix)}


def read_own(folder: Path, id: str) -> Own:
    """What `verification.py` says: that of all migrations, then that of this one.

    Raises DefinitionError (T386) for a file that cannot be run, or whose `columns` are none.
    """
    found = Own()
    for path in (folder / FILE, folder / id / FILE):
        if path.exists():
            found = found.and_of(_read(path))
    return found


def _read(path: Path) -> Own:
    names: dict[str, Any] = {"__name__": f"twinstep_{path.parent.name}_verification", "__file__": str(path)}
    try:
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), names)
    except Exception as error:  # it is the host's, and may raise anything
        raise DefinitionError("T386", path=path, problem=f"{type(error).__name__}: {error}") from error
    columns = names.get("columns", {})
    sided = isinstance(columns, Mapping) and all(str(name).partition(".")[0] in ("local", "remote") for name in columns)
    if not sided:
        raise DefinitionError("T386", path=path, problem='columns is no mapping of names like "local.notes.color"')
    marked: Sequence[Callable[..., Any]] = [each for each in names.values() if hasattr(each, _MARK)]
    return Own(invariants=tuple(marked), columns=columns)
