"""The settings file: `twinstep.toml`, or `[tool.twinstep]` in `pyproject.toml`, found upwards from a folder.

The nearest one counts, alone. Keys are the flags' names; an unknown one is refused by name, because a misspelt setting that
is quietly left out can send a migration to the wrong database.

Read next: `configuration.py`, which puts it below flags and environment.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from attrs import field, frozen

from ...events.errors import ConfigurationError
from ...events.nearest import nearest

OWN_NAME = "twinstep.toml"
SHARED_NAME = "pyproject.toml"


@frozen(kw_only=True)
class SettingsFile:
    """What a file says: its path, and its settings as TOML has them."""

    path: Path
    values: Mapping[str, object] = field(factory=dict)


def find_settings(folder: Path, *, known: Collection[str]) -> SettingsFile | None:
    """The nearest file, or None. Raises ConfigurationError: T153 for an unknown key, T154 for a file that cannot be read."""
    for place in (folder, *folder.parents):
        found = _own(place / OWN_NAME) or _shared(place / SHARED_NAME)
        if found is not None:
            for key in found.values:
                if key not in known:
                    meant = nearest(key, known)
                    suggestion = f" (did you mean {meant}?)" if meant else ""
                    raise ConfigurationError("T153", path=found.path, key=key, suggestion=suggestion, known=", ".join(known))
            return found
    return None


def _own(path: Path) -> SettingsFile | None:
    text = _text(path)
    return None if text is None else SettingsFile(path=path, values=_parsed(path, text))


def _shared(path: Path) -> SettingsFile | None:
    text = _text(path)
    # Most are about something else: those are not even parsed, and need not be whole.
    if text is None or "twinstep" not in text:
        return None
    tool = _parsed(path, text).get("tool")
    table = tool.get("twinstep") if isinstance(tool, dict) else None
    return SettingsFile(path=path, values=table) if isinstance(table, dict) else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise ConfigurationError("T154", path=path, problem=error.strerror or error) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError("T154", path=path, problem="it is not UTF-8") from error


def _parsed(path: Path, text: str) -> Mapping[str, object]:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError("T154", path=path, problem=error) from error
