"""What a run has to remember of its stream: the backup to go back to, and the looks that going back must equal. Pure.

Read next: `perform.py`, which is given it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import evolve, frozen

from ..events import types as e
from ..events.fold import Status
from ..events.types import Event, Json


@frozen(kw_only=True)
class Recalled:
    """`backup` is the one of the run in flight, `validated` holds the looks before the change that is undone.

    `remote_after` is the look after the remote change that is undone was verified; None where it never was.
    """

    backup: Mapping[str, Json] | None = None
    validated: e.Validated | None = None
    remote_after: Mapping[str, Json] | None = None


def recall(events: Sequence[Event], status: Status) -> Recalled:
    """Read it from the stream's events. Within a run the last look counts: it is the one that the lock was held for."""
    undone = status.undone_runs()
    if status.run is None or not undone:
        return Recalled()
    backups = [event.backup for event in events if isinstance(event, e.BackedUp) and event.run == status.run.run]
    looks = {event.run: event for event in events if isinstance(event, e.Validated) and event.run in undone}
    validated = looks.get(undone[0])
    changed_remote = [
        event.run for event in events if isinstance(event, e.RemoteApplied) and event.run in undone and event.by == event.run
    ]
    recalled = Recalled(backup=backups[-1] if backups else None, validated=validated)
    if not changed_remote:
        return recalled
    if validated is not None and changed_remote[-1] in looks:
        # The remote may have been left for later: what it was like, the run that changed it has seen.
        validated = evolve(validated, remote=looks[changed_remote[-1]].remote)
    verified = [event.remote for event in events if isinstance(event, e.Verified) and event.run == changed_remote[-1]]
    return evolve(recalled, validated=validated, remote_after=verified[-1] if verified else None)
