"""Edits of a stored CREATE TABLE text beyond its foreign keys: columns, constraints, options. Each gives another text.

As in `create_table.py`, nothing is written anew that was not asked for: spans are cut out and put in. Whether SQLite reads the
result as it was meant is asked of SQLite afterwards.

No database here. Read next: `rebuilding.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from ...events.errors import DefinitionError
from ..create_table import CreateTable, Item, replaced
from ..sqlite_text import Token, fold, meaning, normal_form, tokens

# What a constraint begins with at the depth of its item; DEFERRABLE and ON CONFLICT go on with the one before.
_BEGIN = frozenset(
    {"primary", "unique", "check", "foreign", "not", "null", "default", "collate", "references", "generated", "as"}
)
_GOES_ON_AFTER = {"null": ("not", "set", "default"), "default": ("set",), "as": ("always",)}


def column_named(text: CreateTable, name: str, table: str) -> Item:
    """The item of that column. Raises DefinitionError (T311) where there is none."""
    found = next((item for item in text.items() if item.column and fold(item.column) == fold(name)), None)
    if found is None:
        raise DefinitionError("T311", table=table, problem=f"there is no column {name}")
    return found


def with_columns(text: CreateTable, definitions: Iterable[str], table: str) -> CreateTable:
    """The columns added behind the last one."""
    for definition in definitions:
        name = column_of(definition, table)
        if any(item.column and fold(item.column) == fold(name) for item in text.items()):
            raise DefinitionError("T311", table=table, problem=f"it already has a column {name}")
        end = [item for item in text.items() if item.column][-1].tokens[-1].end
        text = _edited(text, [(end, end, f",\n  {definition.strip()}")], table)
    return text


def without_columns(text: CreateTable, names: Iterable[str], table: str) -> CreateTable:
    """These columns taken out, with what stands at them."""
    for name in names:
        text = _edited(text, [_span(text, column_named(text, name, table))], table)
    return text


def with_changed_column(text: CreateTable, name: str, definition: str, table: str) -> CreateTable:
    """The column defined otherwise; the definition begins with its name."""
    if fold(column_of(definition, table)) != fold(name):
        problem = f"the new definition of {name} is one of {column_of(definition, table)}; rename_columns renames"
        raise DefinitionError("T311", table=table, problem=problem)
    item = column_named(text, name, table)
    return _edited(text, [(item.tokens[0].start, item.tokens[-1].end, definition.strip())], table)


def with_constraints(text: CreateTable, constraints: Iterable[str], table: str) -> CreateTable:
    """These constraints of the table added behind what it has."""
    for constraint in constraints:
        end = text.items()[-1].tokens[-1].end
        text = _edited(text, [(end, end, f",\n  {constraint.strip()}")], table)
    return text


def without_constraints(text: CreateTable, constraints: Iterable[str], table: str) -> CreateTable:
    """These constraints taken out, each by its name or by its text, wherever it stands."""
    for wanted in constraints:
        found = [(item, part) for item in text.items() for part in parts(item) if _is(text, part, wanted)]
        if len(found) != 1:
            many = "none" if not found else f"{len(found)} of them"
            raise DefinitionError("T311", table=table, problem=f"of the constraint {wanted} there is {many}, not one")
        ((item, part),) = found
        whole = not item.column and len(parts(item)) == 1
        before = text.sql[: part[0].start].rstrip()
        span = _span(text, item) if whole else (len(before), part[-1].end, "")
        text = _edited(text, [span], table)
    return text


def with_options(text: CreateTable, *, strict: bool | None, without_rowid: bool | None, table: str) -> CreateTable:
    """STRICT and WITHOUT ROWID set or taken away; None leaves one as it is."""
    wanted = {
        "STRICT": "strict" in text.options if strict is None else strict,
        "WITHOUT ROWID": "without rowid" in text.options if without_rowid is None else without_rowid,
    }
    if {name.lower() for name, on in wanted.items() if on} == text.options:
        return text
    tail = ", ".join(name for name, on in wanted.items() if on)
    return _edited(text, [(text.end_of_items, len(text.sql), f" {tail}" if tail else "")], table)


def parts(item: Item) -> list[tuple[Token, ...]]:
    """The constraints of the item as tokens, each with its CONSTRAINT and name; a column's name and type are none."""
    starts = list(_starts(item.tokens))
    return [item.tokens[start:end] for start, end in pairwise((*starts, len(item.tokens)))]


def _starts(tokens: Sequence[Token]) -> Iterator[int]:
    depth, named = 0, False
    for at, token in enumerate(tokens):
        if depth == 0:
            if token.word == "constraint":
                yield at
                named = True
            elif token.word in _BEGIN and not _goes_on(tokens, at):
                if not named:
                    yield at
                named = False
        depth += (token.word == "(") - (token.word == ")")


def _goes_on(tokens: Sequence[Token], at: int) -> bool:
    """Whether the word belongs to what stands before: SET NULL, DEFAULT NULL, NOT DEFERRABLE, FOREIGN KEY ... REFERENCES."""
    word, before = tokens[at].word, tokens[at - 1].word if at else ""
    if word == "not":
        return at + 1 < len(tokens) and tokens[at + 1].word == "deferrable"
    if word == "references":
        return any(token.word == "foreign" for token in tokens[:at]) and before == ")"
    return before in _GOES_ON_AFTER.get(word, ())


def _is(text: CreateTable, part: tuple[Token, ...], wanted: str) -> bool:
    named = part[0].word == "constraint"
    if named and fold(part[1].name) == fold(wanted.strip().strip('"')):
        return True
    body = part[2:] if named else part
    return bool(body) and normal_form(text.sql[body[0].start : body[-1].end]) == normal_form(wanted)


def column_of(definition: str, table: str) -> str:
    """The name that a column's definition begins with."""
    found = meaning(definition)
    if not found or found[0].kind not in ("word", "quoted"):
        raise DefinitionError("T311", table=table, problem=f"{definition!r} is not the definition of a column")
    return found[0].name


def _span(text: CreateTable, item: Item) -> tuple[int, int, str]:
    """The item with one of its commas."""
    items = text.items()
    place = next(at for at, each in enumerate(items) if each.tokens[0].start == item.tokens[0].start)
    if place > 0:
        # The comma follows the last token before it; one further on may stand in a comment.
        last, first = items[place - 1].tokens[-1].end, item.tokens[0].start
        comma = next(token.start + last for token in tokens(text.sql[last:first]) if token.text == ",")
        return comma, item.tokens[-1].end, ""
    end = items[place + 1].tokens[0].start if len(items) > 1 else item.tokens[-1].end
    return item.tokens[0].start, end, ""


def _edited(text: CreateTable, edits: Iterable[tuple[int, int, str]], table: str) -> CreateTable:
    sql = replaced(text.sql, edits)
    try:
        return CreateTable(sql)
    except ValueError as error:
        raise DefinitionError("T311", table=table, problem=f"it would read {sql}") from error
