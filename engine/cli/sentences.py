"""Events as short sentences: for the log, for the lines that `migrate` shows as it goes, for the demo. Pure.

`sentence` says what an event recorded, `next_phrase` what is most likely done after it. All numbers are the event's own.

Read next: `../../events/types.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

from ...events import types as e
from ...events.codec import decode
from ...events.types import Event, Json, Recorded
from .figures import count, counted, size

AFTER: Final[Mapping[str, str]] = {
    "RunStarted": "checking both sides",
    "Validated": "backing up the local database",
    "BackedUp": "changing the local database",
    "LocalApplied": "changing the remote database",
    "RemoteStarted": "changing the remote database",
    "RemoteApplied": "verifying",
    "RemoteSkipped": "verifying",
    "RemoteConfirmed": "verifying",
    "RollbackStarted": "going back",
    "RemoteUndone": "going back",
    "LocalUndone": "comparing with before",
}


# What is going on while an effect takes long.
_DOING: Final[Mapping[str, str]] = {
    "APPLY_REMOTE": "changing the remote database",
    "UNDO_REMOTE": "taking the remote change back",
}


def next_phrase(record: Recorded) -> str:
    """What is under way after this event; empty where nothing is."""
    return AFTER.get(record.type, "")


def seconds_of(record: Recorded) -> float | None:
    """How long the effect took; None where the event does not say."""
    seconds = getattr(decode(record), "seconds", None)
    return None if not isinstance(seconds, float) or seconds == 0 else seconds


def sentence(record: Recorded) -> str:
    """What the event says, in a few words, beginning in lower case."""
    return _sentence(decode(record))


def _sentence(event: Event) -> str:
    match event:
        case e.RunStarted():
            what = "to take back" if event.direction == e.BACK else "to apply"
            return f"began {what} on {_sides(event.sides)}" + (", without the remote" if event.skip_remote else "")
        case e.Validated():
            return _checked(event)
        case e.ValidationFailed():
            return f"refused before anything was changed: {event.message}"
        case e.BackedUp():
            return _backed_up(event)
        case e.LocalApplied():
            return "local" + _applied(event)
        case e.RemoteStarted():
            return "remote side begun"
        case e.RemoteApplied():
            return "remote" + _applied(event)
        case e.RemoteSkipped():
            return "remote side skipped, as asked"
        case e.RemoteConfirmed():
            return f"remote side found applied, by run {event.by}"
        case e.Verified():
            return _verified(event)
        case _:
            return _on_the_way_back(event)


def _on_the_way_back(event: Event) -> str:
    match event:
        case e.StepFailed():
            return f"{event.effect} refused: {event.message}"
        case e.RollbackStarted():
            where = f"on {_sides(event.sides)}" if event.sides else "with nothing to take back"
            return f"going back ({event.reason}) {where}"
        case e.RemoteUndone():
            return "remote side taken back" + (", found so after a crash" if event.recovered else "")
        case e.LocalUndone():
            how = "from the backup" if event.how == "restore" else "by its down steps"
            return f"local side taken back {how}" + (", found so after a crash" if event.recovered else "")
        case e.RollbackAbandoned():
            return "taking back given up, nothing was undone"
        case e.RolledBack():
            stands = ", ".join(f"{side} by run {run}" for side, run in event.stands.items())
            as_before = "" if event.findings else ", as before"
            return "rolled back" + (f"; still applied: {stands}" if stands else as_before)
        case _:
            return _note(event)


def _note(event: Event) -> str:
    match event:
        case e.BackupRestored():
            return f"{event.state} after backup {event.backup} was restored; what was there is backup {event.replaced}"
        case e.Settled():
            return f"taken as {event.state}"
        case e.VerificationAccepted():
            return f"{counted(len(event.differences), 'difference')} accepted"
        case e.StepProgressed():
            far = f"{count(event.done)} of {count(event.total)} " if event.total else ""
            return f"{_DOING.get(event.effect, event.effect)}: {far}{event.note}".rstrip()
        case e.BackupCreated():
            return f"backup {event.backup.get('id', '')} {'found' if event.backup.get('why') == 'found' else 'made'}"
        case e.BackupVerified():
            return f"backup {event.backup} verified"
        case e.BackupCleanupScheduled():
            return f"backup {event.backup} may go on {event.at[:10]}"
        case e.BackupDeleted():
            return f"backup {event.backup} deleted, {size(event.bytes)} freed"
        case e.QuarantineRestored():
            return f"{counted(event.rows, 'row')} of {event.table} put back from quarantine"
        case e.ContentRestored():
            return f"backup {event.backup} restored; what was there is backup {event.replaced}"
        case e.ConflictDetected():
            return f"conflict: {_conflict(event)}"
        case e.ConflictResolved():
            return f"conflict ended ({event.how}): {_conflict(event)}"
        case e.SyncChecked():
            return f"compared: {counted(event.conflicts, 'conflict')}"
        case _:
            return ""


def _conflict(event: e.ConflictDetected | e.ConflictResolved) -> str:
    return " ".join(filter(None, (event.kind, event.side, event.migration)))


def _checked(event: e.Validated) -> str:
    looks = [_look(side, look) for side, look in (("local", event.local), ("remote", event.remote)) if look is not None]
    measured = counted(len(event.queries), "query", "queries") if event.queries else ""
    return "checked: " + "; ".join(filter(None, [*looks, measured])) if looks else "checked"


def _look(side: str, look: Mapping[str, Json]) -> str:
    rows = cast("Mapping[str, int]", look.get("rows") or {})
    if rows:
        return f"{side} {counted(len(rows), 'table')}, {counted(sum(rows.values()), 'row')}"
    objects = cast("Mapping[str, str]", look.get("objects") or {})
    return f"{side} {counted(sum(key.startswith('table ') for key in objects), 'table')}"


def _backed_up(event: e.BackedUp) -> str:
    if event.backup is None:
        return "no backup needed: the local side is not changed"
    proved = ", hashed, restored once as a trial" if event.backup.get("verified") else ""
    return f"backed up {size(cast('int', event.backup['bytes']))}{proved}"


def _applied(event: e.LocalApplied | e.RemoteApplied) -> str:
    if event.nothing:
        return ": nothing to do"
    if event.recovered:
        return " applied, found so after a crash"
    if event.by is not None and event.by != event.run:
        return f" found applied, by run {event.by}"
    return f" applied: {changes_text(event.changes)}"


def _verified(event: e.Verified) -> str:
    measured = counted(len(event.queries), "query", "queries") + " measured" if event.queries else ""
    found = counted(len(event.findings), "finding") if event.findings else ""
    return ": ".join(filter(None, ["accepted" if event.accepted else "verified", ", ".join(filter(None, [measured, found]))]))


def changes_text(changes: Mapping[str, Json]) -> str:
    """What a side's change did, counted from its catalogue; "no change in the catalogue" where that is so.

    Tables, indexes and foreign keys have counts of their own; what else was added, dropped or changed is counted by its kind.
    Nothing is told of twice: neither a table that was rebuilt as changed, nor the constraints of a table beside it.
    """
    by_deed: dict[str, list[str]] = {}
    for key, thing, things, done in _COUNTED:
        number = changes.get(key)
        if isinstance(number, int) and number:
            by_deed.setdefault(done if number > 0 else "dropped", []).append(counted(abs(number), thing, things))
    for deed in ("added", "dropped", "changed"):
        for thing, number in _by_kind(changes, deed).items():
            by_deed.setdefault(deed, []).append(counted(number, thing, _PLURALS.get(thing)))
    found = [f"{', '.join(counts)} {done}" for done, counts in by_deed.items()]
    for key, done in (("rows", "rows {number:+}"), ("rows_quarantined", "{number} set aside")):
        tables = cast("Mapping[str, int]", changes.get(key) or {})
        found += [f"{table} {done.format(number=number)}" for table, number in tables.items()]
    return ", ".join(found) or "no change in the catalogue"


_COUNTED: Final = (
    ("tables_rebuilt", "table", "tables", "rebuilt"),
    ("tables_added", "table", "tables", "added"),
    ("tables_dropped", "table", "tables", "dropped"),
    ("foreign_keys_added", "foreign key", "foreign keys", "added"),
    ("indexes_added", "index", "indexes", "added"),
    ("indexes_dropped", "index", "indexes", "dropped"),
)


_PLURALS: Final = {"index": "indexes", "policy": "policies", "statistics": "statistics"}
_KINDS_OF_TWO_WORDS: Final = ("materialized view", "default grant")


def _by_kind(changes: Mapping[str, Json], deed: str) -> dict[str, int]:
    """How many objects of each kind were added, dropped or changed, where no count tells of them."""
    names = cast("list[str]", changes.get(f"objects_{deed}") or [])
    tables = tuple(f"{name.removeprefix('table ')}." for name in names if name.startswith("table "))
    found: dict[str, int] = {}
    for name in names:
        kind = next((two for two in _KINDS_OF_TWO_WORDS if name.startswith(f"{two} ")), name.partition(" ")[0])
        if kind != "constraint" or not name.removeprefix("constraint ").startswith(tables):
            found[kind] = found.get(kind, 0) + 1
    if deed == "changed":
        found["table"] = found.get("table", 0) - cast("int", changes.get("tables_rebuilt") or 0)
    else:
        keys = cast("int", changes.get("foreign_keys_added") or 0) * (1 if deed == "added" else -1)
        found["constraint"] = found.get("constraint", 0) - max(0, keys)
        found = {kind: number for kind, number in found.items() if kind not in ("table", "index")}
    return {kind: number for kind, number in found.items() if number > 0}


def _sides(sides: tuple[str, ...]) -> str:
    return f"the {' and '.join(sides)} side{'s' if len(sides) > 1 else ''}" if sides else "no side"
