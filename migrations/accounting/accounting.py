"""One change accounted for, inside its transaction and before it commits: what it took away must have been declared.

Before the steps: what there is, what the tables promise, which views and triggers work. While they run: what they name
themselves. Afterwards each table, row by row where its digest or columns are other than before, each object, each mark. What
neither the statements named, nor a helper explained, nor [expect] declares is a loss, and all losses are named in one refusal.

UPDATE explains new values of the columns that it names, as long as they are of the same kind. DELETE and DROP TABLE explain
no row that is gone: a statement that removes too much says so just as well.

Only reads; the before-image is the backup, attached read-only. Read next: `loss.py`, `rows.py`, `said.py`, `structure.py`.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path

from attrs import define, field, frozen

from ...stores.explanation import Explanation, start_listening
from ..catalogue import Fingerprint
from ..quarantined import Quarantined, read_quarantined
from ..sqlite_catalogue import ForeignKeyViolation, plain_rows
from ..sqlite_text import fold, normal_form
from ..sqlite_working import working
from ..work import Limits
from .loss import Loss, examples, refusal
from .renaming import lost, same_but_for_names
from .rows import BEFORE, Lost, Pair, compare
from .said import Said
from .structure import Structure, read_structure
from .unchanged import is_unchanged

_OBJECTS = r"""
    SELECT type, name, tbl_name, rootpage, coalesce(sql, '') FROM main.sqlite_schema
    WHERE name NOT LIKE 'sqlite\_%' ESCAPE '\' AND name NOT LIKE 'twinstep\_%' ESCAPE '\' ORDER BY rowid
"""
_STATISTICS = "SELECT 1 FROM main.sqlite_schema WHERE name = 'sqlite_stat1'"
_SEQUENCES = "SELECT 1 FROM main.sqlite_schema WHERE name = 'sqlite_sequence'"


@frozen(kw_only=True)
class _Object:
    kind: str
    name: str
    table: str
    page: int
    sql: str

    @property
    def key(self) -> tuple[str, str]:
        return self.kind, fold(self.name)

    @property
    def named(self) -> str:
        return f"{self.kind} {self.name}"


@frozen(kw_only=True)
class _Look:
    """One look at everything that can be lost but the rows."""

    objects: Mapping[tuple[str, str], _Object]
    tables: Mapping[str, Structure]
    sequences: Mapping[str, int]
    statistics: frozenset[str]
    working: frozenset[str]
    user_version: int


@define
class Accounting:
    """What was there before, and what the statements have said since."""

    _driver: sqlite3.Connection
    _before: _Look
    _rows: Mapping[str, int]
    _digests: Mapping[str, str]
    _image: Path | None
    _explained: Sequence[Explanation]
    _updated: Set[tuple[str, str]]
    said: Said = field(factory=Said)
    _settling: _Settling | None = None
    _after: _Look | None = None

    def settle(self, limits: Limits, after: Fingerprint, *, migration: str, run: str) -> tuple[str, ...]:
        """Return the findings, or raise Refused (T334, T347) naming every loss."""
        with plain_rows(self._driver):
            self._settling = settled = _Settling(self, limits, after, run)
            losses = [*settled.objects(), *settled.tables(), *settled.sequences(), *settled.version()]
            if losses:
                raise refusal(migration, losses)
            return tuple(settled.findings())

    def unchanged(self) -> dict[str, str]:
        """The digests of the tables whose rows are the very ones of before, so that they need not be made again."""
        if self._image is None or not self._digests:
            return {}
        with plain_rows(self._driver):
            now = self.look().tables
            return {
                old.name: self._digests[old.name]
                for name, old in self._before.tables.items()
                if old.name in self._digests and name in now and is_unchanged(self._driver, old, now[name])
            }

    def look(self) -> _Look:
        """What there is after the steps, looked at once. From then on the before-image lies beside the database, to read, until
        the connection is closed."""
        if self._after is None:
            if self._image is not None:
                # Now and not before: ANALYZE, which a step may run, goes into every attached database.
                self._driver.execute(f"ATTACH DATABASE ? AS {BEFORE}", (f"{self._image.as_uri()}?mode=ro&immutable=1",))
            self._after = _look(self._driver)
        return self._after

    def newly_broken(
        self, before: Counter[ForeignKeyViolation], now: Counter[ForeignKeyViolation]
    ) -> Counter[ForeignKeyViolation]:
        """Of the broken references of now, those that were not broken before, under whatever name; after `settle`."""
        assert self._settling is not None
        return self._settling.newly_broken(before, now)


@contextmanager
def accounting(
    driver: sqlite3.Connection, *, before: Fingerprint | None, rows: Mapping[str, int], image: Path | None
) -> Iterator[Accounting]:
    """Look now, and listen to what runs inside. `image` is the backup; without it values are only compared by digest.

    `before` is a look with digests that was taken under this lock, None where there is none.
    """
    with plain_rows(driver):
        look = _look(driver)
    digests = before.content if before is not None else {}
    explained, updated = start_listening(driver)
    account = Accounting(
        driver=driver, before=look, rows=rows, digests=digests, image=image, explained=explained, updated=updated
    )
    driver.set_trace_callback(account.said.hear)
    try:
        yield account
    finally:
        driver.set_trace_callback(None)


class _Settling:
    """The comparison; each part yields the losses of one kind."""

    def __init__(self, account: Accounting, limits: Limits, after: Fingerprint, run: str) -> None:
        self._driver = account._driver
        self._before, self._said = account._before, account.said
        self._account = account
        self._limits = limits
        self._after = after
        self._now = account.look()
        self._explained = account._explained
        self._set_aside = [each for each in read_quarantined(self._driver) if each.run == run]
        self._rows_removed = set(map(fold, limits.rows_removed))
        self._columns_changed = set(map(fold, limits.columns_changed))
        self._definitions_changed = set(map(fold, limits.definitions_changed))
        self._objects_removed = {" ".join(name.split()).lower() for name in limits.objects_removed}
        self._dropped_and_replaced = self._replaced()
        self._explanations = {name: self._of(name) for name in self._before.tables}
        self._names = self._renamed()
        (moving,) = self._driver.execute("PRAGMA main.auto_vacuum").fetchone()
        self._pages_move = bool(moving)
        self._remade = {name for name in self._before.tables if self._was_remade(name)}

    def _replaced(self) -> set[str]:
        """Tables that were dropped, and whose name another table of before bears now."""
        renamed = self._said.tables_renamed
        taken = {now for name, now in renamed.items() if ("table", name) in self._before.objects}
        return {name for name in taken if ("table", name) in self._said.dropped and name not in renamed}

    def _of(self, name: str) -> list[Explanation]:
        """What helpers have said of this table, under whatever name, oldest first."""
        return [each for each in self._explained if self._is(fold(each.table), name)]

    def _is(self, said: str, name: str) -> bool:
        """Whether a statement that said this name, at whatever time, meant the table that bore that name before."""
        now = self._name_now(name)
        return said in (name, now) or self._said.now(said) == now

    def _renamed(self) -> dict[str, set[str]]:
        names: dict[str, set[str]] = {}
        for _, name in self._before.objects:
            names.setdefault(name, set()).add(self._name_now(name))
        for (_, was), now in self._said.columns_renamed.items():
            names.setdefault(was, set()).add(now)
        return names

    # Objects

    def objects(self) -> Iterator[Loss]:
        """Indexes, triggers and views that are gone, other than they were, or do not work any more; and whole tables."""
        for key, old in self._before.objects.items():
            if self._is_declared(old.named) or self._is_explained(old):
                continue
            new = self._now.objects.get(key if old.kind != "table" else ("table", self._name_now(old.name)))
            if new is None:
                sentence = self._gone(old)
                if sentence:
                    yield Loss(sentence=sentence, key="objects_removed", value=old.named)
            elif old.kind != "table" and self._is_other(old, new):
                yield Loss(sentence=f"{old.named} has another definition", key="objects_removed", value=old.named)
        for named in sorted(self._before.working - self._now.working):
            if named in self._still_there() and not self._is_declared(named):
                yield Loss(sentence=f"{named} does not work any more", key="objects_removed", value=named)

    def _gone(self, old: _Object) -> str:
        """The sentence for what is not there any more; empty where the statements named it, and meant it."""
        said = old.key in self._said.dropped
        if old.kind == "table":
            return "" if said or self._alias_dropped(old.name) else f"{old.named} is gone"
        table = fold(old.table)
        if ("view", table) in self._said.dropped and ("view", table) not in self._now.objects:
            return ""  # a trigger that went with its view
        if (
            old.kind != "view"
            and ("table", self._name_now(old.table)) not in self._now.objects
            and (("table", table) in self._before.objects)
        ):
            return ""  # it went with its table
        if said and (old.kind == "view" or table not in self._remade):
            return ""
        why = f", which was on {old.table}, made anew" if table in self._remade else ""
        return f"{old.named}{why} is gone"

    def _alias_dropped(self, name: str) -> bool:
        return ("table", self._said.now(name)) in self._said.dropped

    def _name_now(self, name: str) -> str:
        """The name under which a table is to be found: that of its renaming, unless what was renamed made room and went."""
        renamed = self._said.now(name)
        if fold(name) in self._dropped_and_replaced:
            return ""
        return (
            fold(name)
            if ("table", renamed) not in self._now.objects and ("table", fold(name)) in self._now.objects
            else renamed
        )

    def _is_other(self, old: _Object, new: _Object) -> bool:
        if same_but_for_names(normal_form(old.sql), normal_form(new.sql), self._names):
            return False
        return not (old.key in self._said.dropped and fold(old.table) not in self._remade)

    def _is_declared(self, named: str) -> bool:
        """Whether [expect] names it, with its kind or without."""
        return bool({named.lower(), named.lower().partition(" ")[2]} & self._objects_removed)

    def _is_explained(self, old: _Object) -> bool:
        return any(old.named.lower() in {name.lower() for name in each.objects_removed} for each in self._explained)

    def _still_there(self) -> set[str]:
        return {found.named for found in self._now.objects.values()}

    def _was_remade(self, name: str) -> bool:
        """Whether the table of that name is another one than before, made by hand."""
        old, new = self._before.objects["table", name], self._now.objects.get(("table", self._name_now(name)))
        if new is None:
            return False
        edited = [each for each in self._explanations[name] if each.definition_changed]
        if edited:
            # By hand again, after a helper has made it anew.
            return new.page != edited[-1].page and not self._pages_move
        return old.page != new.page or ("table", name) in self._said.dropped

    # Tables

    def tables(self) -> Iterator[Loss]:
        """Columns, promises and rows of each ordinary table; rows of those that are gone."""
        for name, old in self._before.tables.items():
            new = self._now.tables.get(self._name_now(name))
            if new is None:
                if self._account._rows.get(old.name) and name not in self._rows_removed:
                    count = self._account._rows[old.name]
                    yield _rows_gone(old.name, f"{old.name} had {count} rows, and is gone")
                continue
            columns = self._columns(name, old, new)
            yield from self._columns_gone(name, old, columns)
            if name not in self._definitions_changed:
                yield from self._promises(name, old, new)
            yield from self._contents(name, old, new, columns)
        yield from self._virtual()

    def _virtual(self) -> Iterator[Loss]:
        """Virtual tables are counted: what they hold may be nowhere else."""
        for (kind, name), old in self._before.objects.items():
            before = self._account._rows.get(old.name, 0)
            if kind != "table" or name in self._before.tables or not before or name in self._rows_removed:
                continue
            new = self._now.objects.get(("table", self._name_now(name)))
            now = 0 if new is None else self._after.rows.get(new.name, before)
            if now < before:
                yield _rows_gone(
                    old.name, f"{old.name} had {before} rows, {'and is gone' if new is None else f'would have {now}'}"
                )

    def _columns(self, name: str, old: Structure, new: Structure) -> dict[str, str]:
        """The columns that are there before and after, the old name to the new one."""
        pairs = {column: self._said.column_now(name, column) for column in old.columns}
        return {column: now for column, now in pairs.items() if now in new.columns}

    def _columns_gone(self, name: str, old: Structure, columns: Mapping[str, str]) -> Iterator[Loss]:
        explained = self._columns_dropped(name)
        for column in old.columns:
            full = f"{name}.{column}"
            if column in columns or full in self._columns_changed:
                continue
            if {column, self._said.column_now(name, column)} & explained:
                continue
            yield Loss(sentence=f"the column {old.name}.{old.columns[column]} is gone", key="columns_changed", value=full)

    def _columns_dropped(self, name: str) -> set[str]:
        """The columns that were dropped from this table on purpose, under whatever name it bore at that time."""
        dropped = {fold(column) for each in self._explanations[name] for column in each.columns_removed}
        return dropped | {column for table, column in self._said.columns_dropped if self._is(table, name)}

    def _promises(self, name: str, old: Structure, new: Structure) -> Iterator[Loss]:
        """What is not promised any more: from before to the first edit by a helper, between two, and from the last to now."""
        promised, gone = old.promises, Counter[str]()
        dropped = self._columns_dropped(name)
        dropped |= {was for (table, was), now in self._said.columns_renamed.items() if table == name and now in dropped}
        for each in self._explanations[name]:
            if each.definition_changed:
                gone += lost(promised, Counter(each.promised), self._names, dropped)
                promised = Counter(each.promises)
        gone += lost(promised, new.promises, self._names, dropped)
        for promise, count in gone.items():
            times = f" ({count} times)" if count > 1 else ""
            yield Loss(sentence=f"{old.name} has lost {promise}{times}", key="definitions_changed", value=old.name)

    def newly_broken(
        self, before: Counter[ForeignKeyViolation], now: Counter[ForeignKeyViolation]
    ) -> Counter[ForeignKeyViolation]:
        """What is not in `before`. In a table that was made anew by hand rows may bear other rowids: they are counted."""
        by_row, by_key = Counter[tuple[object, ...]](), Counter[tuple[object, ...]]()
        for each, count in before.items():
            name = fold(each.table)
            columns = tuple(self._said.column_now(name, column) for column in each.columns)
            key = (self._name_now(name), self._name_now(fold(each.parent)), columns)
            if name in self._remade:
                by_key[key] += count
            else:
                by_row[(*key, each.rowid)] += count
        found: Counter[ForeignKeyViolation] = Counter()
        for each, count in now.items():
            key = (fold(each.table), fold(each.parent), tuple(map(fold, each.columns)))
            known = min(count, by_row[(*key, each.rowid)])
            by_row[(*key, each.rowid)] -= known
            counted = min(count - known, by_key[key])
            by_key[key] -= counted
            if count > known + counted:
                found[each] = count - known - counted
        return found

    def _contents(self, name: str, old: Structure, new: Structure, columns: Mapping[str, str]) -> Iterator[Loss]:
        digest = self._account._digests.get(old.name)
        same_columns = list(old.columns) == list(new.columns) and old.name == new.name
        if digest is not None and same_columns and digest == self._after.content.get(new.name):
            return
        set_aside = [each for each in self._set_aside if fold(each.table) == fold(new.name)]
        if self._account._image is None:
            yield from self._counted(name, old, new, set_aside)
            return
        compared = {was: now for was, now in columns.items() if was in old.stored and now in new.stored}
        pair = Pair(before=old, after=new, columns=compared, updated=self._updated(name, compared), remade=name in self._remade)
        found = compare(self._driver, pair, set_aside)
        yield from self._lost(name, old, found, columns)

    def _updated(self, name: str, columns: Mapping[str, str]) -> frozenset[str]:
        """The columns that a statement has changed by name, under whatever name the table bore at that time."""
        named = {fold(column) for table, column in self._account._updated if self._is(fold(table), name)}
        return frozenset(was for was, column in columns.items() if {was, column} & named)

    def _counted(self, name: str, old: Structure, new: Structure, set_aside: Sequence[Quarantined]) -> Iterator[Loss]:
        """Without a before-image, the numbers alone."""
        before, now = self._account._rows.get(old.name, 0), self._after.rows.get(new.name, 0)
        if now + sum(each.kind == "row" for each in set_aside) < before and name not in self._rows_removed:
            yield _rows_gone(old.name, f"{old.name} had {before} rows, would have {now}")

    def _lost(self, name: str, old: Structure, found: Lost, columns: Mapping[str, str]) -> Iterator[Loss]:
        if found.rows and name not in self._rows_removed:
            before = self._account._rows.get(old.name, 0)
            now = self._after.rows.get(self._now.tables[self._name_now(name)].name, 0)
            which = f": {examples(found.named, found.rows)}" if found.named else ""
            yield _rows_gone(
                old.name,
                f"{old.name} had {before} rows, would have {now}; {found.rows} of them are not there any more{which}",
            )
        explained = {fold(column) for each in self._explanations[name] for column in each.columns_changed}
        for column, count in found.values.items():
            full = f"{name}.{column}"
            if full in self._columns_changed or {column, columns[column]} & explained:
                continue
            which = examples(found.changed[column], count)
            sentence = f"{count} rows of {old.name} have another {old.columns[column]}: {which}"
            yield Loss(sentence=sentence, key="columns_changed", value=full)

    # Marks and statistics

    def sequences(self) -> Iterator[Loss]:
        """An AUTOINCREMENT that falls back gives numbers out twice."""
        if "sqlite_sequence.seq" in self._columns_changed:
            return
        for name, mark in self._before.sequences.items():
            now = self._name_now(name)
            there = {fold(table): value for table, value in self._now.sequences.items()}
            if now in self._now.tables and there.get(now, 0) < mark:
                sentence = f"the AUTOINCREMENT of {name} falls from {mark} to {there.get(now, 0)}, and would give ids out again"
                yield Loss(sentence=sentence, key="columns_changed", value="sqlite_sequence.seq")

    def version(self) -> Iterator[Loss]:
        """user_version is set by the definition or by a step, not by both in two ways."""
        wanted, now = self._limits.user_version_to, self._now.user_version
        if wanted is not None and now not in (self._before.user_version, wanted):
            yield Loss(sentence=f"a step sets user_version to {now}, and [local] says {wanted}")

    def findings(self) -> Iterator[str]:
        """What is worth knowing and no loss."""
        if not self._said.analyzed:
            for table in sorted(self._before.statistics - self._now.statistics):
                if self._said.now(table) in self._now.tables:
                    yield f"the statistics of {table} are gone with the table that was made anew; ANALYZE gathers them again"


def _rows_gone(table: str, sentence: str) -> Loss:
    return Loss(sentence=sentence, key="rows_removed", value=table, rows=True)


def _look(driver: sqlite3.Connection) -> _Look:
    shadows = {fold(row[1]) for row in driver.execute("PRAGMA main.table_list").fetchall() if row[2] == "shadow"}
    found = [_Object(kind=k, name=n, table=t, page=p, sql=s) for k, n, t, p, s in driver.execute(_OBJECTS).fetchall()]
    objects = {each.key: each for each in found if fold(each.table) not in shadows}
    structures = {
        fold(each.name): structure
        for each in objects.values()
        if each.kind == "table" and (structure := read_structure(driver, each.name, each.sql)) is not None
    }
    sequences: dict[str, int] = {}
    if driver.execute(_SEQUENCES).fetchone():
        rows = driver.execute("SELECT name, CAST(seq AS INTEGER) FROM main.sqlite_sequence").fetchall()
        sequences = {name: number or 0 for name, number in rows if not name.startswith("twinstep_")}
    statistics = frozenset[str]()
    if driver.execute(_STATISTICS).fetchone():
        statistics = frozenset(table for (table,) in driver.execute("SELECT DISTINCT tbl FROM main.sqlite_stat1").fetchall())
    (version,) = driver.execute("PRAGMA main.user_version").fetchone()
    return _Look(
        objects=objects,
        tables=structures,
        sequences=sequences,
        statistics=statistics,
        working=frozenset(working(driver, [(each.kind, each.name, each.table) for each in objects.values()])),
        user_version=version,
    )
