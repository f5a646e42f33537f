"""A migration.toml into values: every key known, every value of its kind, or refused by name.

A misspelt key that is silently left out would be a check that silently does not happen; so nothing unknown is allowed.
Durations are texts with a unit: "500ms", "10s", "15min", "1h". The keys are listed in docs/writing-migrations.md.

No I/O; tomllib is loaded only where there is something to read. Read next: `definition.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from attrs import field, frozen

from ..events.errors import DefinitionError
from ..events.nearest import nearest
from .definition import Expectation, LocalOptions, Query, RemoteOptions

if TYPE_CHECKING:
    from pathlib import Path

    from .definition import SideName

_DURATION = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)[ ]?(?P<unit>ms|s|min|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
LARGEST_USER_VERSION = 2**31 - 1

Kind = TypeVar("Kind")
Default = TypeVar("Default")
Table: TypeAlias = "Mapping[str, object]"


@frozen(kw_only=True)
class Settings:
    """What a migration.toml says; each default is what holds without one."""

    description: str = ""
    irreversible: bool = False
    load_timeout_seconds: float = 10.0
    local_options: LocalOptions = field(factory=LocalOptions)
    remote_options: RemoteOptions = field(factory=RemoteOptions)
    rehearsal_budget_seconds: float = 2.0
    expect: Expectation = field(factory=Expectation)
    queries: tuple[Query, ...] = ()


def read_settings(text: str, path: Path) -> Settings:
    """The settings in the text, defaults for what it does not say. Raises DefinitionError: T129 no TOML, T106 names the key."""
    if not text.strip():
        return Settings()
    import tomllib

    try:
        data: Table = tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError as error:
        raise DefinitionError("T129", path=path, problem=error) from error
    try:
        return _settings(_Reader(data, ""))
    except _Problem as error:
        raise DefinitionError("T106", path=path, problem=str(error)) from error


class _Problem(Exception):
    """What is wrong with one key, in words."""


def _settings(top: _Reader) -> Settings:
    plain = Settings()
    local, remote, rehearsal, expect = (top.table(name) for name in ("local", "remote", "rehearsal", "expect"))
    settings = Settings(
        description=top.get("description", _text, plain.description),
        irreversible=top.get("irreversible", _flag, plain.irreversible),
        load_timeout_seconds=top.get("load_timeout", _seconds, plain.load_timeout_seconds),
        local_options=_local(local),
        remote_options=RemoteOptions(
            lock_timeout_seconds=remote.get("lock_timeout", _seconds, plain.remote_options.lock_timeout_seconds),
            statement_timeout_seconds=remote.get("statement_timeout", _seconds, plain.remote_options.statement_timeout_seconds),
            schemas=remote.get("schemas", _some_texts, plain.remote_options.schemas),
        ),
        rehearsal_budget_seconds=rehearsal.get("budget", _seconds, plain.rehearsal_budget_seconds),
        expect=Expectation(
            rows_removed=expect.get("rows_removed", _texts, ()),
            columns_changed=expect.get("columns_changed", _columns, ()),
            objects_removed=expect.get("objects_removed", _texts, ()),
            definitions_changed=expect.get("definitions_changed", _texts, ()),
        ),
        queries=tuple(_query(reader) for reader in top.tables("query")),
    )
    for reader in (top, local, remote, rehearsal, expect):
        reader.refuse_the_rest()
    names = [query.name for query in settings.queries]
    if len(set(names)) < len(names):
        raise _Problem("two of the [[query]] bear the same name")
    return settings


def _local(local: _Reader) -> LocalOptions:
    plain = LocalOptions()
    version = local.table("user_version")
    options = LocalOptions(
        user_version_from=version.get("from", _versions, ()),
        user_version_to=version.get("to", _version, None),
        pending=local.get("pending", _some_text, None),
        timeout_seconds=local.get("timeout", _seconds, plain.timeout_seconds),
    )
    version.refuse_the_rest()
    return options


def _query(reader: _Reader) -> Query:
    query = Query(
        name=reader.need("name", _some_text),
        side=reader.need("side", _side),
        sql=reader.need("sql", _some_text),
        uses_index=reader.get("uses_index", _some_text, None),
        fail_on_slowdown=reader.get("fail_on_slowdown", _flag, False),
    )
    reader.refuse_the_rest()
    return query


class _Reader:
    """One table, whose keys are taken one by one; what is left at the end is unknown."""

    def __init__(self, data: Table, name: str) -> None:
        self._rest = dict(data)
        self._name = name
        self._known: list[str] = []

    def need(self, key: str, read: Callable[[object], Kind]) -> Kind:
        """The value of the key, which must be there."""
        self._known.append(key)
        if key not in self._rest:
            raise _Problem(f"{self._full(key)} is missing")
        try:
            return read(self._rest.pop(key))
        except _Problem as error:
            raise _Problem(f"{self._full(key)} must be {error}") from None

    def get(self, key: str, read: Callable[[object], Kind], default: Default) -> Kind | Default:
        """The value of the key, or the default where there is none."""
        self._known.append(key)
        return self.need(key, read) if key in self._rest else default

    def table(self, key: str) -> _Reader:
        """The table under the key, empty where there is none."""
        empty: Table = {}
        return _Reader(self.get(key, _table, empty), self._full(key))

    def tables(self, key: str) -> list[_Reader]:
        """The tables of an array of tables."""
        none: list[Table] = []
        found = self.get(key, _tables, none)
        return [_Reader(data, f"{self._full(key)}[{place}]") for place, data in enumerate(found, start=1)]

    def refuse_the_rest(self) -> None:
        """Raise for the first key that nobody asked for, with the one that was most likely meant."""
        for key in self._rest:
            meant = nearest(key, self._known)
            suggestion = f"; did you mean {self._full(meant)}?" if meant else ""
            raise _Problem(f"there is no key {self._full(key)}{suggestion}")

    def _full(self, key: str) -> str:
        return f"{self._name}.{key}" if self._name else key


# Values, each refused with what it must be


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise _Problem("a text")


def _some_text(value: object) -> str:
    if isinstance(value, str) and value.strip():
        return value
    raise _Problem("a text that is not empty")


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise _Problem("true or false")


def _seconds(value: object) -> float:
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    seconds = float(found["number"]) * _SECONDS[found["unit"]] if found else 0.0
    if seconds > 0:
        return seconds
    raise _Problem('a time above zero, such as "500ms", "10s", "15min" or "1h"')


def _version(value: object) -> int:
    # A bool is an int in Python, and user_version is a signed number of 32 bits that wraps around silently.
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_USER_VERSION:
        return value
    raise _Problem(f"a whole number from 0 to {LARGEST_USER_VERSION}")


def _versions(value: object) -> tuple[int, ...]:
    if isinstance(value, list) and value:
        return tuple(_version(one) for one in value)
    raise _Problem("a list of whole numbers, such as [11]")


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(one, str) and one for one in value):
        return tuple(value)
    raise _Problem("a list of texts")


def _some_texts(value: object) -> tuple[str, ...]:
    texts = _texts(value)
    if texts:
        return texts
    raise _Problem("a list of at least one text")


def _columns(value: object) -> tuple[str, ...]:
    texts = _texts(value)
    if all("." in text.strip(".") for text in texts):
        return texts
    raise _Problem('a list of "table.column"')


def _side(value: object) -> SideName:
    if value == "local":
        return "local"
    if value == "remote":
        return "remote"
    raise _Problem('"local" or "remote"')


def _table(value: object) -> Table:
    if isinstance(value, dict):
        return value
    raise _Problem("a table")


def _tables(value: object) -> list[Table]:
    if isinstance(value, list) and all(isinstance(one, dict) for one in value):
        return value
    raise _Problem("an array of tables")
