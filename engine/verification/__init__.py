"""Verification by property: migrations tried on databases that are drawn from the schema before them.

::

    from twinstep.engine.verification import verify_migration

    def test_it_loses_nothing():
        found = verify_migration("migrations/", "0012_phase3", examples=200)
        assert found.ok, found

`twinstep test` and the pytest plugin are two more faces of the same. It needs the extra `verification` (Hypothesis, pytest).
Read next: `properties.py` (what must hold), `verifying.py` (how it is tried), `rows.py` (how databases are drawn).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .outcome import Counterexample as Counterexample
    from .outcome import PropertyResult as PropertyResult
    from .outcome import Verification as Verification
    from .own import Invariant as Invariant
    from .own import invariant as invariant
    from .postgres_shape import reflect_postgres as reflect_postgres
    from .properties import Property as Property
    from .rows import contents as contents
    from .settings import Settings as Settings
    from .shape import Content as Content
    from .shape import Shape as Shape
    from .sqlite_shape import reflect_sqlite as reflect_sqlite
    from .verifying import Verifier as Verifier
    from .verifying import verify_migration as verify_migration

# Loaded one by one: pytest imports this package for its plugin wherever Twinstep is installed.
_PLACES = {
    "Content": "shape",
    "Counterexample": "outcome",
    "Invariant": "own",
    "Property": "properties",
    "PropertyResult": "outcome",
    "Settings": "settings",
    "Shape": "shape",
    "Verification": "outcome",
    "Verifier": "verifying",
    "contents": "rows",
    "invariant": "own",
    "reflect_postgres": "postgres_shape",
    "reflect_sqlite": "sqlite_shape",
    "verify_migration": "verifying",
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
