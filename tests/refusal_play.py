"""One case of `refusal_cases.py`, run for real: what came of it, and everything that is not as it was before."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen
from refusal_world import Seen, World, made_world

if TYPE_CHECKING:
    from refusal_cases import Case

    from twinstep.engine.embedded import EmbeddedPostgres

# What is there for a while only; a call that ended has left none of it.
TEMPORARY = (".copying", ".trial", ".image", "-journal", "app.db-wal", "app.db-shm", "lock.holder.json")


@frozen(kw_only=True)
class Played:
    """What was printed, and what was changed. `changed` is empty where the world is as before."""

    exit: int
    code: str
    message: str
    next_step: str
    printed: str
    changed: tuple[str, ...]


@contextmanager
def fresh_world(server: EmbeddedPostgres) -> Iterator[World]:
    """A world in a folder that others than its owner may look into."""
    with tempfile.TemporaryDirectory(prefix="twinstep-refusal-") as folder:
        Path(folder).chmod(0o755)
        try:
            with made_world(Path(folder), server) as made:
                yield made
        finally:
            Path(folder).chmod(0o755)


def play(case: Case, world: World) -> Played:
    """Bring the circumstances about, run the command, and look at everything again."""
    case.prepare(world)
    before = world.seen()
    answer = (world.run if case.rights else world.run_without_rights)(*case.words.split(), "--json")
    error = json.loads(answer.out).get("error") or {}
    return Played(
        exit=answer.code,
        code=error.get("code", ""),
        message=error.get("message", ""),
        next_step=error.get("next_step", ""),
        printed=answer.out + answer.err,
        changed=tuple(_changes(case, world, before, world.seen())),
    )


def _changes(case: Case, world: World, before: Seen, after: Seen) -> Iterator[str]:
    # What was undone may lie elsewhere in the file than before; what was never begun may not.
    if case.exit != 1 and not case.meanwhile and after.local_hash != before.local_hash:
        yield "the bytes of the local file"
    for side, was, now in (("local", before.local, after.local), ("remote", before.remote, after.remote)):
        yield from (
            f"{side} {name}: {was.get(name)} became {now.get(name)}"
            for name in sorted(was.keys() | now.keys())
            if was.get(name) != now.get(name) and name not in case.meanwhile
        )
    # A host that writes meanwhile has a journal until it commits.
    gone = before.files - after.files - ({"app.db-journal"} if case.meanwhile else set())
    yield from (f"{name} is gone" for name in sorted(gone))
    for name in sorted(after.files - before.files):
        in_state = name.partition("/")[0] in ("app.db.twinstep", "state")
        if name.endswith(".lock"):
            continue  # an empty file that the lock of a pair is held on, beside its log
        if name.endswith(TEMPORARY) or not (in_state and case.may_write):
            yield f"{name} was left behind"
    if after.events[: len(before.events)] != before.events or (not case.may_write and after.events != before.events):
        yield "the log"
    if case.exit != 4 and world.holds_a_lock():
        yield "a lock is still held"
    if after.events and case.code not in ("T501", "T508") and world.run("log", "check").code != 0:
        yield "the log is not sound"
