"""Whether a log is what was written: hashes, positions, legality, and the read tables.

It finds any edit, removal or reordering inside a stream. It does not find a stream's tail that was cut off: what is left is
a whole log, only an older one. The ledgers in the two databases hold each stream's last hash, and find that. How events of
*different* streams lie to each other is no part of the hashes.

Works on any store through its port. Read next: `../events/chain.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attrs import frozen

from ..events.chain import check_stream
from ..events.codec import decode
from ..events.errors import Defect, IllegalHistory, LogDamaged
from ..events.fold import fold
from ..events.lifecycle import PAIR_EVENTS
from ..events.projections import ROW_TYPES, Row, rebuild
from ..events.types import Recorded
from .port import EventStore


@frozen(kw_only=True)
class LogReport:
    """What was checked, and what is wrong: of each stream and each read table the first thing, in order."""

    log_id: str
    streams: int
    events: int
    problems: tuple[Defect, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def check_log(store: EventStore) -> LogReport:
    """Walk the whole log. What is wrong with it is reported, not raised; Blocked is raised where it cannot be read now."""
    log_id, names, events = "", list[str](), 0
    problems: list[Defect] = []
    try:
        log_id, names = store.log_id, store.streams()
        for stream in names:
            records = store.read(stream)
            events += len(records)
            problems.extend(_problems_of_stream(stream, records))
        # One after the other: what is made from a damaged log would only repeat its damage.
        problems = problems or list(_problems_of_positions(store, events))
        problems = problems or list(_problems_of_tables(store))
        if not problems:
            store.check()
    except LogDamaged as error:
        problems.append(error)
    return LogReport(log_id=log_id, streams=len(names), events=events, problems=tuple(problems))


def _problems_of_stream(stream: str, records: Sequence[Recorded]) -> Iterator[Defect]:
    try:
        check_stream(records)
        if "/" in stream:
            fold(records)
        else:
            _check_pair_stream(records)
    except (LogDamaged, IllegalHistory) as error:
        yield error


def _check_pair_stream(records: Sequence[Recorded]) -> None:
    for record in records:
        decode(record)
        if record.type not in PAIR_EVENTS:
            raise IllegalHistory(
                "T505",
                event=record.type,
                state="the pair's events",
                stream=record.stream,
                version=record.version,
                problem="it belongs to a migration's stream",
            )


def _problems_of_positions(store: EventStore, events: int) -> Iterator[Defect]:
    """The log as one sequence: no gap, the events of each stream in its order, and none that its stream does not have."""
    position, versions = 0, dict[str, int]()
    for record in store.read_all():
        position += 1
        version = versions[record.stream] = versions.get(record.stream, 0) + 1
        if (record.position, record.version) != (position, version):
            problem = f"it lies at position {record.position} of the log, where version {version} should lie at {position}"
            yield LogDamaged("T501", stream=record.stream, version=record.version, problem=problem)
            return
    if position != events:
        problem = f"the streams have {events} events, the log has {position}"
        yield LogDamaged("T501", stream="(all)", version=min(position, events) + 1, problem=problem)


def _problems_of_tables(store: EventStore) -> Iterator[Defect]:
    expected = rebuild(store.read_all())
    for table, kind in ROW_TYPES.items():
        wanted: list[Row] = [row for row in expected.values() if isinstance(row, kind)]
        found = store.rows(table)
        if found != wanted:
            yield LogDamaged("T509", table=table, problem=_difference(wanted, found))


def _difference(wanted: Sequence[Row], found: Sequence[Row]) -> str:
    by_key = {(row.pair, row.id): row for row in found}
    for row in wanted:
        if (row.pair, row.id) not in by_key:
            return f"row {row.id} of pair {row.pair} is missing"
        if by_key[row.pair, row.id] != row:
            return f"row {row.id} of pair {row.pair} differs"
    surplus = by_key.keys() - {(row.pair, row.id) for row in wanted}
    return f"{len(surplus)} rows are too many" if surplus else "its rows are in another order"
