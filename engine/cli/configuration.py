"""Where each setting comes from: a flag, else the environment, else the settings file, else its default.

`SETTINGS` is the one list: flags, variables, keys of the file and help texts are made from it. Paths on the command line and
in the environment are relative to the working directory, paths in a file to that file. Where there is a file, the default
folders lie beside it too, so that a command means the same from any folder below.

The environment is given, not read here. Read next: `settings_file.py`, `invocation.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from attrs import field, frozen

from ...events.errors import ConfigurationError
from .settings_file import SettingsFile, find_settings

if TYPE_CHECKING:
    from ..coordinator import RemoteRole
    from ..session import Settings

ROLES: Final = ("apply", "require", "skip")
IN_MEMORY: Final = ":memory:"


@frozen(kw_only=True)
class Setting:
    """One setting: the flag's name is also the file's key. `wanted` completes "it must be"; `example` is TOML."""

    name: str
    metavar: str
    help: str
    wanted: str
    example: str

    @property
    def variable(self) -> str:
        """The environment variable."""
        return "TWINSTEP_" + self.name.upper().replace("-", "_")


PATH, NUMBER = "a path", "a number of seconds, 0 or more"
SETTINGS: Final[Mapping[str, Setting]] = {
    setting.name: setting
    for setting in (
        Setting(
            name="local",
            metavar="PATH",
            wanted=PATH,
            example='"app.db"',
            help="The SQLite database. Without it: the remote only.",
        ),
        Setting(
            name="remote",
            metavar="URL",
            wanted="the address of a PostgreSQL database",
            example='"postgresql://app@db.example/app"',
            help="The PostgreSQL database, as postgresql://... or host=... dbname=...; without it: the local only. "
            "DATABASE_URL is used where it names a PostgreSQL and nothing else is given.",
        ),
        Setting(
            name="migrations",
            metavar="DIR",
            wanted=PATH,
            example='"migrations"',
            help="The folder of migrations (migrations).",
        ),
        Setting(
            name="log",
            metavar="URL",
            wanted="sqlite:///path, postgresql://... or memory:",
            example='"sqlite:///app.db.twinstep/log.db"',
            help="The log, as sqlite:///path or postgresql://... (log.db in the state folder).",
        ),
        Setting(
            name="state-dir",
            metavar="DIR",
            wanted=PATH,
            example='"app.db.twinstep"',
            help="The folder of log, backups and lock (<local>.twinstep, beside the database).",
        ),
        Setting(
            name="remote-role",
            metavar="|".join(ROLES),
            wanted="apply, require or skip",
            example='"apply"',
            help="Who runs the remote part: this call, somebody else before it, or nobody now (apply).",
        ),
        Setting(
            name="wait",
            metavar="SECONDS",
            wanted=NUMBER,
            example="0",
            help="How long to wait for another coordinator (0).",
        ),
        Setting(
            name="retry-for",
            metavar="SECONDS",
            wanted=NUMBER,
            example="30",
            help="How long a lost remote is tried again (30).",
        ),
        Setting(
            name="keep-days",
            metavar="N",
            wanted="a whole number of days, 0 or more",
            example="30",
            help="How long backups are kept (30).",
        ),
    )
}


@frozen(kw_only=True)
class Given:
    """A setting's value as it was given, and where: "--wait", "TWINSTEP_WAIT", "wait in /app/twinstep.toml".

    A path is relative to `base`.
    """

    value: object
    source: str
    base: Path


Values: TypeAlias = Mapping[str, Given]


@frozen(kw_only=True)
class Configuration:
    """The settings of one call, checked as far as that can be done without opening anything."""

    local: Path | None = None
    remote: str | None = None
    migrations: Path
    log: str | None = None
    state_dir: Path | None = None
    remote_role: RemoteRole = "apply"
    wait_seconds: float = 0.0
    retry_for_seconds: float = 30.0
    keep_days: int = 30
    sources: Mapping[str, str] = field(factory=dict)

    def settings(self) -> Settings:
        """As the coordinator takes them; raises ConfigurationError (T142) where no database is named."""
        from ..session import Settings

        return Settings(
            local=self.local,
            remote=self.remote,
            migrations=self.migrations,
            log=self.log,
            state_dir=self.state_dir,
            remote_role=self.remote_role,
        )


def configure(flags: Mapping[str, str], environ: Mapping[str, str], folder: Path) -> Configuration:
    """The settings that hold in `folder`. Raises ConfigurationError: T152 for a value, T153 and T154 for the file."""
    file = find_settings(folder, known=tuple(SETTINGS))
    given: dict[str, Given] = {}
    if file is not None:
        given.update(_of_file(file))
    if _is_postgresql(environ.get("DATABASE_URL", "")):
        given["remote"] = Given(value=environ["DATABASE_URL"], source="DATABASE_URL", base=folder)
    given.update(
        (name, Given(value=environ[setting.variable], source=setting.variable, base=folder))
        for name, setting in SETTINGS.items()
        if environ.get(setting.variable)
    )
    given.update((name, Given(value=value, source=f"--{name}", base=folder)) for name, value in flags.items())
    return _checked(given, folder if file is None else file.path.parent)


def _of_file(file: SettingsFile) -> dict[str, Given]:
    return {
        name: Given(value=value, source=f"{name} in {file.path}", base=file.path.parent) for name, value in file.values.items()
    }


def _is_postgresql(url: str) -> bool:
    scheme, separator, _ = url.partition("://")
    return bool(separator) and scheme.partition("+")[0] in ("postgresql", "postgres")


def _checked(given: Values, base: Path) -> Configuration:
    local = _path(given, "local")
    state_dir = _path(given, "state-dir") or (base / ".twinstep" if local is None else None)
    migrations = _path(given, "migrations") or base / "migrations"
    return Configuration(
        local=local,
        remote=_text(given, "remote"),
        migrations=migrations,
        log=_log(given),
        state_dir=state_dir,
        remote_role=_role(given),
        wait_seconds=_number(given, "wait", 0.0, float),
        retry_for_seconds=_number(given, "retry-for", 30.0, float),
        keep_days=int(_number(given, "keep-days", 30, int)),
        sources={name: one.source for name, one in given.items()},
    )


def _text(given: Values, name: str) -> str | None:
    one = given.get(name)
    if one is None:
        return None
    # An empty text is most often a variable of a script that was not set: not the same as no database at all.
    if not isinstance(one.value, str) or not one.value.strip():
        raise _unusable(one, name)
    return one.value


def _path(given: Values, name: str) -> Path | None:
    text = _text(given, name)
    if text is None:
        return None
    # An address in a path's place would become a folder named after its password.
    if "://" in text:
        raise _unusable(given[name], name)
    if text == IN_MEMORY:
        return Path(text)  # refused by name where it is a database, rather than looked for as a file
    return given[name].base / Path(text).expanduser()


def _log(given: Values) -> str | None:
    text = _text(given, "log")
    prefix = "sqlite:///"
    if text is None or not text.startswith(prefix) or text == prefix:
        return text
    return prefix + str(given["log"].base / Path(text.removeprefix(prefix)).expanduser())


def _role(given: Values) -> RemoteRole:
    text = _text(given, "remote-role") or "apply"
    if text not in ROLES:
        raise _unusable(given["remote-role"], "remote-role")
    return cast("RemoteRole", text)


def _number(given: Values, name: str, default: float, kind: Callable[[str], float]) -> float:
    one = given.get(name)
    if one is None:
        return default
    try:
        value = kind(str(one.value))
    except ValueError as error:
        raise _unusable(one, name) from error
    if isinstance(one.value, bool) or not 0 <= value < float("inf"):
        raise _unusable(one, name)
    return value


def _unusable(one: Given, name: str) -> ConfigurationError:
    # The value itself is not shown: in place of a number there may stand an address with its password.
    return ConfigurationError("T152", source=one.source, wanted=SETTINGS[name].wanted)
