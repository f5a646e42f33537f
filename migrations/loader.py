"""A folder of migrations into values: every file read, every name and key understood, nothing parsed and nothing run.

Each sub-folder is one migration, named by its number and a slug. Of a side, SQL comes first and the function of the same
direction second, up as well as down. A side whose up holds nothing but comments is not touched. Hidden folders, `__pycache__`
and plain files beside the migrations are left alone; inside a migration's folder only `.sql` and `.toml` names that mean
something are allowed, so that a misspelt one is not silently left out.

SQL text is kept exactly as it lies in the file (a byte order mark included): `sql.py` and `checksums.py` know what of it
counts. Read next: `settings.py` (migration.toml), `functions.py` (migration.py).
"""

from __future__ import annotations

from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from ..events.errors import DefinitionError
from .checksums import DIALECTS, PROBE_PREFIX
from .definition import Migration, Side, in_order, order_of
from .functions import load_functions
from .lexical import is_blank
from .settings import read_settings

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from .definition import FileFunction, SideName, Step

SETTINGS_FILE = "migration.toml"
FUNCTIONS_FILE = "migration.py"
TEXT_FILES = ("local.up.sql", "local.down.sql", "remote.up.sql", "remote.down.sql")


def load_folder(path: str | os.PathLike[str]) -> tuple[Migration, ...]:
    """The folder's migrations in the order in which they run.

    Raises DefinitionError: T101 no such folder, T102 nothing in it, T103 equal numbers, T104 a sub-folder without a number,
    T105 a migration without anything to apply, T106 and T129 for its migration.toml, T107 and T126 to T128 for its
    migration.py, T108 what may not or cannot be read as UTF-8, T109 a file that would never be run, T123 a down or a check of
    a side that has no up.
    """
    return tuple(load_migration(found.path) for found in find_migrations(path))


@frozen(kw_only=True)
class MigrationFolder:
    """A migration that was found and not read yet. `digest` is 64 hexadecimal digits over its files as they are."""

    path: Path
    digest: str

    @property
    def id(self) -> str:
        """The migration's id."""
        return self.path.name

    @property
    def order(self) -> tuple[int, str]:
        """What migrations are sorted by."""
        return order_of(self.id)


def find_migrations(path: str | os.PathLike[str]) -> tuple[MigrationFolder, ...]:
    """The folder's migrations in order, with nothing parsed and nothing run.

    Raises DefinitionError: T101 to T104, T108 and T109 of those that `load_folder` names.
    """
    folder = Path(path)
    with _readable(folder):
        if not folder.is_dir():
            raise DefinitionError("T101", path=folder)
        found = [entry for entry in sorted(folder.iterdir()) if entry.is_dir() and not _is_ignored(entry.name)]
    if not found:
        raise DefinitionError("T102", path=folder)
    return in_order([_found(entry) for entry in found])


def load_migration(folder: Path) -> Migration:
    """One migration from its own folder. Raises as `load_folder` does."""
    order_of(folder.name)
    with _readable(folder):
        _refuse_strays(folder)
    settings_file, functions_file = folder / SETTINGS_FILE, folder / FUNCTIONS_FILE
    settings = read_settings(_text(settings_file) if settings_file.exists() else "", settings_file)
    functions: Mapping[str, FileFunction] = {}
    if functions_file.exists():
        functions = load_functions(_text(functions_file), functions_file, folder.name, settings.load_timeout_seconds)
    return Migration(
        id=folder.name,
        local=_side(folder, "local", functions),
        remote=_side(folder, "remote", functions),
        description=settings.description,
        irreversible=settings.irreversible,
        load_timeout_seconds=settings.load_timeout_seconds,
        local_options=settings.local_options,
        remote_options=settings.remote_options,
        rehearsal_budget_seconds=settings.rehearsal_budget_seconds,
        expect=settings.expect,
        queries=settings.queries,
    )


def _found(folder: Path) -> MigrationFolder:
    order_of(folder.name)
    with _readable(folder):
        _refuse_strays(folder)
    hashed = sha256()
    for name in (*TEXT_FILES, SETTINGS_FILE, FUNCTIONS_FILE):
        file = folder / name
        if file.exists():
            data = _bytes(file)
            hashed.update(f"{name} {len(data)}\n".encode() + data)
    return MigrationFolder(path=folder, digest=hashed.hexdigest())


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name == "__pycache__"


def _refuse_strays(folder: Path) -> None:
    known = (*TEXT_FILES, SETTINGS_FILE)
    for entry in sorted(folder.iterdir()):
        if entry.suffix.lower() in {".sql", ".toml"} and entry.name not in known and not _is_ignored(entry.name):
            raise DefinitionError("T109", path=entry)


def _side(folder: Path, side: SideName, functions: Mapping[str, FileFunction]) -> Side | None:
    """The side, or None where its folder has nothing to apply on it."""
    up = _steps(folder, side, "up", functions)
    down = _steps(folder, side, "down", functions)
    check = functions.get(f"check_{side}")
    # Probes answer for statements outside a transaction, which only the remote has.
    probes = {name: function for name, function in functions.items() if name.startswith(PROBE_PREFIX) and side == "remote"}
    if up is not None and _is_something(up, side):
        return Side(up=up, down=down, check=check, probes=probes)
    if down is not None and _is_something(down, side):
        raise DefinitionError("T123", migration=folder.name, name="steps that take back", side=side)
    if check is not None:
        raise DefinitionError("T123", migration=folder.name, name=f"check_{side}", side=side)
    return None


def _steps(folder: Path, side: SideName, direction: str, functions: Mapping[str, FileFunction]) -> tuple[Step, ...] | None:
    """Text first, then the function; None where there is neither."""
    file = folder / f"{side}.{direction}.sql"
    text: tuple[Step, ...] = (_text(file),) if file.exists() else ()
    function = functions.get(f"{side}_{direction}")
    steps = text if function is None else (*text, function)
    return steps or None


def _is_something(steps: tuple[Step, ...] | None, side: SideName) -> bool:
    return any(not (isinstance(step, str) and is_blank(step, DIALECTS[side])) for step in steps or ())


def _text(file: Path) -> str:
    try:
        return _bytes(file).decode()
    except UnicodeDecodeError as error:
        raise DefinitionError("T108", path=file, problem=f"byte {error.start} is not UTF-8") from error


def _bytes(file: Path) -> bytes:
    with _readable(file):
        return file.read_bytes()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Around what looks at files: what the operating system refuses is said of this path."""
    try:
        yield
    except OSError as error:
        raise DefinitionError("T108", path=path, problem=error.strerror or type(error).__name__) from error
