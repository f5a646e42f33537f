"""What a migration speaks of is drawn: a condition that no ordinary row meets is met, and the loss behind it is found."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Connection

from twinstep import Migration, Side
from twinstep.engine.embedded import EmbeddedPostgres
from twinstep.engine.verification import Property, verify_migration
from twinstep.engine.verification.checks import Narrowing
from twinstep.engine.verification.mentioned import Mentioned, hints_for, mentioned_by
from twinstep.engine.verification.shape import ColumnShape, TableShape
from twinstep.migrations.definition import SideName, Step
from twinstep.migrations.script import compile_side

NOTES = """
    CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT NOT NULL, status TEXT, size INTEGER, weight REAL, due TEXT)
"""
REMOTE_NOTES = """
    CREATE TABLE notes (id bigint PRIMARY KEY, title text NOT NULL, status varchar(20), size integer, weight numeric(8, 2),
        due timestamptz, day date, tag uuid, doc jsonb)
"""
LOSSES = {
    "a text": "DELETE FROM notes WHERE status = 'obsolete'",
    "a text with a quote": "DELETE FROM notes WHERE status = 'it''s gone'",
    "between two numbers": "DELETE FROM notes WHERE size > 5000 AND size < 6000",
    "a negative number": "UPDATE notes SET title = 'x' WHERE size = -77",
    "a part of a number": "UPDATE notes SET title = 'x' WHERE weight = 12.75",
    "a pattern": "UPDATE notes SET title = 'untitled' WHERE title LIKE 'draft of%'",
    "one of a list": "UPDATE notes SET status = NULL WHERE status IN ('old', 'older', 'oldest')",
    "two conditions": "DELETE FROM notes WHERE status = 'obsolete' AND size = 4711",
    "a key": "DELETE FROM notes WHERE id = 4711",
    "capitals": "UPDATE notes SET title = lower(title)",
    "blanks": "UPDATE notes SET title = trim(title)",
    "what is long": "UPDATE notes SET title = substr(title, 1, 10)",
}
LOCAL_LOSSES = {
    **LOSSES,
    "another pattern": "DELETE FROM notes WHERE title GLOB '[x-z]?-*'",
    "what parts a text": "UPDATE notes SET title = substr(title, 1, instr(title, ';') - 1) WHERE instr(title, ';') > 0",
    "a key of a document": "UPDATE notes SET title = json_remove(title, '$.x') WHERE json_type(title, '$.x') IS NOT NULL",
    "a document": "UPDATE notes SET title = json(title) WHERE json_valid(title)",
    "a length": "UPDATE notes SET title = substr(title, 1, 255) WHERE length(title) > 255",
    "a year": "DELETE FROM notes WHERE strftime('%Y', due) = '2019'",
    "a day as seconds": "DELETE FROM notes WHERE date(size, 'unixepoch') = '2020-01-01'",
    "a document by an operator": "DELETE FROM notes WHERE json_valid(title) AND title ->> 'type' = 'draft'",
    "the zone of a time": "UPDATE notes SET due = datetime(due) WHERE datetime(due) IS NOT NULL",
}
REMOTE_LOSSES = {
    **LOSSES,
    "a day": "DELETE FROM notes WHERE due > '2031-05-06' AND due < '2031-05-08'",
    "a date": "UPDATE notes SET title = 'x' WHERE day = DATE '2031-05-07'",
    "a uuid": "DELETE FROM notes WHERE tag = 'b5f6d8c1-1111-4222-8333-444455556666'",
    "a part of a second": "UPDATE notes SET due = date_trunc('second', due)",
    "what the session's time zone decides": "ALTER TABLE notes ALTER due TYPE timestamp",
    "a key of a document": "UPDATE notes SET doc = doc - 'x' WHERE jsonb_typeof(doc) = 'object'",
    "deep in a document": "UPDATE notes SET doc = doc #- '{s,k}' WHERE doc->'s'->>'k' = 'old'",
    "in a block": "DO $$ BEGIN DELETE FROM notes WHERE status = 'obsolete'; END $$",
}
FOUND = (Property.APPLIES, Property.KEEPS_ROWS)


def by_a_function(connection: Connection) -> None:
    def goes(size: int) -> bool:
        return size == 4711

    for id, size in connection.exec_driver_sql("SELECT id, size FROM notes WHERE status = 'obsolete'").fetchall():
        if goes(size):
            connection.exec_driver_sql("DELETE FROM notes WHERE id = ?", (id,))


OLD, STATES, STATEMENT = "obsolete", {"older": "obsolete"}, "-- tidy up\n DELETE FROM notes WHERE status = 'obsolete'"


def is_old(status: object) -> bool:
    return status == "obsolete"


def by_a_value_of_its_module(connection: Connection) -> None:
    connection.exec_driver_sql("DELETE FROM notes WHERE status = ?", (OLD,))


def by_a_dictionary(connection: Connection) -> None:
    for state in STATES.values():
        connection.exec_driver_sql("DELETE FROM notes WHERE status = ?", (state,))


def by_a_statement_of_its_module(connection: Connection) -> None:
    connection.exec_driver_sql(STATEMENT)


def by_another_function(connection: Connection) -> None:
    for id, status in connection.exec_driver_sql("SELECT id, status FROM notes").fetchall():
        if is_old(status):
            connection.exec_driver_sql("DELETE FROM notes WHERE id = ?", (id,))


def by_its_default(connection: Connection, status: str = "obsolete") -> None:
    connection.exec_driver_sql("DELETE FROM notes WHERE status = ?", (status,))


def by_parts(connection: Connection) -> None:
    for table in ("notes",):
        connection.exec_driver_sql(f"DELETE FROM {table} WHERE status = 'obsolete'")


def enclosed() -> Callable[[Connection], None]:
    status, weight = "obsolete", 12.75

    def up(connection: Connection) -> None:
        connection.exec_driver_sql("DELETE FROM notes WHERE status = ? AND weight = ?", (status, weight))

    return up


def normalized(connection: Connection) -> None:
    for id, title in connection.exec_driver_sql("SELECT id, title FROM notes WHERE typeof(title) = 'text'").fetchall():
        connection.exec_driver_sql("UPDATE notes SET title = ? WHERE id = ?", (unicodedata.normalize("NFC", title), id))


FUNCTIONS = (
    by_a_function,
    by_a_value_of_its_module,
    by_a_dictionary,
    by_a_statement_of_its_module,
    by_another_function,
    by_its_default,
    by_parts,
    enclosed(),
    normalized,
)


def fails(side: SideName, up: Step, server: str | None = None, *, examples: int = 100) -> bool:
    """Whether anything is found on so many databases."""
    before = Side(up=NOTES if side == "local" else REMOTE_NOTES, down="DROP TABLE notes")
    change = Side(up=up, down="SELECT NULL")
    migrations = [Migration(id=id, **{side: each}) for id, each in (("0001_before", before), ("0002_change", change))]
    found = verify_migration(migrations, examples=examples, properties=FOUND, large_rows=0, server=server)
    return not found.ok


@pytest.fixture(autouse=True)
def _first_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinstep.engine.verification.searching.SHRINK_SECONDS", 0.0)
    monkeypatch.setattr("twinstep.engine.verification.searching.FEWEST_AFTER_A_FAILURE", 1)


@pytest.mark.parametrize(
    "up", [*LOCAL_LOSSES.values(), *FUNCTIONS], ids=[*LOCAL_LOSSES, *(each.__name__ for each in FUNCTIONS)]
)
def test_a_loss_behind_a_condition_is_found_on_the_device(up: Step) -> None:
    assert fails("local", up)


def verified(before: str, up: Step) -> bool:
    migrations = [Migration(id="0001_before", local=Side(up=before)), Migration(id="0002_change", local=Side(up=up))]
    return verify_migration(migrations, examples=40, properties=FOUND).ok


def test_what_a_trigger_of_the_schema_asks_for_is_met() -> None:
    tags = "CREATE TABLE tags (id INTEGER PRIMARY KEY, note INTEGER NOT NULL);"
    trigger = """CREATE TRIGGER emptied AFTER UPDATE ON notes WHEN new.status = 'archived'
        BEGIN DELETE FROM tags WHERE note = new.id; END"""
    change = "ALTER TABLE notes ADD COLUMN slug TEXT; UPDATE notes SET slug = lower(title)"
    assert not verified(f"{NOTES}; {tags} {trigger}", change)
    assert verified(f"{NOTES}; {tags}", change)


def paged(connection: Connection) -> None:
    """Each page that is removed moves the next one to where it was."""
    connection.exec_driver_sql("CREATE TABLE new_notes (id INTEGER PRIMARY KEY, title TEXT NOT NULL)")
    offset = 0
    while page := connection.exec_driver_sql("SELECT * FROM notes LIMIT 3000 OFFSET ?", (offset,)).fetchall():
        for row in page:
            connection.exec_driver_sql("INSERT INTO new_notes VALUES (?, ?)", tuple(row))
            connection.exec_driver_sql("DELETE FROM notes WHERE id = ?", (row[0],))
        offset += 3000
    connection.exec_driver_sql("DROP TABLE notes")
    connection.exec_driver_sql("ALTER TABLE new_notes RENAME TO notes")


def test_a_page_is_tried_with_more_rows_than_it_has() -> None:
    assert not verified("CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT NOT NULL)", paged)


def test_trees_are_deep() -> None:
    folders = "CREATE TABLE folders (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES folders, name TEXT NOT NULL)"
    deep = """DELETE FROM folders WHERE id IN (WITH RECURSIVE below (id, depth) AS (
        SELECT id, 0 FROM folders WHERE parent IS NULL
        UNION ALL SELECT f.id, depth + 1 FROM folders f JOIN below b ON f.parent = b.id)
        SELECT id FROM below WHERE depth >= 40)"""
    assert not verified(folders, deep)


@pytest.mark.parametrize("name", ["two conditions", "a day", "in a block", "what the session's time zone decides"])
def test_a_loss_behind_a_condition_is_found_on_the_server(name: str, postgres: EmbeddedPostgres) -> None:
    assert fails("remote", REMOTE_LOSSES[name], postgres.url(), examples=30)


@pytest.mark.full
@pytest.mark.parametrize("name", REMOTE_LOSSES)
def test_a_loss_behind_any_condition_is_found_on_the_server(name: str, postgres: EmbeddedPostgres) -> None:
    assert fails("remote", REMOTE_LOSSES[name], postgres.url())


def of_text(side: SideName, text: str) -> Mentioned:
    """What a migration with that text speaks of."""
    compiled = compile_side(Migration(id="1_x", **{side: Side(up=text, down="")}), side)
    assert compiled is not None
    return mentioned_by(side, compiled)


def test_texts_and_numbers_are_read_and_names_and_comments_are_not() -> None:
    text = """UPDATE "notes 7" SET [title] = 'a''b' /* 'c' 8 */ WHERE n2 = 12 OR -- 'd' 9
        n3 < -1.50 OR x LIKE 'e_f%' OR y = 'long """
    found = of_text("local", text + "x" * 80 + "'")
    assert found.texts == ("a'b", "e_f%", "e1f", "eaf")
    assert found.numbers == (12, Decimal("-1.50"))
    assert all(map(found.names, ("Title", "n2", "n3", "x", "y")))
    assert not any(map(found.names, ("c", "d", "e_f")))


def test_a_block_and_a_string_with_escapes_are_read_too() -> None:
    found = of_text("remote", "DO $x$ BEGIN UPDATE t SET a = 'b' WHERE c = 44; END $x$; SELECT E'd'")
    assert found.texts == ("b", "d")
    assert found.numbers == (44,)


def test_a_column_takes_of_them_what_it_admits() -> None:
    spoken = Mentioned(texts=("old", "2024-01-31"), numbers=(7, 20, 70_000, Decimal("1.5")), words=frozenset("c"))
    table = TableShape(name="t", sql_name="t", columns=())
    strict = TableShape(name="t", sql_name="t", columns=(), strict=True)

    def local(table: TableShape, kind: str, narrowing: Narrowing = Narrowing()) -> list[object]:  # noqa: B008 - a value
        return list(hints_for("local", table, ColumnShape(name="c", type=kind, kind=kind), narrowing, spoken).all)

    def remote(kind: str, narrowing: Narrowing = Narrowing(), **given: Any) -> list[object]:  # noqa: B008 - a value
        return list(hints_for("remote", table, ColumnShape(name="c", type=kind, kind=kind, **given), narrowing, spoken).all)

    assert local(table, "text") == ["old", "2024-01-31", "x" * 21, "2024-01-30", "2024-02-01", "7", "20", "70000", "1.5"]
    assert local(table, "integer") == [7, 20, 70_000, 8, 6, 21, 19, 70_001, 69_999, "old", "2024-01-31"]
    assert local(strict, "integer", Narrowing(maximum=7)) == [7, 6]
    assert local(strict, "real") == [7.0, 20.0, 70_000.0, 1.5, 8, 6, 21, 19, 70_001, 69_999]
    assert local(table, "text", Narrowing(max_length=3)) == ["old", "7", "20", "1.5"]
    assert local(table, "text", Narrowing(choices=("a",))) == []
    assert remote("int2") == ["7", "20", "8", "6", "21", "19"]
    assert remote("numeric", precision=3, scale=2) == ["7", "1.5"]
    assert remote("text", limit=4) == ["old", "7", "20", "1.5"]
    assert remote("date") == ["2024-01-31", "2024-01-30", "2024-02-01"]
    assert remote("timestamptz")[0] == "2024-01-31 00:00:00+00"
    assert remote("uuid") == remote("bool") == []
    assert hints_for("local", table, ColumnShape(name="d", type="text", kind="text"), Narrowing(), spoken).all == ()
