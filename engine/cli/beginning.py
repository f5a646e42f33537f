"""The commands that begin: `init` and `new`. They write files for a person to fill in, and open no database.

The settings file is made from `SETTINGS`, so that it has every key that the program knows, and no other.
Read next: `../scaffold.py` (how files come to be), `configuration.py` (what the keys mean).
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from .configuration import SETTINGS
from .settings_file import OWN_NAME, SHARED_NAME, find_settings
from .teaching import Lesson, TaughtCommand
from .trouble import DONE, USAGE

if TYPE_CHECKING:
    from ...events.types import Json
    from .invocation import Invocation
    from .screen import Screen

FIRST: Final = "first"
WIDTH: Final = 100
# What no settings file may hold is told by what the program itself keeps beside a database.
IGNORED: Final = "*.twinstep/"

HEAD: Final = f"""\
# Settings of Twinstep, found upwards from the working directory. A flag (--local) goes before the environment
# (TWINSTEP_LOCAL), and that before this file. Paths are relative to this file. Take the # away from what you need: one of
# the two databases must be named.
#
# A password does not belong here: PGPASSWORD and libpq's password file are read as everywhere.
# Keep log and backups out of version control: add '{IGNORED}' to .gitignore.
"""


def run_init(invocation: Invocation) -> int:
    """Write the settings file and a first migration."""
    from datetime import UTC, datetime

    from ...events.errors import ConfigurationError
    from ..scaffold import make_project

    folder = invocation.folder
    migrations = invocation.configuration.migrations if "migrations" in invocation.flags else folder / "migrations"
    shared = find_settings(folder, known=tuple(SETTINGS))
    if shared is not None and shared.path == folder / SHARED_NAME:
        # A file of its own would hide these settings without a word.
        raise ConfigurationError("T161", path=f"[tool.twinstep] in {shared.path}")
    settings = folder / OWN_NAME
    made = make_project(settings, settings_text(_values(invocation)), migrations, FIRST, datetime.now(UTC))
    _answer(invocation, made, [settings, *sorted(made.iterdir())], _next_of_init(invocation))
    return DONE


def run_new(invocation: Invocation, slug: str) -> int:
    """Make the next migration's folder."""
    from datetime import UTC, datetime

    from ..scaffold import make_migration, require_folder

    migrations = invocation.configuration.migrations
    require_folder(migrations)
    made = make_migration(migrations, slug, datetime.now(UTC))
    steps = [f"Write what changes into {shown_from(made, invocation.folder)}/local.up.sql and remote.up.sql."]
    _answer(invocation, made, sorted(made.iterdir()), [*steps, "'twinstep plan' then shows what 'twinstep migrate' would do."])
    return DONE


def settings_text(values: Mapping[str, str]) -> str:
    """The settings file: every key with what it means, commented out but for those with a value (TOML)."""
    parts = [HEAD]
    for setting in SETTINGS.values():
        lines = textwrap.wrap(setting.help, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
        value = values.get(setting.name)
        lines.append(f"# {setting.name} = {setting.example}" if value is None else f"{setting.name} = {value}")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _values(invocation: Invocation) -> dict[str, str]:
    """What was given with flags, as TOML; an address without its password. Raises ConfigurationError (T152)."""
    given = invocation.configuration
    values = dict(invocation.flags)
    if "remote" in values:
        values["remote"] = invocation.remote_address
    numbers = {"wait": given.wait_seconds, "retry-for": given.retry_for_seconds, "keep-days": given.keep_days}
    return {name: f"{numbers[name]:.10g}" if name in numbers else toml_text(value) for name, value in values.items()}


def toml_text(value: str) -> str:
    """The text as TOML has it: a JSON text, but for one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _next_of_init(invocation: Invocation) -> list[str]:
    named = [] if {"local", "remote"} & invocation.flags.keys() else [f"Name your databases in {OWN_NAME}."]
    return [
        *named,
        "Write what changes into local.up.sql and remote.up.sql of the first migration.",
        "'twinstep plan' then shows what would be done, 'twinstep migrate' does it.",
        f"Keep log and backups out of version control: add {IGNORED} to .gitignore.",
    ]


def _answer(invocation: Invocation, made: Path, files: list[Path], steps: list[str]) -> None:
    def data() -> dict[str, Json]:
        return {"migration": made.name, "folder": str(made), "files": [str(file) for file in files], "next_steps": steps}

    def show(screen: Screen) -> None:
        for file in files:
            screen.line(f"Wrote {shown_from(file, invocation.folder)}")
        for step in steps:
            screen.paragraph(step, first="Next: " if step is steps[0] else "      ")

    invocation.answer(data, show)


def shown_from(path: Path, folder: Path) -> str:
    """The path as one who is in `folder` would type it."""
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


INIT: Final = TaughtCommand(
    "init",
    Lesson(
        does=f"Writes a commented {OWN_NAME} and a first migration folder. Settings that are given as flags stand in the file, "
        "all others are there as comments, each with what it means. It says what to do next.",
        never="It never writes over anything, keeps no password, and opens no database.",
        examples=("twinstep init", "twinstep init --local notes.db --remote postgresql://app@db.example/notes"),
        exits=(DONE, USAGE),
    ),
    run_init,
)

NEW: Final = TaughtCommand(
    "new",
    Lesson(
        does="Makes the next migration folder from a template. Its number follows the last one, with as many digits; where "
        "numbers are times, it is the time now (UTC). The files are comments that tell what goes where: as long as nothing "
        "else is in them, 'migrate' refuses the folder as empty.",
        never="It never writes over anything, and opens no database.",
        examples=("twinstep new add_tags", 'twinstep new "Notes can be pinned" --json'),
        exits=(DONE, USAGE),
    ),
    run_new,
    params=[click.Argument(["slug"])],
)
