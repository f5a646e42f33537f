"""What a migration has lost: two looks at one side held against each other, row by row and value by value.

Nothing is taken from the migration's text but what it declares. A row is found again by its primary key, else by all its
values. A table or column of another name is the same where every row, or value, is found there. A value that moved to another
table is kept where it stands beside the key of its row. No I/O here, but for `same`, which a database may have to answer.

Independent of `migrations/accounting/`, which refuses losses while a real migration runs: this is what that is held against.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from attrs import evolve, frozen

from ...migrations.definition import Expectation, SideName
from ...migrations.sqlite_text import fold
from .looks import Look, Row, TableLook, Value, shown

Same = Callable[[str, Value, str, Value], bool]
"""Whether a value of one type says the same as a value of another, although they are not equal."""

EXAMPLES = 3


def never_the_same(type: str, value: Value, new_type: str, new_value: Value) -> bool:
    """Values that are not equal are different."""
    return False


@frozen(kw_only=True)
class Declared:
    """What may disappear or change: tables whose rows may go, and pairs of table and column."""

    tables: frozenset[str] = frozenset()
    columns: frozenset[tuple[str, str]] = frozenset()

    @classmethod
    def of(cls, expect: Expectation, side: SideName, dropped: Collection[tuple[str, str]] = ()) -> Declared:
        """From `[expect]`, together with the columns that a statement drops by name."""
        named = fold if side == "local" else str
        columns = (each.rpartition(".") for each in expect.columns_changed)
        return cls(
            tables=frozenset(map(named, expect.rows_removed)),
            columns=frozenset({(named(table), named(column)) for table, _, column in columns} | {*dropped}),
        )

    def __contains__(self, column: tuple[str, str]) -> bool:
        return column in self.columns


def losses(before: Look, after: Look, *, declared: Declared | None = None, same: Same = never_the_same) -> Iterator[str]:
    """What of `before` is not in `after`, or stands there twice, one sentence each; nothing where all of it is there."""
    comparison = _Comparison(before, after, declared or Declared(), same)
    for name, table in before.tables.items():
        yield from comparison.of_table(name, table)
    yield from comparison.ids_given_out_again()


def differences(before: Look, now: Look, *, declared: Declared | None = None, ids_may_rise: bool = False) -> Iterator[str]:
    """Whether a side is as it was: schema, marks, rows and the ids given out next, apart from what is declared."""
    declared = declared or Declared()
    yield from before.schema.differences(now.schema)
    for name, table in before.tables.items():
        if name in declared.tables or name not in now.tables or table.columns != now.tables[name].columns:
            continue  # a column that is not as it was is told of as a difference of the schema
        yield from _unlike(name, table, now.tables[name], {column for of, column in declared.columns if of == name})
    for name, number in before.next_ids.items():
        found = now.next_ids.get(name)
        if found is not None and (found < number or (found > number and not ids_may_rise)):
            yield f"the next id of {name} was {number}, is {found}"


def _unlike(name: str, before: TableLook, now: TableLook, apart: Collection[str]) -> Iterator[str]:
    places = [place for place, column in enumerate(before.columns) if column not in apart]
    was = Counter(tuple(row[place] for place in places) for row in before.rows)
    found = Counter(tuple(row[place] for place in places) for row in now.rows)
    columns = [before.columns[place] for place in places]
    for counted, words in ((was - found, "is gone"), (found - was, "was not there before")):
        for row in list(counted)[:EXAMPLES]:
            yield f"{name}: the row {_row(columns, row)} {words}"


class _Comparison:
    def __init__(self, before: Look, after: Look, declared: Declared, same: Same) -> None:
        self._before = before
        self._after = after
        self._declared = declared
        self._same = same

    def of_table(self, name: str, table: TableLook) -> list[str]:
        """What is lost of one table, under the name that it bears now."""
        if name in self._after.tables:
            return list(self._of(name, table, self._after.tables[name]))
        if not table.rows or name in self._declared.tables:
            return []
        for other, found in self._after.tables.items():
            if other not in self._before.tables and not list(self._of(name, table, found)):
                return []
        return [f"the table {name} is gone, and its {len(table.rows)} rows are nowhere"]

    def _of(self, name: str, table: TableLook, now: TableLook) -> Iterator[str]:
        if not table.rows:
            return
        columns = self._columns(table, now)
        # A key that is declared to change tells no row from another.
        is_kept = all(column in columns and (name, column) not in self._declared for column in table.key)
        if not table.key or not is_kept:
            yield from self._by_values(name, table, now, columns)
            return
        named, nameless = _by_null(table, table.key)
        named_now, nameless_now = _by_null(now, [columns[column] for column in table.key])
        if named.rows:
            yield from self._by_key(name, named, named_now, columns, table.key)
        if nameless.rows:
            yield from self._by_values(name, nameless, nameless_now, columns, whole=False)

    def _columns(self, table: TableLook, now: TableLook) -> dict[str, str]:
        """The name that each column bears now; one that bears another is known by its values."""
        columns = {column: column for column in table.columns if column in now.columns}
        new = [column for column in now.columns if column not in table.columns]
        for column in table.columns:
            if column not in columns:
                values = Counter(row[table.place(column)] for row in table.rows)
                for other in new:
                    if Counter(row[now.place(other)] for row in now.rows) >= values and other not in columns.values():
                        columns[column] = other
                        break
        return columns

    def _by_key(
        self, name: str, table: TableLook, now: TableLook, columns: Mapping[str, str], key: Sequence[str]
    ) -> Iterator[str]:
        was, found = table.by(key), now.by([columns[column] for column in key])
        gone = [each for each in was if each not in found]
        if name in self._declared.tables:
            gone = []
        gone = [each for each in gone if (name, each) not in self._after.aside]
        if gone:
            yield f"{_are(len(gone), 'row', name, 'gone')}: {_examples([_row(key, each) for each in gone])}"
        kept = [each for each in was if each in found]
        for column in table.columns:
            if (name, column) in self._declared:
                continue
            if column in columns:
                yield from self._changed(name, table, now, column, columns[column], [(was[k], found[k], k) for k in kept])
            else:
                yield from self._moved(name, table, column, key, [was[each] for each in kept])
        # A key that two rows bear is no key of the new table.
        if len(now.rows) > len(found):
            yield _are(len(now.rows) - len(found), "row", now.name, f"there twice under one {', '.join(key)}")
        yield from self._doubled(name, table, now, columns, key)

    def _changed(
        self,
        name: str,
        table: TableLook,
        now: TableLook,
        column: str,
        new_name: str,
        pairs: Sequence[tuple[Row, Row, Row]],
    ) -> Iterator[str]:
        at, new_at = table.place(column), now.place(new_name)
        type, new_type = (_type(table, at), _type(now, new_at))
        told = [
            f"{_row(table.key, key)}: {shown(row[at])} became {shown(new[new_at])}"
            for row, new, key in pairs
            if row[at] != new[new_at]
            and (name, key, column) not in self._after.cleared
            and not self._same(type, row[at], new_type, new[new_at])
        ]
        if told:
            yield f"{_are(len(told), 'value', f'{name}.{column}', 'another')}: {_examples(told)}"

    def _moved(self, name: str, table: TableLook, column: str, key: Sequence[str], rows: Sequence[Row]) -> Iterator[str]:
        """A column that is gone: each of its values has to stand elsewhere, beside the key of its row."""
        at = table.place(column)
        values = [row for row in rows if row[at] is not None]
        if not values:
            return
        wanted = {(*(row[table.place(each)] for each in key), row[at]) for row in values}
        if any(self._holds(other, wanted) for other in self._after.tables.values()):
            return
        told = _examples([shown(row[at]) for row in values])
        yield f"{_are(len(values), 'value', f'{name}.{column}', 'gone with the column')}: {told}"

    def _holds(self, table: TableLook, wanted: set[Row]) -> bool:
        """Whether one column beside others of the table holds all of them, in any order of the columns."""
        width = len(next(iter(wanted)))
        if width > 2:  # a composite key: beside the same columns of the same table
            return False
        for first in range(len(table.columns)):
            for second in range(len(table.columns)):
                if first != second and wanted <= {(row[first], row[second]) for row in table.rows}:
                    return True
        return False

    def _by_values(
        self, name: str, table: TableLook, now: TableLook, columns: Mapping[str, str], *, whole: bool = True
    ) -> Iterator[str]:
        """A table without a key: as many equal rows as before. Where they are not the `whole` of it, what becomes of a column
        is told by the others."""
        compared = [column for column in table.columns if column in columns and (name, column) not in self._declared]
        was = Counter(tuple(row[table.place(column)] for column in compared) for row in table.rows)
        found = Counter(tuple(row[now.place(columns[column])] for column in compared) for row in now.rows)
        gone = was - found
        if gone and name not in self._declared.tables:
            told = _examples([_row(compared, row) for row in gone.elements()])
            yield f"{_are(gone.total(), 'row', name, 'gone or changed')}: {told}"
        twice = Counter({row: found[row] - number for row, number in was.items() if found[row] > number})
        if twice:
            yield f"{_are(twice.total(), 'row', name, 'there more often')}: {_examples(_row(compared, row) for row in twice)}"
        for column in table.columns if whole else ():
            if column not in columns and (name, column) not in self._declared:
                at = table.place(column)
                values = [row[at] for row in table.rows if row[at] is not None]
                if values:
                    told = _are(len(values), "value", f"{name}.{column}", "gone with the column")
                    yield f"{told}: {_examples(map(shown, values))}"

    def _doubled(
        self, name: str, table: TableLook, now: TableLook, columns: Mapping[str, str], key: Sequence[str]
    ) -> Iterator[str]:
        """Rows under new keys that say in everything else what an old one says."""
        others = [column for column in table.columns if column in columns and column not in key]
        places, others_now = [now.place(columns[each]) for each in key], [now.place(columns[each]) for each in others]
        old_keys = set(table.by(key))
        was = {tuple(row[table.place(column)] for column in others) for row in table.rows}
        new = [row for row in now.rows if tuple(row[place] for place in places) not in old_keys]
        said = {tuple(row[place] for place in places): tuple(row[place] for place in others_now) for row in new}
        doubled = [_row(key, each) for each, row in said.items() if row in was and any(value is not None for value in row)]
        if doubled:
            yield f"{_are(len(doubled), 'row', name, 'there twice, under a new key')}: {_examples(doubled)}"

    def ids_given_out_again(self) -> Iterator[str]:
        """An id that was given out once must not be given out again."""
        if ("sqlite_sequence", "seq") in self._declared:
            return
        for name, number in self._after.next_ids.items():
            table = self._after.tables.get(name)
            if table is None or len(table.key) != 1:
                continue
            before = self._before.next_ids.get(name, 0)
            ids = [_whole(row[table.place(table.key[0])]) for row in table.rows]
            highest = max((each for each in ids if each is not None), default=0)
            clean = all(number > (id or 0) for id in ids) or self._were_above(name)
            if number < before:
                yield f"the next id of {name} was {before}, is {number}: ids would be given out twice"
            elif not clean:
                yield f"the next id of {name} is {number}, and {highest} is taken already"

    def _were_above(self, name: str) -> bool:
        """Whether ids above the mark stood there before: then it is not the migration's doing."""
        table, number = self._before.tables.get(name), self._before.next_ids.get(name)
        if table is None or number is None or len(table.key) != 1:
            return False
        ids = (_whole(row[table.place(table.key[0])]) for row in table.rows)
        return any(each is not None and each >= number for each in ids)


def _by_null(table: TableLook, key: Sequence[str]) -> tuple[TableLook, TableLook]:
    """The rows that have the key, and those in which a part of it is NULL, which SQLite lets through: no key is alike then."""
    places = [table.place(column) for column in key]
    parts: tuple[list[Row], list[Row]] = ([], [])
    for row in table.rows:
        parts[any(row[place] is None for place in places)].append(row)
    named, nameless = parts
    return evolve(table, rows=tuple(named)), evolve(table, rows=tuple(nameless))


def _whole(value: Value) -> int | None:
    if not isinstance(value, tuple):
        return None
    try:
        return int(value[1])
    except (TypeError, ValueError):
        return None


def _type(table: TableLook, place: int) -> str:
    return table.types[place] if table.types else ""


def _row(columns: Sequence[str], row: Row) -> str:
    return ", ".join(f"{column}={shown(value)}" for column, value in zip(columns, row, strict=True))


def _are(number: int, what: str, of: str, said: str) -> str:
    """Such as "2 rows of notes are gone"."""
    return f"1 {what} of {of} is {said}" if number == 1 else f"{number} {what}s of {of} are {said}"


def _examples(told: Iterable[str]) -> str:
    listed = list(told)
    return "; ".join(listed[:EXAMPLES]) + ("; ..." if len(listed) > EXAMPLES else "")
