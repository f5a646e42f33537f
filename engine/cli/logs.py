"""The commands that read the log alone: `log`, `log check`, `log export`. They write nothing, and open neither database.

So the log can be read when a database is away or a migration is broken. With `--follow` it is asked again and again for what
lies behind the last position that was read: positions grow over all streams, so that nothing is missed and nothing told twice.

Read next: `../../stores/log_check.py`, `../../stores/port.py`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import click

from ...events.cut_short import cut_short
from .figures import counted, instant
from .screen import BAD, GOOD
from .sentences import sentence
from .shapes import event_json, written_json
from .teaching import Lesson, TaughtCommand, TaughtGroup
from .trouble import BLOCKED, DONE, INTERRUPTED, USAGE, error_json, without_passwords

if TYPE_CHECKING:
    from ...events.types import Json, Recorded
    from ...stores.log_check import LogReport
    from ...stores.port import EventStore
    from .invocation import Invocation
    from .screen import Screen

POLL_SECONDS: Final = 0.2
FORMATS: Final = ("jsonl",)


def run_log(invocation: Invocation, stream: str | None, follow: bool) -> int:
    """Show the events, and with `follow` those that are still to come."""
    from ...events.errors import ConfigurationError

    store = invocation.existing_log(required=False)
    try:
        if follow:
            return _follow(invocation, store, stream)
        location = store.location
        records = [one for one in store.read_all() if _is_wanted(one, stream)]
    finally:
        store.close()
    if stream is not None and not records:
        raise ConfigurationError("T155", stream=stream, location=location)
    invocation.answer(
        lambda: {"log": location, "events": [event_json(record) for record in records]},
        lambda screen: _show_log(records, location, screen),
    )
    return DONE


def _is_wanted(record: Recorded, stream: str | None) -> bool:
    return stream is None or stream in (record.stream, record.stream.partition("/")[2])


def _show_log(records: Sequence[Recorded], location: str, screen: Screen) -> None:
    if not records:
        screen.line(f"The log at {location} holds no events.")
        return
    several = len({_pair(record) for record in records}) > 1
    rows = []
    for record in records:
        what = without_passwords(_one_line(sentence(record)))
        name = _name(record, several=several)
        rows.append([str(record.position), instant(record.recorded_at), name, str(record.version), record.type, what])
    screen.table(["#", "time (UTC)", "migration", "version", "event", "what"], rows, right={0, 3})


def _pair(record: Recorded) -> str:
    return record.stream.partition("/")[0]


def _name(record: Recorded, *, several: bool) -> str:
    """The migration, or that it is the pair's own stream; the whole stream where there are several pairs."""
    return record.stream if several else record.stream.partition("/")[2] or "(the pair)"


def _one_line(text: str) -> str:
    words = " ".join(text.split())
    return cut_short(words, 100)


def _follow(invocation: Invocation, store: EventStore, stream: str | None) -> int:
    """Tell of each event once, as it comes, until interrupted or until nobody reads any more."""
    pairs: set[str] = set()
    try:
        for record in _as_they_come(store, invocation.out):
            pairs.add(_pair(record))
            if not _is_wanted(record, stream):
                continue
            if invocation.as_json:
                invocation.object_line(event_json(record))
            else:
                invocation.out.line(_line(record, several=len(pairs) > 1))
    except KeyboardInterrupt:
        # How it is meant to end: nothing is in flight here, and nothing is wrong.
        return INTERRUPTED
    return DONE


def _as_they_come(store: EventStore, screen: Screen) -> Iterator[Recorded]:
    position = 0
    while not screen.is_left:
        for record in store.read_all(after=position):
            position = record.position
            yield record
            if screen.is_left:
                return
        time.sleep(POLL_SECONDS)


def _line(record: Recorded, *, several: bool) -> str:
    """One event: what is still to come cannot be aligned with it, so that only what is short has a fixed width."""
    what = without_passwords(_one_line(sentence(record)))
    name = _name(record, several=several)
    return (
        f"{record.position:>5}  {instant(record.recorded_at)}  {name}  {record.version:>3}  {record.type:<18}  {what}".rstrip()
    )


def run_log_export(invocation: Invocation, format: str) -> int:
    """Write every event as it lies in the log, one a line."""
    store = invocation.existing_log(required=True)
    try:
        for record in store.read_all():
            invocation.object_line(written_json(record))
            if invocation.out.is_left:
                break
    finally:
        store.close()
    return DONE


def run_log_check(invocation: Invocation) -> int:
    """Check the log."""
    from ...stores.log_check import check_log

    store = invocation.existing_log(required=True)
    try:
        location = store.location
        report = check_log(store)
    finally:
        store.close()
    invocation.answer(lambda: _log_check_json(report, location), lambda screen: _show_log_check(report, location, screen))
    return DONE if report.sound else BLOCKED


def _log_check_json(report: LogReport, location: str) -> dict[str, Json]:
    from ..report import error_report

    return {
        "log": location,
        "log_id": report.log_id,
        "sound": report.sound,
        "streams": report.streams,
        "events": report.events,
        "problems": [error_json(error_report(problem)) for problem in report.problems],
    }


def _show_log_check(report: LogReport, location: str, screen: Screen) -> None:
    from ..report import error_report
    from .trouble import show_error

    screen.line(f"{location}: {counted(report.events, 'event')} in {counted(report.streams, 'stream')}")
    if report.sound:
        chains = "The hash chain of each stream holds, no position is missing, and the read tables are what the events say."
        screen.paragraph(chains if report.events else "There is nothing in it yet.", style=GOOD)
        return
    screen.line(f"The log is damaged ({counted(len(report.problems), 'problem')}); the first:", BAD)
    show_error(error_report(report.problems[0]), screen)


LOG_CHECK: Final = TaughtCommand(
    "check",
    Lesson(
        does="Checks that the log is what was written. The hash chain of each stream, the order of positions, that each event "
        "may follow the one before it, and that the read tables are what the events say. A log that is not there is refused.",
        never="It repairs nothing. A tail that was cut off is not seen here but by the next 'status' or 'migrate', which "
        "compare the log with the ledgers in the databases.",
        examples=("twinstep log check", "twinstep log check --log sqlite:///copy/log.db"),
        exits=(DONE, USAGE, BLOCKED),
    ),
    run_log_check,
)

LOG_EXPORT: Final = TaughtCommand(
    "export",
    Lesson(
        does="Writes every event to the standard output, for other tools. One JSON object a line, with or without --json; the "
        "payload is the text that the hash was made of, so that the chains can be checked with this alone (docs/log.md).",
        never="It opens neither database, and leaves nothing out.",
        examples=("twinstep log export --format jsonl > log.jsonl",),
        exits=(DONE, USAGE, BLOCKED),
    ),
    run_log_export,
    params=[
        click.Option(
            ["--format"], type=click.Choice(FORMATS), default=FORMATS[0], show_default=True, help="One JSON object a line."
        )
    ],
)

LOG: Final = TaughtGroup(
    "log",
    Lesson(
        does="Shows the events, oldest first. One line each: position in the log, time, migration, version in its stream, "
        "type, and what it says; with --json everything, the hashes too. With --follow also those still to come, of all "
        "streams, each once, until Ctrl-C (exit code 130); --json then prints one object a line.",
        never="It opens neither database: only the log is read.",
        examples=("twinstep log", "twinstep log --stream 0012_phase3", "twinstep log --follow --json", "twinstep log check"),
        exits=(DONE, USAGE, BLOCKED, INTERRUPTED),
    ),
    [LOG_CHECK, LOG_EXPORT],
    body=run_log,
    params=[
        click.Option(["--stream"], metavar="S", help="Only this stream, or this migration."),
        click.Option(["--follow"], is_flag=True, help="Go on with what is appended from now on; ends with Ctrl-C."),
    ],
)
