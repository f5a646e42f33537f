"""One call of the command: the flags that were given, where it runs, and the two streams that it may write to.

With `--json`, exactly one object goes to the first stream and nothing else ever does; everything else goes to the second. The
two commands that may have no end, `log --follow` and `log export`, write one object a line instead.

Read next: `app.py` (who makes it), `configuration.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import define, field

from .configuration import Configuration, configure
from .trouble import error_json, show_error, shown_address

if TYPE_CHECKING:
    from ...events.types import Json, Recorded
    from ...stores.port import EventStore
    from ..coordinator import Coordinator
    from ..report import ErrorReport
    from .screen import Screen


def _silent(record: Recorded) -> None:
    """Nobody listens."""


@define(kw_only=True)
class Invocation:
    """What a command is given. `flags` fills up while the line is read; the word nearest to the command's end wins."""

    environ: Mapping[str, str]
    folder: Path
    version: str = ""
    out: Screen
    err: Screen
    flags: dict[str, str] = field(factory=dict)
    as_json: bool = False
    # Set by a command whose work is more than its answer.
    changes: bool = False
    _configuration: Configuration | None = None

    @property
    def configuration(self) -> Configuration:
        """The settings that hold, read once. Raises ConfigurationError."""
        if self._configuration is None:
            self._configuration = configure(self.flags, self.environ, self.folder)
        return self._configuration

    def coordinator(self, on_event: Callable[[Recorded], None] = _silent) -> Coordinator:
        """A coordinator for these settings. Says on the second stream which remote a foreign variable has chosen."""
        from ..coordinator import Coordinator

        given = self.configuration
        coordinator = Coordinator(
            local=given.local,
            remote=given.remote,
            migrations=given.migrations,
            log=given.log,
            state_dir=given.state_dir,
            remote_role=given.remote_role,
            wait_seconds=given.wait_seconds,
            retry_for_seconds=given.retry_for_seconds,
            keep_days=given.keep_days,
            on_event=on_event,
        )
        if given.sources.get("remote") == "DATABASE_URL" and given.remote_role != "skip":
            self.err.line(f"Remote database, from DATABASE_URL: {self.remote_address}")
        return coordinator

    @property
    def remote_address(self) -> str:
        """The remote as it may be shown; empty where there is none."""
        remote = self.configuration.remote
        return "" if remote is None else shown_address(remote)

    def log(self) -> EventStore:
        """The log itself, read-only: neither database and no migration is needed to read it."""
        from attrs import evolve

        from ..session import open_store

        given = self.configuration
        if given.local is None and given.remote is None:
            # Settings must name a database; none is opened here.
            given = evolve(given, remote="postgresql:")
        return open_store(given.settings(), writes=False)

    def existing_log(self, *, required: bool) -> EventStore:
        """The log, where it must be there because it is `required`, or because somebody has said where it is.

        Raises ConfigurationError (T163) where it is not: nothing to read is not the same as nothing happened.
        """
        from ...events.errors import ConfigurationError, LogDamaged

        store = self.log()
        local = self.configuration.local
        named = "log" in self.configuration.sources or (local is not None and not local.exists())
        try:
            is_there = bool(store.log_id)
        except LogDamaged:
            is_there = True  # What is wrong with it is told by whoever reads it.
        if (required or named) and not is_there:
            location = store.location
            store.close()
            raise ConfigurationError("T163", location=location)
        return store

    def answer(self, data: Callable[[], Mapping[str, Json]], show: Callable[[Screen], None]) -> None:
        """Give the answer: as one object with --json, else as `show` shows it."""
        if self.as_json:
            self.out.line(json.dumps(data(), ensure_ascii=False, indent=2))
        else:
            show(self.out)

    def object_line(self, data: Mapping[str, Json]) -> None:
        """One of many objects, on a line of its own."""
        self.out.line(json.dumps(data, ensure_ascii=False, separators=(",", ":")))

    def trouble(self, error: ErrorReport) -> None:
        """Say on the second stream what went wrong."""
        show_error(error, self.err)

    def refuse(self, outcome: str, error: ErrorReport, known: Mapping[str, Json] | None = None) -> None:
        """Answer with an error: in words, and with --json as an object too, beside what is `known` already."""
        self.trouble(error)
        if self.as_json:
            self.answer(lambda: {**(known or {}), "outcome": outcome, "error": error_json(error)}, lambda _: None)
