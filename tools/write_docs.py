"""Write into the documentation what is read from the code: the lifecycle, the messages, the events, the command.

A block stands between `<!-- generated: NAME -->` and `<!-- end -->`, and is made by the function of that name in `BLOCKS`.
Everything else in those files is written by hand. Run by `make docs`; `tests/test_docs.py` fails where a block is out of date.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import click
from attrs import fields

from twinstep.events import types as e
from twinstep.events.codec import EVENT_TYPES
from twinstep.events.errors import TwinstepError
from twinstep.events.fold import Status, evolve
from twinstep.events.lifecycle import NOTES, PAIR_EVENTS, RESTING, TABLE, Row, State
from twinstep.events.messages import MESSAGES
from twinstep.events.types import BACK

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 120
# What click makes of a terminal of 80 columns.
HELP_WIDTH = 78
BLOCK = re.compile(r"(?P<head><!-- generated: (?P<name>[a-z ]+) -->\n).*?(?P<tail><!-- end -->)", re.DOTALL)

# What the first digit of a code says, as in events/messages.py.
KINDS: Final[Mapping[str, str]] = {
    "T1": "The input: a definition, an option, a file",
    "T2": "The circumstances: a database, a disk, the log and the ledgers",
    "T3": "A refusal while running, or nobody knows",
    "T4": "The lock",
    "T5": "The log",
    "T9": "A defect",
}


def main() -> int:
    """Write every block anew; prints the files that changed."""
    for path in documents():
        text = path.read_text(encoding="utf-8")
        rendered = render(text)
        if rendered != text:
            path.write_text(rendered, encoding="utf-8")
            print(path.relative_to(ROOT))
    return 0


def documents() -> list[Path]:
    """The files that may hold generated blocks."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def render(text: str) -> str:
    """The text with each block as the code has it now. Raises KeyError for a block that nobody makes."""
    return BLOCK.sub(lambda found: f"{found['head']}{BLOCKS[found['name']]()}\n{found['tail']}", text)


# The lifecycle


def lifecycle_diagram() -> str:
    """A Mermaid state diagram of the table. Rows that may come from any state are left to the table."""
    labels: dict[tuple[str, str], list[str]] = {}
    for row in TABLE:
        for source, destination, label in _arrows(row):
            known = labels.setdefault((source, destination), [])
            if label not in known:
                known.append(label)
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> pending"]
    lines += [f"    {source} --> {destination}: {', '.join(texts)}" for (source, destination), texts in labels.items()]
    return "\n".join([*lines, "```"])


def _arrows(row: Row) -> Iterator[tuple[str, str, str]]:
    if _is_from_anywhere(row):
        return
    for source in row.sources:
        for destination in _destinations(row):
            yield source, destination, f"{row.effect} ({row.number})"
        if row.refusable:
            yield source, State.ROLLING_BACK, "refused"


def _destinations(row: Row) -> list[State]:
    return [row.destination] if row.destination is not None else _ends_of_a_rollback()


def _ends_of_a_rollback() -> list[State]:
    """Where RolledBack can lead, asked of `evolve` for every way in which a run may have begun."""
    found: set[State] = set()
    for direction in (e.APPLY, BACK):
        run = e.RunStarted(run="run", migration="0001_one", direction=direction, sides=("local",))
        for before in RESTING:
            for stands in ({}, {"local": "earlier"}):
                status = Status(state=State.ROLLING_BACK, run=run, before=before)
                found.add(evolve(status, e.RolledBack(run="run", stands=stands)).state)
    return [state for state in State if state in found]


def _is_from_anywhere(row: Row) -> bool:
    return row.sources == tuple(State)


def lifecycle_table() -> str:
    """Every row of the table, in the order in which it is read."""
    rows = [
        (
            row.number,
            "any" if _is_from_anywhere(row) else ", ".join(row.sources),
            str(row.when),
            str(row.effect),
            ", ".join(row.events),
            " or ".join(_destinations(row)) if not _is_from_anywhere(row) else "as the event says",
            "rolling_back" if row.refusable else "",
        )
        for row in TABLE
    ]
    return _table(("row", "from", "when", "effect", "events, in one append", "to", "if refused"), rows)


def lifecycle_notes() -> str:
    """The events that change no state."""
    notes, pair = (", ".join(f"`{name}`" for name in EVENT_TYPES if name in names) for names in (NOTES, PAIR_EVENTS))
    return "\n".join([*_item(f"In a migration's stream, in any state: {notes}."), *_item(f"In the pair's own stream: {pair}.")])


# Errors and messages


def error_classes() -> str:
    """The tree of errors, what each asks of the caller, and its exit code."""
    return _table(
        ("error", "means", "exit code"),
        [(f"{'&nbsp;' * 4 * depth}`{kind.__name__}`", _first_line(kind), str(kind.exit_code)) for kind, depth in _tree()],
    )


def _tree(kind: type[TwinstepError] = TwinstepError, depth: int = 0) -> Iterator[tuple[type[TwinstepError], int]]:
    yield kind, depth
    for below in (each for each in kind.__subclasses__() if each.__module__ == TwinstepError.__module__):
        yield from _tree(below, depth + 1)


def messages() -> str:
    """Every message, by code."""
    lines: list[str] = []
    for prefix, heading in KINDS.items():
        codes = sorted(code for code in MESSAGES if code.startswith(prefix))
        if codes:
            lines += [f"## {heading}", ""]
        for code in codes:
            message = MESSAGES[code]
            lines += [f"### {code}", "", *_wrapped(message.condition), ""]
            lines += [*_item(f"Effect: {message.effect}"), *_item(f"Next: {message.next_step}"), ""]
    return "\n".join(lines).rstrip()


def refusals() -> str:
    """Every case of the tests: what is given, the exit code, and what is said."""
    sys.path.insert(0, str(ROOT / "tests"))
    from refusal_cases import GROUPS

    lines: list[str] = []
    for heading, cases in GROUPS.items():
        rows = [
            (
                case.name,
                f"`{case.words}`",
                str(case.exit),
                f"[{case.code}](errors.md#{case.code.lower()}): {case.says.rstrip('.')}"
                if case.code
                else "it goes on and ends verified",
            )
            for case in cases
        ]
        lines += [f"## {heading}", "", _table(("what is given", "typed", "exit code", "what is said, in part"), rows), ""]
    return "\n".join(lines).rstrip()


# Events


def event_types() -> str:
    """Each type of event with its fields and the first line of what it says."""
    lines: list[str] = []
    for name, kind in EVENT_TYPES.items():
        names = [attribute.name for attribute in fields(kind) if attribute.name != "run"]
        held = f" ({', '.join(f'`{each}`' for each in names)})" if names else ""
        lines += _item(f"**`{name}`**{held}: {_first_line(kind)}")
    return "\n".join(lines)


# The command


def commands() -> str:
    """What the overview of the command lists."""
    from twinstep.engine.cli.app import OVERVIEW

    listed = [(name, command) for group in OVERVIEW.values() for name, command in group.items()]
    return _table(("command", "does"), [(f"`twinstep {name}`", command.lesson.short) for name, command in listed])


def command_help() -> str:
    """The help of the command and of every one below it, as a terminal of 80 columns shows it."""
    from twinstep.engine.cli.app import APP, NAME

    root = click.Context(APP, info_name=NAME, terminal_width=HELP_WIDTH)
    return "\n\n".join(
        f"## {context.command_path}\n\n```text\n$ {context.command_path} --help\n{context.get_help()}\n```"
        for context in (root, *_below(root))
    )


def _below(context: click.Context) -> Iterator[click.Context]:
    """The commands below a command, each with those below it, in the order in which they are listed."""
    if isinstance(context.command, click.Group):
        for name, command in context.command.commands.items():
            below = click.Context(command, parent=context, info_name=name, terminal_width=HELP_WIDTH)
            yield from (below, *_below(below))


def settings() -> str:
    """Every setting: flag, variable and help."""
    from twinstep.engine.cli.configuration import SETTINGS

    rows = [(f"`--{one.name} {one.metavar}`", f"`{one.variable}`", one.help) for one in SETTINGS.values()]
    return _table(("flag", "environment", "means (default)"), rows)


def exit_codes() -> str:
    """What the command's exit codes say."""
    from twinstep.engine.cli.trouble import EXIT_CODES

    return _table(("code", "means"), [(str(code), text) for code, text in EXIT_CODES.items()])


# Markdown


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().partition("\n")[0]


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    cells = [[_escaped(cell).replace("|", "\\|") for cell in row] for row in rows]
    lines = [list(heads), ["---"] * len(list(heads)), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _item(text: str) -> list[str]:
    return textwrap.wrap(
        _escaped(text), WIDTH, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False, break_long_words=False
    )


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(_escaped(text), WIDTH, break_on_hyphens=False, break_long_words=False)


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;")


BLOCKS: Final[Mapping[str, Callable[[], str]]] = {
    "lifecycle diagram": lifecycle_diagram,
    "lifecycle table": lifecycle_table,
    "lifecycle notes": lifecycle_notes,
    "error classes": error_classes,
    "messages": messages,
    "refusals": refusals,
    "event types": event_types,
    "commands": commands,
    "command help": command_help,
    "settings": settings,
    "exit codes": exit_codes,
}


if __name__ == "__main__":
    sys.exit(main())
