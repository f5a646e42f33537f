"""Editing the CREATE TABLE text that SQLite stores, so that everything not asked for stays as it was, character by character.

The text is never taken apart and written anew: a column's type, default, CHECK or comment that is not understood cannot be
lost that way. Only spans are cut out and put in; `rebuild/` compares SQLite's own reading of the result afterwards.

No database here. Read next: `rebuild/`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from attrs import Attribute, Factory, field, frozen

from ..events.errors import DefinitionError
from .sqlite_text import Token, fold, meaning, normal_form, quoted

ACTIONS = ("NO ACTION", "RESTRICT", "SET NULL", "SET DEFAULT", "CASCADE")


def _names(given: str | Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _upper(given: str) -> str:
    return given.upper()


def _check_action(key: ForeignKey, attribute: Attribute[str], value: str) -> None:
    if value not in ACTIONS:
        problem = f"{attribute.name} is one of {', '.join(ACTIONS)}, not {value!r}"
        raise DefinitionError("T310", parent=key.parent, problem=problem)


@frozen(kw_only=True)
class ForeignKey:
    """One foreign key of a table. Empty `parent_columns` mean the parent's primary key; a single name may be given as text.

    `deferred` is DEFERRABLE INITIALLY DEFERRED. Raises DefinitionError (T310) for an unknown action, no columns, or a
    number of columns that is not the same on both sides.
    """

    columns: tuple[str, ...] = field(converter=_names)
    parent: str
    parent_columns: tuple[str, ...] = field(default=(), converter=_names)
    on_delete: str = field(default="NO ACTION", converter=_upper, validator=_check_action)
    on_update: str = field(default="NO ACTION", converter=_upper, validator=_check_action)
    deferred: bool = False

    def __attrs_post_init__(self) -> None:
        if not self.columns or len(self.parent_columns) not in (0, len(self.columns)):
            raise DefinitionError("T310", parent=self.parent, problem=f"{self} does not have as many columns on both sides")

    def __str__(self) -> str:
        parent = f"{self.parent} ({', '.join(self.parent_columns)})" if self.parent_columns else self.parent
        return f"({', '.join(self.columns)}) to {parent}"

    @property
    def constraint(self) -> str:
        """The key as a constraint of CREATE TABLE.

        >>> ForeignKey(columns="note_id", parent="notes", on_delete="cascade").constraint
        'FOREIGN KEY ("note_id") REFERENCES "notes" ON DELETE CASCADE'
        """
        text = f"FOREIGN KEY ({_listed(self.columns)}) REFERENCES {quoted(self.parent)}"
        if self.parent_columns:
            text += f" ({_listed(self.parent_columns)})"
        if self.on_delete != "NO ACTION":
            text += f" ON DELETE {self.on_delete}"
        if self.on_update != "NO ACTION":
            text += f" ON UPDATE {self.on_update}"
        return text + " DEFERRABLE INITIALLY DEFERRED" if self.deferred else text


@frozen(kw_only=True)
class DeclaredKey:
    """A foreign key that stands in a text, and the spans to cut out to drop it; none where cutting would not be safe."""

    key: ForeignKey
    spans: tuple[tuple[int, int], ...]


# The words that a constraint of the table begins with; a column of that name is quoted.
_CONSTRAINTS = frozenset({"constraint", "primary", "unique", "check", "foreign"})


@frozen(kw_only=True)
class Item:
    """One column's definition, or constraints of the table (then `column` is empty), as tokens of the text."""

    column: str
    tokens: tuple[Token, ...]

    def outside(self) -> Iterator[tuple[int, Token]]:
        """The tokens outside of parentheses, with their places; the opening ones too."""
        depth = 0
        for at, token in enumerate(self.tokens):
            if depth == 0:
                yield at, token
            depth += (token.word == "(") - (token.word == ")")


def _read(table: CreateTable) -> tuple[Token, ...]:
    found = tuple(meaning(table.sql))
    if [token.word for token in found[:2]] != ["create", "table"] or len(found) < 6 or found[3].word != "(":
        raise ValueError(table.sql)
    return found


@frozen
class CreateTable:
    """A stored CREATE TABLE text. Raises ValueError when made from anything else (a view, a virtual table)."""

    sql: str
    _found: tuple[Token, ...] = field(init=False, eq=False, repr=False, default=Factory(_read, takes_self=True))
    # Once: it is asked for with every row that is looked for.
    _close: int = field(
        init=False, eq=False, repr=False, default=Factory(lambda table: _closing(table._found, 3), takes_self=True)
    )

    @property
    def without_rowid(self) -> bool:
        """Whether the table has no rowids."""
        return "without" in {token.word for token in self._found[self._close :]}

    @property
    def options(self) -> frozenset[str]:
        """What stands behind the columns: "strict", "without rowid"."""
        words = {token.word for token in self._found[self._close :]}
        return frozenset({"strict"} & words) | ({"without rowid"} if "without" in words else frozenset())

    @property
    def name(self) -> str:
        """The table's name."""
        return self._found[2].name

    @property
    def end_of_items(self) -> int:
        """Where the parenthesis around the items has closed."""
        return self._found[self._close].end

    def items(self) -> tuple[Item, ...]:
        """What stands between the commas, in order: the columns first, then what are constraints of the table."""
        found, close, depth, start, items = self._found, self._close, 0, 4, list[Item]()
        for at in range(4, close + 1):
            word = found[at].word
            if (depth == 0 and word == ",") or at == close:
                column = "" if found[start].word in _CONSTRAINTS else found[start].name
                items.append(Item(column=column, tokens=found[start:at]))
                start = at + 1
            depth += (word == "(") - (word == ")")
        return tuple(items)

    def promises(self) -> Iterator[str]:
        """What the text promises of the rows and SQLite does not list: CHECKs, collations, AUTOINCREMENT, DEFERRABLE, what is
        done ON CONFLICT, options."""
        for item in self.items():
            for at, token in item.outside():
                if token.word == "check":
                    end = _closing(item.tokens, at + 1)
                    yield f"CHECK {self._between(item.tokens[at + 1], item.tokens[end])}"
                elif token.word == "collate" and item.column:
                    yield f"COLLATE {fold(item.tokens[at + 1].name)} of {fold(item.column)}"
                elif token.word == "autoincrement":
                    yield f"AUTOINCREMENT of {fold(item.column)}"
                elif token.word == "conflict":
                    yield f"ON CONFLICT {item.tokens[at + 1].word.upper()} of {fold(item.column) or 'the table'}"
        for declared in self.foreign_keys():
            if declared.key.deferred:
                yield f"DEFERRABLE INITIALLY DEFERRED of the key ({', '.join(map(fold, declared.key.columns))})"
        yield from (option.upper() for option in sorted(self.options))

    def generated(self) -> Iterator[tuple[str, str]]:
        """Each generated column, folded, and its expression in normal form."""
        for item in self.items():
            for at, token in item.outside():
                if item.column and token.word == "as" and item.tokens[at + 1].word == "(":
                    end = _closing(item.tokens, at + 1)
                    yield fold(item.column), self._between(item.tokens[at + 1], item.tokens[end])

    def _between(self, first: Token, last: Token) -> str:
        return normal_form(self.sql[first.start : last.end])

    @property
    def names_itself(self) -> bool:
        """Whether a constraint or expression says table.column: such a text stands under its own name only."""
        return bool(self._own_qualifiers())

    def named(self, name: str) -> str:
        """The text that makes the same table as main.name; what it says about itself (table.column) goes along."""
        spans = [(self._found[2], f"main.{quoted(name)}"), *((token, quoted(name)) for token in self._own_qualifiers())]
        return replaced(self.sql, [(token.start, token.end, text) for token, text in spans])

    def with_keys(self, keys: Iterable[ForeignKey]) -> CreateTable:
        """The text with these keys as its last constraints."""
        # Right behind the last constraint, where a reader looks for it, not behind a comment on the closing line.
        end = self._found[self._close - 1].end
        added = "".join(f",\n  {key.constraint}" for key in keys)
        return CreateTable(replaced(self.sql, [(end, end, added)]))

    def without_keys(self, declared: Iterable[DeclaredKey]) -> CreateTable:
        """The text without these keys of its own."""
        return CreateTable(replaced(self.sql, [(*span, "") for key in declared for span in key.spans]))

    def foreign_keys(self) -> tuple[DeclaredKey, ...]:
        """The foreign keys in the order of the text, whether they stand at a column or on their own."""
        found, close, depth, item, keys = self._found, self._close, 0, 4, []
        for at in range(4, close):
            word = found[at].word
            depth += (word == "(") - (word == ")")
            if depth == 0 and word == ",":
                item = at + 1
            elif depth == 0 and word == "references":
                opening = _foreign_key_before(found, at)
                keys.append(self._of_column(at, found[item].name) if opening is None else self._of_table(at, opening))
        return tuple(keys)

    def _of_column(self, references: int, column: str) -> DeclaredKey:
        key, end = _read_references(self._found, references, (column,))
        start = self._named_from(references)
        before = self._found[start - 1].end
        first = self._found[start].start
        # A DEFERRABLE that stands apart would go over to another key of the table.
        if _deferrable_behind(self._found, end):
            return DeclaredKey(key=key, spans=())
        return DeclaredKey(key=key, spans=((first if self.sql[before:first].strip() else before, self._found[end - 1].end),))

    def _of_table(self, references: int, opening: int) -> DeclaredKey:
        columns = tuple(token.name for token in self._found[opening + 3 : references - 1] if token.word != ",")
        key, end = _read_references(self._found, references, columns)
        start = self._named_from(opening)
        span = (self._found[start].start, self._found[end - 1].end)
        comma = self._found[start - 1]
        # Constraints may follow each other without a comma. The comma before this one goes, unless it also parts what
        # stands before from a constraint behind.
        if comma.word != "," or self._found[end].word not in (",", ")"):
            return DeclaredKey(key=key, spans=(span,))
        if self.sql[comma.end : span[0]].strip():
            return DeclaredKey(key=key, spans=((comma.start, comma.end), span))
        return DeclaredKey(key=key, spans=((comma.start, span[1]),))

    def _named_from(self, start: int) -> int:
        """Where the constraint begins with its name, if it has one."""
        return start - 2 if self._found[start - 2].word == "constraint" else start

    def _own_qualifiers(self) -> list[Token]:
        name = fold(self._found[2].name)
        pairs = zip(self._found[4:], self._found[5:], strict=False)
        return [token for token, after in pairs if after.word == "." and fold(token.name) == name]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(quoted, names))


def _closing(found: Sequence[Token], opening: int) -> int:
    depth = 0
    for at in range(opening, len(found)):
        depth += (found[at].word == "(") - (found[at].word == ")")
        if depth == 0:
            return at
    raise ValueError("unclosed parenthesis")


def _foreign_key_before(found: Sequence[Token], references: int) -> int | None:
    """Where FOREIGN KEY (...) begins, if that is what stands before REFERENCES."""
    at = references - 1
    if found[at].word != ")":
        return None
    while found[at].word != "(":
        at -= 1
    return at - 2 if found[at - 1].word == "key" and found[at - 2].word == "foreign" else None


def _read_references(found: Sequence[Token], at: int, columns: tuple[str, ...]) -> tuple[ForeignKey, int]:
    """The key of these columns behind REFERENCES, and the first token after it."""
    parent = found[at + 1].name
    parent_columns: tuple[str, ...] = ()
    at += 2
    if found[at].word == "(":
        closing = _closing(found, at)
        parent_columns = tuple(token.name for token in found[at + 1 : closing] if token.word != ",")
        at = closing + 1
    actions = {"delete": "NO ACTION", "update": "NO ACTION"}
    while found[at].word in ("on", "match"):
        if found[at].word == "match":
            at += 2
            continue
        event, at = found[at + 1].word, at + 2
        words = 2 if found[at].word in ("set", "no") else 1
        actions[event] = " ".join(token.word.upper() for token in found[at : at + words])
        at += words
    deferred, at = _read_deferrable(found, at)
    key = ForeignKey(
        columns=columns,
        parent=parent,
        parent_columns=parent_columns,
        on_delete=actions["delete"],
        on_update=actions["update"],
        deferred=deferred,
    )
    return key, at


def _read_deferrable(found: Sequence[Token], at: int) -> tuple[bool, int]:
    negated = found[at].word == "not" and found[at + 1].word == "deferrable"
    if not negated and found[at].word != "deferrable":
        return False, at
    at += 2 if negated else 1
    if found[at].word != "initially":
        return False, at
    return found[at + 1].word == "deferred" and not negated, at + 2


def _deferrable_behind(found: Sequence[Token], at: int) -> bool:
    """Whether the same column goes on with a DEFERRABLE of its own."""
    depth = 0
    for token in found[at:]:
        depth += (token.word == "(") - (token.word == ")")
        if depth < 0 or (depth == 0 and token.word == ","):
            return False
        if token.word == "deferrable":
            return True
    return False


def replaced(text: str, edits: Iterable[tuple[int, int, str]]) -> str:
    """The text with each span (start, end) replaced; spans do not overlap."""
    for start, end, replacement in sorted(edits, reverse=True):
        text = text[:start] + replacement + text[end:]
    return text
