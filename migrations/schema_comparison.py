"""What counts as a difference when an existing database is held against what migrations make of an empty one. Pure.

An object that is missing or other than it should be is a difference: what follows would build on it. An object beside them is
the host's own affair, and a finding.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping


def differences_of(
    wanted: Mapping[str, str], here: Mapping[str, str], *, aside: Collection[str] = ()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Sentences: what is missing or differs, and what is there beside it. Objects of the kinds `aside` are not looked at.

    >>> differences_of({"table a": "1", "index i": "2"}, {"table a": "3", "table b": "4"})
    (('index i is missing', 'table a differs'), ('table b is of no migration',))
    """
    wanted, here = (
        {key: digest for key, digest in side.items() if not any(key.startswith(f"{kind} ") for kind in aside)}
        for side in (wanted, here)
    )
    missing = [f"{key} is missing" for key in sorted(wanted.keys() - here.keys())]
    other = [f"{key} differs" for key in sorted(wanted.keys() & here.keys()) if wanted[key] != here[key]]
    beside = [f"{key} is of no migration" for key in sorted(here.keys() - wanted.keys())]
    return (*missing, *other), tuple(beside)
