"""Twinstep takes an application that lives in SQLite and PostgreSQL from one schema to the next as one migration.

This module names every public thing and loads it when it is first asked for (PEP 562), because a host application pays
for `import twinstep` at every start. Read next: `docs/`, or `engine/coordinator.py`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .engine.backup_report import BackupReport as BackupReport
    from .engine.bootstrap import bootstrap as bootstrap
    from .engine.bootstrap_rules import BootstrapOutcome as BootstrapOutcome
    from .engine.coordinator import Coordinator as Coordinator
    from .engine.quarantining import QuarantineReport as QuarantineReport
    from .engine.report import Report as Report
    from .engine.report import RunReport as RunReport
    from .engine.report import StatusReport as StatusReport
    from .engine.report import VerifyReport as VerifyReport
    from .events.errors import TwinstepError as TwinstepError
    from .migrations.definition import Expectation as Expectation
    from .migrations.definition import LocalOptions as LocalOptions
    from .migrations.definition import Migration as Migration
    from .migrations.definition import Query as Query
    from .migrations.definition import RemoteOptions as RemoteOptions
    from .migrations.definition import Side as Side
    from .migrations.memory_target import MemoryDatabase as MemoryDatabase
    from .migrations.quarantined import Quarantined as Quarantined
    from .migrations.rebuild import ForeignKey as ForeignKey
    from .migrations.rebuild import rebuild_table as rebuild_table
    from .stores.memory import MemoryEventStore as MemoryEventStore

__version__ = "0.1.0"

_PLACES = {
    "BackupReport": "engine.backup_report",
    "BootstrapOutcome": "engine.bootstrap_rules",
    "bootstrap": "engine.bootstrap",
    "Coordinator": "engine.coordinator",
    "Expectation": "migrations.definition",
    "ForeignKey": "migrations.rebuild",
    "LocalOptions": "migrations.definition",
    "MemoryDatabase": "migrations.memory_target",
    "MemoryEventStore": "stores.memory",
    "Migration": "migrations.definition",
    "Quarantined": "migrations.quarantined",
    "QuarantineReport": "engine.quarantining",
    "Query": "migrations.definition",
    "RemoteOptions": "migrations.definition",
    "Report": "engine.report",
    "RunReport": "engine.report",
    "Side": "migrations.definition",
    "StatusReport": "engine.report",
    "TwinstepError": "events.errors",
    "VerifyReport": "engine.report",
    "rebuild_table": "migrations.rebuild",
}

__all__ = sorted(_PLACES)


def __getattr__(name: str) -> object:
    """Load a public name from where it lives."""
    try:
        place = _PLACES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    found: object = getattr(import_module(f".{place}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
