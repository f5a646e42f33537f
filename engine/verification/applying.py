"""A change made to both sides by what changes a host's databases, without log, lock of the pair or recovery.

Read next: `trial.py` (what is asked before and after it), `scratch.py` (the schema before a migration).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import TYPE_CHECKING, Final, TypeAlias

from ...events.types import Json
from ...migrations.definition import SideName
from ...migrations.functions import load_what_they_use
from ...migrations.work import Order, SideWork

if TYPE_CHECKING:
    from ...migrations.target import Target

RUN: Final = "trial"

Around: TypeAlias = "Callable[[SideName], AbstractContextManager[object]]"
"""What is put around the work on a side, for instance to give what is raised there another meaning."""
Targets: TypeAlias = "Callable[[SideName], AbstractContextManager[Target]]"


def order_for(work: SideWork) -> Order:
    """What a target is given."""
    return Order(work=work, run=RUN, pair=RUN, log=RUN)


def _as_it_is(side: SideName) -> AbstractContextManager[object]:
    return nullcontext()


def apply_to_both(
    targets: Targets, works: Mapping[SideName, SideWork], *, validating: Around = _as_it_is, applying: Around = _as_it_is
) -> Mapping[str, Json] | None:
    """Both sides, the local one first, and what they verify; the backup of the local side. Raises what targets raise."""
    backup = None
    with ExitStack() as opened:
        found = {side: opened.enter_context(targets(side)) for side in works}
        for side, target in found.items():
            with validating(side):
                target.validate(works[side], back=False)
        for side, target in found.items():
            load_what_they_use(works[side])
            with applying(side):
                target.hold()
                if side == "local":
                    target.look(works[side], content=True)
                    backup = target.back_up(order_for(works[side]))
                target.apply(order_for(works[side]))
                if side == "local":  # others have to look; the session of the remote is in nobody's way
                    target.release()
        for side, target in found.items():
            with applying(side):
                target.verify(works[side])
    return backup
