"""The shapes of the command's JSON, as the contract has them: made from the coordinator's answers, number by number. Pure.

Read next: `../report.py` for what goes in; `views.py` for the same in words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from .rehearsal_shapes import rehearsal_json
from .trouble import error_json, without_passwords

if TYPE_CHECKING:
    from ...events.projections import BackupRow
    from ...events.types import Json, Recorded
    from ..backup_report import BackupReport
    from ..report import ConflictReport, InFlight, PlannedMigration, Report, RunReport, SideReport, StatusReport

    Shape = dict[str, Json]


def status_json(status: StatusReport) -> Shape:
    """`status`."""
    return {
        "pair": status.pair,
        "needs_migration": status.needs_migration,
        "in_flight": in_flight_json(status.in_flight),
        "local": {**_side(status.local), "user_version": status.local.user_version},
        "remote": {**_side(status.remote), "role": status.remote.role},
        "pending": list(status.pending),
        "migrations": [
            {
                "id": one.id,
                "state": one.state,
                "local_status": one.local_status,
                "remote_status": one.remote_status,
                "checksum": one.checksum,
                "runs": one.runs,
            }
            for one in status.migrations
        ],
        "conflicts": conflicts_json(status.conflicts),
    }


def _side(side: SideReport) -> Shape:
    shape: Shape = {"reachable": side.reachable, "applied": list(side.applied)}
    return shape if side.problem is None else {**shape, "problem": without_passwords(side.problem)}


def in_flight_json(found: InFlight | None) -> Shape | None:
    """The run in flight; None where there is none."""
    if found is None:
        return None
    shape: Shape = {"run": found.run, "migration": found.migration, "state": found.state, "since": found.since}
    return {**shape, "problem": without_passwords(found.problem), "next_step": found.next_step}


def conflicts_json(conflicts: Sequence[ConflictReport]) -> list[Shape]:
    """What does not fit together."""
    return [
        {"kind": one.kind, "migration": one.migration, "message": one.message, "next_step": one.next_step} for one in conflicts
    ]


def report_json(report: Report, backups: Path) -> Shape:
    """`migrate`, `resume`, `rollback`; `backups` is the folder in which a backup's file lies."""
    shape: Shape = {
        "outcome": report.outcome,
        "runs": [run_json(run, backups) for run in report.runs],
        "findings": list(report.findings),
        "error": None if report.error is None else error_json(report.error),
    }
    return shape if report.rehearsal is None else {**shape, "rehearsal": rehearsal_json(report.rehearsal)}


def run_json(run: RunReport, backups: Path) -> Shape:
    """One attempt; `history` too."""
    return {
        "run": run.run,
        "migration": run.migration,
        "direction": run.direction,
        "state": run.state,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "seconds": run.seconds,
        "steps": [{"effect": step.effect, "seconds": step.seconds} for step in run.steps],
        "local": dict(run.local),
        "remote": dict(run.remote),
        "remote_skipped": run.remote_skipped,
        "queries": [
            {
                "name": query.name,
                "side": query.side,
                "before_ms": query.before_ms,
                "after_ms": query.after_ms,
                "plan_changed": query.plan_changed,
            }
            for query in run.queries
        ],
        "backup": None if run.backup is None else _backup_of_run(run.backup, backups),
        "findings": list(run.findings),
        "error": None if run.error is None else error_json(run.error),
    }


def _backup_of_run(backup: Mapping[str, Json], backups: Path) -> Shape:
    path = str(backups / str(backup["name"]))
    return {"id": backup["id"], "path": path, "bytes": backup["bytes"], "sha256": backup["sha256"]}


def plan_json(planned: Sequence[PlannedMigration]) -> Shape:
    """`plan`."""
    return {
        "migrations": [
            {
                "id": one.id,
                "description": one.description,
                "steps": [{"side": step.side, "kind": step.kind, "statements": list(step.statements)} for step in one.steps],
            }
            for one in planned
        ]
    }


def event_json(record: Recorded) -> Shape:
    """One event of `log`, with what it says as an object."""
    return {
        "position": record.position,
        "stream": record.stream,
        "version": record.version,
        "type": record.type,
        "schema_version": record.schema_version,
        "recorded_at": record.recorded_at,
        "payload": json.loads(record.payload),
        "previous_hash": record.previous_hash,
        "hash": record.hash,
    }


def written_json(record: Recorded) -> Shape:
    """One event of `log export`: what it says as the very text that its hash was made of."""
    return {**event_json(record), "payload": record.payload}


def backup_json(row: BackupRow, backups: Path) -> Shape:
    """One backup of `backup list`."""
    said = cast("Mapping[str, Json]", json.loads(row.metadata))
    path = backups / str(said.get("name") or f"{row.backup_id}.db")
    return {
        "id": row.backup_id,
        "created_at": said.get("created_at") or row.created_at,
        "migration": row.migration_version,
        "status": row.status,
        "bytes": row.backup_size_bytes,
        "sha256": said.get("sha256"),
        "path": str(path),
        "present": path.exists(),
        "why": said.get("why"),
        "restoration_verified": bool(row.restoration_verified),
        "cleanup_at": row.cleanup_at,
    }


def backup_report_json(report: BackupReport, backups: Path) -> Shape:
    """`backup create`, `verify`, `restore` and `prune`; `backups` is the folder in which the files lie."""
    return {
        "outcome": report.outcome,
        "backups": [
            {
                "id": one.id,
                "path": str(backups / (one.name or f"{one.id}.db")),
                "bytes": one.bytes,
                "sha256": one.sha256,
                "problem": None if one.problem is None else error_json(one.problem),
            }
            for one in report.backups
        ],
        "bytes": report.bytes,
        "replaced": report.replaced,
        "migrations": list(report.migrations),
        "findings": list(report.findings),
        "error": None if report.error is None else error_json(report.error),
    }
