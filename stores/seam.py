"""The seam at which faults enter: a function that is called with the name of each crossing, and does nothing in production.

A test passes in a probe that raises, kills its process or waits at the crossing of its choice. It is always an argument,
never a global switch, so that what is tested is what runs. This module must never import anything of Twinstep.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Probe: TypeAlias = "Callable[[str], None]"

# The crossings of an append. What raises at the first leaves nothing appended, what raises at the second everything.
BEFORE_COMMIT = "append:before-commit"
AFTER_COMMIT = "append:after-commit"


def no_probe(crossing: str) -> None:
    """Nothing happens at this crossing."""
