"""What is written for a person to begin with: the next migration's folder from a template, and a commented settings file.

Nothing is ever written over, and nothing is left half-made: a folder is filled under a hidden name, which the loader leaves
alone, and takes its own name in one step; the settings file comes to be whole or not at all.

The template has no down files: one of comments only would say "nothing needs to be undone", and a person who forgot it would
find that out when going back. Its up texts tell what belongs there. The template itself is data, in `template/`.

Read next: `cli/beginning.py` (the commands), `../migrations/loader.py` (what a folder means).
"""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Final

from ..events.errors import ConfigurationError, DefinitionError
from ..migrations.definition import NUMBERED

TEMPLATE: Final = Path(__file__).parent / "template"
FIRST_WIDTH: Final = 4
# How many digits a number has where it is a time, and the form of that time.
TIMES: Final = {14: "%Y%m%d%H%M%S", 12: "%Y%m%d%H%M"}
LONGEST_SLUG: Final = 100


def make_migration(folder: Path, slug: str, now: datetime) -> Path:
    """A new migration's folder in `folder`, from the template; its path. Only `folder` itself need not be there.

    Raises ConfigurationError: T160 for a slug that gives no name, T162 where it cannot be written.
    """
    slug = slug_of(slug)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            made = folder / f"{next_number(_numbers(folder), now)}_{slug}"
            if _made_at_once(made):
                return made
    except OSError as error:
        raise ConfigurationError("T162", path=error.filename or folder, problem=error.strerror or error) from error


def existing_migrations(folder: Path) -> list[Path]:
    """The folders in it that bear a number, in the order of their names; none where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and NUMBERED.fullmatch(entry.name))


def slug_of(text: str) -> str:
    """The text as the name of a migration: small letters, digits and underscores. Raises ConfigurationError (T160).

    >>> slug_of("Add Größe, and more!")
    'add_grosse_and_more'
    """
    plain = unicodedata.normalize("NFKD", text.casefold()).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "_", plain)[:LONGEST_SLUG].strip("_")
    if not slug:
        raise ConfigurationError("T160", slug=text)
    return slug


def next_number(numbers: Sequence[str], now: datetime) -> str:
    """The number after the highest of these, written as that one is; where that is a time, the time now if it is later.

    >>> now = datetime(2026, 2, 3, 4, 5, 6)
    >>> [next_number(each, now) for each in ([], ["0009", "007"], ["099", "2"], ["20260101120000"], ["20990101120000"])]
    ['0001', '0010', '100', '20260203040506', '20990101120001']
    """
    if not numbers:
        return f"{1:0{FIRST_WIDTH}}"
    highest = max(numbers, key=lambda number: (int(number), len(number)))
    following = int(highest) + 1
    if _is_time(highest):
        following = max(following, int(now.strftime(TIMES[len(highest)])))
    return f"{following:0{len(highest)}}"


def _is_time(number: str) -> bool:
    with suppress(KeyError, ValueError):
        datetime.strptime(number, TIMES[len(number)]).replace(tzinfo=UTC)
        return True
    return False


def _numbers(folder: Path) -> list[str]:
    return [entry.name.partition("_")[0] for entry in existing_migrations(folder)]


def _made_at_once(made: Path) -> bool:
    """Fill the folder under a hidden name and rename it; False where another call took the name meanwhile."""
    hidden = made.with_name(f".{made.name}.{token_hex(4)}")
    try:
        hidden.mkdir()
        for name, text in template_texts(made.name).items():
            (hidden / name).write_text(text, encoding="utf-8")
        if made.exists():
            return False
        try:
            hidden.rename(made)
        except OSError:
            if made.exists():
                return False
            raise
        return True
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def template_texts(migration: str) -> dict[str, str]:
    """The template's files for a migration of that name."""
    texts = {entry.name: entry.read_text(encoding="utf-8") for entry in sorted(TEMPLATE.iterdir()) if entry.is_file()}
    return {name: text.replace("{migration}", migration) for name, text in texts.items()}


def make_project(settings: Path, text: str, migrations: Path, slug: str, now: datetime) -> Path:
    """A settings file with that text, and a first migration's folder; the path of the latter.

    Raises ConfigurationError: T161 for whatever of it is there already, T162 where it cannot be written. Nothing is left
    behind then.
    """
    _refuse_existing([settings, *existing_migrations(migrations)[:1]])
    if migrations.exists() and not migrations.is_dir():
        raise ConfigurationError("T161", path=migrations)
    had_folder = migrations.exists()
    made = make_migration(migrations, slug, now)
    try:
        _write_new(settings, text)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        if not had_folder:
            with suppress(OSError):
                migrations.rmdir()
        raise
    return made


def _refuse_existing(paths: Iterable[Path]) -> None:
    for path in paths:
        # A link that leads nowhere is there, too.
        if path.exists() or path.is_symlink():
            raise ConfigurationError("T161", path=path)


def _write_new(path: Path, text: str) -> None:
    """Write a file that is not there yet, whole or not at all."""
    hidden = path.with_name(f".{path.name}.{token_hex(4)}")
    try:
        hidden.write_text(text, encoding="utf-8")
        # Unlike a rename, a link never takes the place of a file that came to be meanwhile.
        os.link(hidden, path)
    except FileExistsError as error:
        raise ConfigurationError("T161", path=path) from error
    except OSError as error:
        raise ConfigurationError("T162", path=path, problem=error.strerror or error) from error
    finally:
        with suppress(OSError):
            hidden.unlink(missing_ok=True)


def require_folder(folder: Path) -> None:
    """Raise DefinitionError (T101) where there is no such folder: a typing error must not make one."""
    if not folder.is_dir():
        raise DefinitionError("T101", path=folder)
