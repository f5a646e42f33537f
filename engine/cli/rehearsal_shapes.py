"""The `rehearsal` object in the JSON of a dry run, number by number. Pure.

Read next: `shapes.py` for the rest of the object; `rehearsal_view.py` for the same in words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .trouble import without_passwords

if TYPE_CHECKING:
    from ...events.types import Json
    from ...migrations.rehearsal.rehearsing import PartRehearsal, RehearsedStep, TableRows
    from ..rehearsal_report import RehearsalReport

    Shape = dict[str, Json]


def rehearsal_json(rehearsal: RehearsalReport) -> Shape:
    """What only a dry run knows."""
    return {
        "migrations": [
            {
                "migration": one.migration,
                **{side: part_json(part) for side, part in one.sides.items()},
                "notes": list(one.notes),
            }
            for one in rehearsal.migrations
        ],
        "held_seconds": dict(rehearsal.held_seconds),
        "disk": [
            {"folder": need.folder, "purpose": need.purpose, "needed_bytes": need.needed, "free_bytes": need.free}
            for need in rehearsal.disk
        ],
        "faults": [
            {
                "migration": fault.migration,
                "effect": fault.effect,
                "code": fault.code,
                "message": without_passwords(fault.message),
                "next_step": without_passwords(fault.next_step),
            }
            for fault in rehearsal.faults
        ],
        "not_tried": list(rehearsal.not_tried),
        "traces": rehearsal.traces,
    }


def part_json(part: PartRehearsal) -> Shape:
    """One side of one migration; null where the rehearsal did not come so far."""
    return {
        "objects_added": None if part.changes is None else list(part.changes.objects_added),
        "objects_dropped": None if part.changes is None else list(part.changes.objects_dropped),
        "objects_changed": None if part.changes is None else list(part.changes.objects_changed),
        "tables_rewritten": list(part.rewritten),
        "rows": None if part.rows is None else [_rows(table) for table in part.rows],
        "steps": [_step(step) for step in part.steps],
        "seconds": {effect: round(seconds, 4) for effect, seconds in part.seconds.items()},
        "not_rehearsed": [{"what": each.what, "reason": each.reason} for each in part.omissions],
    }


def _rows(table: TableRows) -> Shape:
    if table.inserted is not None:
        done: Shape = {"inserted": table.inserted, "updated": table.updated, "deleted": table.deleted}
    else:
        done = {"before": table.before, "after": table.after, "changed": table.changed}
    return {"table": table.table, **done}


def _step(step: RehearsedStep) -> Shape:
    return {
        "direction": step.direction,
        "step": step.step,
        "statement": step.statement,
        "seconds": round(step.seconds, 4),
        "locks": [{"table": lock.table, "mode": lock.mode, "blocks": lock.blocks} for lock in step.locks],
    }
