"""Rows that a new foreign key refuses: set aside whole, chains included, told of, and put back exactly.

The world is looked at: every table, the schema, the marks. The expected rows are worked out by hand here, not by the module.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from command_line import make_project

from twinstep import Coordinator, Migration, Side
from twinstep.events.errors import Refused
from twinstep.migrations.quarantine import set_aside
from twinstep.migrations.quarantined import put_back, read_quarantined
from twinstep.migrations.rebuild import ForeignKey, rebuild_table
from twinstep.migrations.row_values import RawText, from_json, to_json
from twinstep.migrations.sqlite_catalogue import foreign_key_violations
from twinstep.migrations.sqlite_text import normal_form

NOTES = (
    "CREATE TABLE notes (id TEXT PRIMARY KEY, title TEXT)",
    "CREATE TABLE folders (id TEXT PRIMARY KEY, parent TEXT)",
    "CREATE TABLE filed (note TEXT NOT NULL, folder TEXT NOT NULL, PRIMARY KEY (note))",
    "CREATE TABLE tasks (id INTEGER PRIMARY KEY AUTOINCREMENT, note TEXT NOT NULL, above INTEGER, reminder INTEGER, x BLOB)",
    "CREATE TABLE reminders (id INTEGER PRIMARY KEY, note TEXT NOT NULL)",
    "CREATE TABLE seen (what TEXT)",
    "CREATE TRIGGER tasks_gone AFTER DELETE ON tasks BEGIN INSERT INTO seen VALUES ('deleted ' || old.id); END",
    "CREATE TRIGGER tasks_new AFTER INSERT ON tasks BEGIN INSERT INTO seen VALUES ('inserted ' || new.id); END",
    "CREATE TRIGGER tasks_other AFTER UPDATE ON tasks BEGIN INSERT INTO seen VALUES ('updated ' || new.id); END",
    "CREATE INDEX tasks_note ON tasks (note)",
    "INSERT INTO notes VALUES ('a', 'A'), ('b', 'B')",
    "INSERT INTO folders VALUES ('root', NULL), ('child', 'root'), ('lost', 'nowhere'), ('own', 'own'), ('x', 'y'), ('y', 'x')",
    "INSERT INTO filed VALUES ('a', 'root'), ('b', 'gone folder')",
    "INSERT INTO reminders VALUES (1, 'a'), (2, 'gone note')",
    "INSERT INTO tasks VALUES (1, 'a', NULL, 1, x'00ff'), (2, 'gone note', NULL, NULL, 'two'), (3, 'a', 2, NULL, 1.0),"
    " (4, 'a', 3, 2, -0.5), (9, 'a', NULL, NULL, NULL)",
    "DELETE FROM tasks WHERE id = 9",
    "DELETE FROM seen",
)


def key(column: str, parent: str, on_delete: str = "CASCADE") -> ForeignKey:
    return ForeignKey(columns=column, parent=parent, parent_columns="id", on_delete=on_delete)


KEYS = {
    "reminders": (key("note", "notes"),),
    "tasks": (key("note", "notes"), key("above", "tasks"), key("reminder", "reminders", "SET NULL")),
    "filed": (key("note", "notes"), key("folder", "folders")),
    "folders": (key("parent", "folders"),),
}


def add_keys(connection: object) -> None:
    for table, keys in KEYS.items():
        rebuild_table(connection, table, add_foreign_keys=keys)  # type: ignore[arg-type]


def drop_keys(connection: object) -> None:
    for table, keys in KEYS.items():
        rebuild_table(connection, table, drop_foreign_keys=keys)  # type: ignore[arg-type]


MIGRATION = Migration(id="0001_keys", local=Side(up=add_keys, down=drop_keys))


@pytest.fixture(params=["delete", "wal"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    fill(tmp_path / "notes.db", request.param)
    return tmp_path / "notes.db"


def fill(path: Path, journal: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal}")
        for statement in NOTES:
            connection.execute(statement)
        connection.commit()


@pytest.fixture
def driver(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection


def world(path: Path, without_rowids: str = "") -> dict[str, object]:
    """Everything of the application: rows with their rowids (but of one table), texts, marks."""
    with closing(sqlite3.connect(path)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        own = [name for name in names if not name.startswith("twinstep_")]
        columns = {name: "*" if name == without_rowids else "rowid, *" for name in own}
        found: dict[str, object] = {
            name: sorted(map(repr, connection.execute(f"SELECT {columns[name]} FROM {name}"))) for name in own
        }
        texts = connection.execute("SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'twinstep%' AND sql IS NOT NULL")
        return found | {"texts": {name: normal_form(sql) for name, sql in texts}}


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def coordinator(file: Path, *migrations: Migration) -> Coordinator:
    return Coordinator(local=file, migrations=migrations or (MIGRATION,))


def test_rows_that_a_new_key_refuses_are_set_aside_whole_and_the_report_counts_them(file: Path) -> None:
    report = coordinator(file).migrate()
    assert (report.outcome, report.error) == ("verified", None)
    assert report.runs[0].local["rows_quarantined"] == {"filed": 1, "folders": 1, "reminders": 1, "tasks": 3}
    assert rows(file, "SELECT id, note, above, reminder FROM tasks ORDER BY id") == [
        (1, "a", None, 1),
        (3, "a", None, None),  # the task above it has moved
        (4, "a", 3, None),  # its reminder has
    ]
    assert rows(file, "SELECT id, parent FROM folders ORDER BY id") == [
        ("child", "root"), ("lost", None), ("own", "own"), ("root", None), ("x", "y"), ("y", "x"),
    ]  # fmt: skip
    assert rows(file, "SELECT * FROM filed") == [("a", "root")]
    assert rows(file, "PRAGMA foreign_key_check") == []
    assert rows(file, "SELECT * FROM seen") == [], "no trigger fires"
    found = {(each.table, each.named, each.kind): each for each in coordinator(file).quarantine()}
    assert set(found) == {
        ("reminders", "id=2", "row"), ("tasks", "id=2", "row"), ("tasks", "id=3", "reference"),
        ("tasks", "id=4", "reference"), ("filed", "note='b'", "row"), ("folders", "id='lost'", "reference"),
    }  # fmt: skip
    task = found["tasks", "id=2", "row"]
    assert json.loads(task.content) == {"id": 2, "note": "gone note", "above": None, "reminder": None, "x": "two"}
    assert task.reason == "the key (note) to notes finds no row for note='gone note'"
    assert (task.migration, task.run) == ("0001_keys", report.runs[0].run)


def test_going_back_puts_everything_back_as_it_was(file: Path) -> None:
    before = world(file)
    assert coordinator(file).migrate().outcome == "verified"
    assert world(file) != before
    report = coordinator(file).roll_back()
    assert (report.outcome, report.runs[-1].findings) == ("rolled_back", ())
    assert world(file) == before
    assert all(each.put_back_by == report.runs[-1].run for each in coordinator(file).quarantine())


def test_a_migration_that_is_refused_later_leaves_nothing_in_quarantine(file: Path) -> None:
    before = world(file)

    def check(connection: object) -> None:
        raise ValueError("no")

    report = coordinator(file, Migration(id="0001_keys", local=Side(up=add_keys, down=drop_keys, check=check))).migrate()
    assert (report.outcome, report.error and report.error.code) == ("rolled_back", "T332")
    assert report.runs[-1].findings == (), "what the change set aside is not said of going back"
    assert world(file) == before
    assert [each for each in coordinator(file).quarantine() if each.put_back_at is None] == []


def test_what_cannot_go_back_stays_and_is_named(file: Path) -> None:
    coordinator(file).migrate()
    with closing(sqlite3.connect(file)) as host:
        host.execute("INSERT INTO filed VALUES ('b', 'child')")
        host.execute("DELETE FROM tasks WHERE id = 4")
        host.execute("DELETE FROM folders WHERE id = 'lost'")
        host.commit()
    report = coordinator(file).roll_back()
    left = {each.table: each for each in coordinator(file).quarantine() if each.put_back_at is None}
    assert set(left) == {"filed", "tasks", "folders"}
    said = "\n".join(report.runs[-1].findings)
    assert "filed note='b' stays in quarantine" in said
    assert "UNIQUE constraint failed: filed.note" in said
    assert "the row is not there any more" in said
    assert rows(file, "SELECT * FROM filed ORDER BY note") == [("a", "root"), ("b", "child")]


def test_rows_go_back_once_what_they_refer_to_is_there(file: Path) -> None:
    coordinator(file).migrate()
    refused = coordinator(file).restore_quarantined()
    assert (refused.outcome, refused.exit_code, refused.restored) == ("refused", 1, ())
    assert all(each.problem.startswith("still the key") for each in refused.refused), refused.refused
    with closing(sqlite3.connect(file)) as host:
        host.execute("INSERT INTO notes VALUES ('gone note', 'here again')")
        host.execute("INSERT INTO folders VALUES ('nowhere', NULL)")
        host.execute("DELETE FROM seen")
        host.commit()
    report = coordinator(file).restore_quarantined()
    assert {each.row.table for each in report.refused} == {"filed"}
    assert len(report.restored) == 5
    assert rows(file, "SELECT id, note, above, reminder, x FROM tasks ORDER BY id") == [
        (1, "a", None, 1, b"\x00\xff"), (2, "gone note", None, None, "two"), (3, "a", 2, None, 1.0), (4, "a", 3, 2, -0.5),
    ]  # fmt: skip
    assert rows(file, "PRAGMA foreign_key_check") == []
    assert rows(file, "SELECT * FROM seen") == []
    events = [record for record in coordinator(file).events() if record.type == "QuarantineRestored"]
    assert sorted((json.loads(each.payload)["table"], json.loads(each.payload)["rows"]) for each in events) == [
        ("folders", 1), ("reminders", 1), ("tasks", 3),
    ]  # fmt: skip
    assert coordinator(file).restore_quarantined([left.id for left in coordinator(file).quarantine()][:1]).error is not None


@pytest.mark.parametrize("crossing", ["local:quarantine:before-commit", "local:quarantine:after-commit"])
def test_killed_while_rows_are_put_back_the_next_call_records_what_stands(file: Path, crossing: str) -> None:
    coordinator(file).migrate()
    with closing(sqlite3.connect(file)) as host:
        host.execute("INSERT INTO folders VALUES ('nowhere', NULL)")
        host.commit()

    class Killed(BaseException):
        pass

    def probe(place: str) -> None:
        if place == crossing:
            raise Killed

    (lost,) = [each.id for each in coordinator(file).quarantine() if each.table == "folders"]
    with pytest.raises(Killed):
        Coordinator(local=file, migrations=[MIGRATION], probe=probe).restore_quarantined([lost])
    coordinator(file).migrate()
    done = crossing.endswith("after-commit")
    events = [json.loads(each.payload) for each in coordinator(file).events() if each.type == "QuarantineRestored"]
    assert [(event["table"], event["rows"]) for event in events] == ([("folders", 1)] if done else [])
    assert rows(file, "SELECT parent FROM folders WHERE id = 'lost'") == [("nowhere" if done else None,)]
    coordinator(file).migrate()
    assert len([each for each in coordinator(file).events() if each.type == "QuarantineRestored"]) == len(events)


class Stopped(BaseException):
    """Stands for the end of the process."""


def parents_come(path: Path) -> None:
    with closing(sqlite3.connect(path)) as host:
        host.execute("INSERT INTO notes VALUES ('gone note', 'here again')")
        host.execute("INSERT INTO folders VALUES ('nowhere', NULL), ('gone folder', NULL)")
        host.commit()


def lying(path: Path) -> set[tuple[str, str, str, str]]:
    return {
        (each.table, each.kind, each.named, each.content) for each in coordinator(path).quarantine() if not each.put_back_at
    }


def go_back(twinstep: Coordinator) -> None:
    twinstep.resume()
    twinstep.roll_back()


CALLS: dict[str, tuple[Callable[[Coordinator], object], Callable[[Coordinator], object]]] = {
    "migrate": (Coordinator.migrate, Coordinator.migrate),
    "roll back": (Coordinator.roll_back, go_back),
    "restore": (Coordinator.restore_quarantined, Coordinator.restore_quarantined),
}


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.full)])
@pytest.mark.parametrize("call", CALLS)
def test_stopped_at_any_crossing_every_row_is_in_one_place_in_the_end(tmp_path: Path, call: str, every: int) -> None:
    first, again = CALLS[call]
    start = tmp_path / "start"
    start.mkdir()
    fill(start / "notes.db", "delete")
    if call != "migrate":
        coordinator(start / "notes.db").migrate()
    if call == "restore":
        parents_come(start / "notes.db")

    def ended(number: int) -> tuple[bool, object]:
        """Whether the call with that crossing was stopped there, and all that is there once it was called again."""
        path = Path(shutil.copytree(start, tmp_path / f"{number}")) / "notes.db"
        passed = 0

        def probe(place: str) -> None:
            nonlocal passed
            passed += 1
            if passed == number:
                raise Stopped

        try:
            first(Coordinator(local=path, migrations=[MIGRATION], probe=probe))
            stopped = False
        except Stopped:
            stopped = True
        if stopped:
            again(coordinator(path))
        events = [json.loads(each.payload) for each in coordinator(path).events() if each.type == "QuarantineRestored"]
        restored = Counter[str]()
        for event in events:
            restored[event["table"]] += event["rows"]
        found = world(path), lying(path), restored
        shutil.rmtree(path.parent)
        return stopped, found

    _, wanted = ended(0)
    number = 1
    while (end := ended(number))[0]:
        assert end[1] == wanted, f"stopped at crossing {number}"
        number += every
    assert number > 3


def test_old_violations_are_nobody_s_business(driver: sqlite3.Connection) -> None:
    driver.execute("CREATE TABLE old (id INTEGER PRIMARY KEY, note TEXT NOT NULL REFERENCES notes(id))")
    driver.execute("INSERT INTO old VALUES (1, 'never there')")
    before = foreign_key_violations(driver)
    rebuild_table(driver, "reminders", add_foreign_keys=KEYS["reminders"])
    assert driver.execute("SELECT * FROM old").fetchall() == [(1, "never there")]
    assert foreign_key_violations(driver) == before


def test_a_row_follows_the_one_that_it_needs_in_any_table(driver: sqlite3.Connection) -> None:
    driver.execute(
        "CREATE TABLE steps (task INTEGER NOT NULL REFERENCES tasks(id), step TEXT, PRIMARY KEY (task)) WITHOUT ROWID"
    )
    driver.execute("CREATE TABLE parts (step INTEGER NOT NULL REFERENCES steps(task))")
    driver.execute("INSERT INTO steps VALUES (2, 'of the task that goes'), (1, 'stays')")
    driver.execute("INSERT INTO parts (rowid, step) VALUES (70, 2), (71, 1)")
    rebuild_table(driver, "tasks", add_foreign_keys=KEYS["tasks"][:1])
    assert driver.execute("SELECT task FROM steps").fetchall() == [(1,)]
    assert driver.execute("SELECT rowid FROM parts").fetchall() == [(71,)]
    put = put_back(driver, read_quarantined(driver), by="me", at="now")
    assert len(put.refused) == 3, "still refused: the key stands"
    rebuild_table(driver, "tasks", drop_foreign_keys=KEYS["tasks"][:1])
    put = put_back(driver, read_quarantined(driver), by="me", at="now")
    assert (len(put.done), put.refused) == (3, {})
    assert driver.execute("SELECT task, step FROM steps ORDER BY 1").fetchall() == [(1, "stays"), (2, "of the task that goes")]
    assert driver.execute("SELECT rowid, step FROM parts ORDER BY 1").fetchall() == [(70, 2), (71, 1)]


def test_an_optional_reference_that_a_rule_needs_moves_the_row(driver: sqlite3.Connection) -> None:
    driver.execute("CREATE TABLE picky (id INTEGER PRIMARY KEY, note TEXT CHECK (note IS NOT NULL))")
    driver.execute("INSERT INTO picky VALUES (1, 'nowhere')")
    rebuild_table(driver, "picky", add_foreign_keys=[key("note", "notes")])
    assert driver.execute("SELECT * FROM picky").fetchall() == []
    assert [each.kind for each in read_quarantined(driver)] == ["row"]


def test_who_refers_to_a_value_that_became_null_follows(driver: sqlite3.Connection) -> None:
    driver.execute("CREATE TABLE boxes (id INTEGER PRIMARY KEY, note TEXT UNIQUE)")
    driver.execute("CREATE TABLE labels (id INTEGER PRIMARY KEY, box TEXT NOT NULL REFERENCES boxes(note))")
    driver.execute("INSERT INTO boxes VALUES (1, 'gone'), (2, 'a')")
    driver.execute("INSERT INTO labels VALUES (1, 'gone'), (2, 'a')")
    rebuild_table(driver, "boxes", add_foreign_keys=[key("note", "notes")])
    assert driver.execute("SELECT * FROM boxes").fetchall() == [(1, None), (2, "a")]
    assert driver.execute("SELECT * FROM labels").fetchall() == [(2, "a")]
    assert not foreign_key_violations(driver)
    rebuild_table(driver, "boxes", drop_foreign_keys=[key("note", "notes")])
    assert put_back(driver, read_quarantined(driver), by="me", at="now").refused == {}
    assert driver.execute("SELECT box FROM labels ORDER BY id").fetchall() == [("gone",), ("a",)]


@pytest.mark.parametrize(
    ("parent", "child", "rows"),
    [
        # By the child's affinity 1 and '01' would be one number.
        ("x TEXT PRIMARY KEY", "y INTEGER NOT NULL REFERENCES p(x)", ("('01')", "(5, 1)")),
        ("x PRIMARY KEY", "y INTEGER NOT NULL REFERENCES p(x)", ("('1')", "(5, 1)")),
        # Two keys with the same columns to the same parent: the second is the broken one.
        ("x UNIQUE, z UNIQUE", "y INTEGER NOT NULL REFERENCES p(x) REFERENCES p(z)", ("(1, 2)", "(5, 1)")),
        ("x UNIQUE, z UNIQUE", "y INTEGER NOT NULL REFERENCES p(z) REFERENCES p(x)", ("(1, 2)", "(5, 1)")),
    ],
)
def test_rows_without_rowid_are_found_as_sqlite_compares(parent: str, child: str, rows: tuple[str, str]) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as driver:
        driver.execute(f"CREATE TABLE p ({parent})")
        driver.execute(f"CREATE TABLE c (id INTEGER PRIMARY KEY, {child}) WITHOUT ROWID")
        driver.execute(f"INSERT INTO p VALUES {rows[0]}")
        driver.execute(f"INSERT INTO c VALUES {rows[1]}")
        driver.execute("BEGIN")
        assert set_aside(driver, Counter()) == {"c": 1}
        assert not foreign_key_violations(driver)


def test_of_a_table_without_rowid_each_row_goes_back_that_can(driver: sqlite3.Connection) -> None:
    driver.execute("CREATE TABLE w (a TEXT, b TEXT, note TEXT NOT NULL, PRIMARY KEY (b, a)) WITHOUT ROWID")
    driver.execute("INSERT INTO w VALUES ('1', 'x', 'gone'), ('2', 'x', 'here soon')")
    rebuild_table(driver, "w", add_foreign_keys=[key("note", "notes")])
    driver.execute("INSERT INTO notes VALUES ('here soon', '')")
    # Made anew since: the columns of the primary key have another order, and one is written otherwise.
    driver.execute("DROP TABLE w")
    columns = "A TEXT, b TEXT, note TEXT NOT NULL REFERENCES notes(id), PRIMARY KEY (A, b)"
    driver.execute(f"CREATE TABLE w ({columns}) WITHOUT ROWID")
    put = put_back(driver, read_quarantined(driver), by="me", at="now")
    assert ([each.named for each in put.done], len(put.refused)) == (["b='x', a='2'"], 1)
    assert driver.execute("SELECT a FROM w").fetchall() == [("2",)]


@pytest.mark.parametrize("kind", ["", "WITHOUT ROWID"])
def test_rows_whose_key_is_not_utf_8_go_there_and_back(driver: sqlite3.Connection, kind: str) -> None:
    driver.execute(f"CREATE TABLE v (id PRIMARY KEY NOT NULL, note TEXT NOT NULL) {kind}")
    # The same bytes, as text and as a blob, are two keys.
    driver.execute("INSERT INTO v VALUES (CAST(x'ff' AS TEXT), 'gone'), (x'ff', 'gone')")
    rebuild_table(driver, "v", add_foreign_keys=[key("note", "notes")])
    assert driver.execute("SELECT count(*) FROM v").fetchone() == (0,)
    driver.execute("INSERT INTO notes VALUES ('gone', '')")
    assert put_back(driver, read_quarantined(driver), by="me", at="now").refused == {}
    assert driver.execute("SELECT typeof(id), hex(id) FROM v ORDER BY 1").fetchall() == [("blob", "FF"), ("text", "FF")]


@pytest.mark.parametrize("kind", ["", "WITHOUT ROWID"])
def test_a_row_that_was_broken_before_by_another_key_goes_back_with_the_down(file: Path, kind: str) -> None:
    with closing(sqlite3.connect(file)) as host:
        host.execute(f"CREATE TABLE both (id INTEGER PRIMARY KEY, note TEXT REFERENCES notes(id), folder TEXT NOT NULL) {kind}")
        host.execute("INSERT INTO both VALUES (1, 'broken before', 'gone'), (2, 'broken before', 'root'), (3, 'a', 'gone')")
        host.commit()
    before = world(file, "both")
    new = key("folder", "folders")
    migration = Migration(
        id="0001_both",
        local=Side(
            up=lambda connection: rebuild_table(connection, "both", add_foreign_keys=[new]),
            down=lambda connection: rebuild_table(connection, "both", drop_foreign_keys=[new]),
        ),
    )
    report = coordinator(file, migration).migrate()
    assert (report.outcome, report.error) == ("verified", None)
    assert rows(file, "SELECT id, note FROM both") == [(2, "broken before")]
    assert {each.row.named for each in coordinator(file, migration).restore_quarantined().refused} == {"id=1", "id=3"}
    report = coordinator(file, migration).roll_back()
    assert (report.outcome, report.runs[-1].findings) == ("rolled_back", ())
    assert world(file, "both") == before


def test_a_long_chain_moves_whole_and_goes_back(driver: sqlite3.Connection) -> None:
    count = 300
    driver.execute("CREATE TABLE links (id INTEGER PRIMARY KEY, above INTEGER NOT NULL, aside INTEGER)")
    driver.executemany("INSERT INTO links VALUES (?, ?, ?)", [(n, n + 1, None) for n in range(1, count + 1)])
    # The optional one of these refers into the chain; whoever refers to its id keeps it.
    driver.execute("INSERT INTO links VALUES (1000, 1000, 40), (1001, 1000, NULL)")
    # It follows the one that goes first, and has gone when the other goes.
    driver.execute("INSERT INTO links VALUES (2000, 200, 100)")
    driver.execute("CREATE TABLE ends (link INTEGER PRIMARY KEY REFERENCES links(id)) WITHOUT ROWID")
    driver.execute("INSERT INTO ends VALUES (7), (1000)")
    before = driver.execute("SELECT * FROM links ORDER BY id").fetchall()
    keys = [key("above", "links"), key("aside", "links", "SET NULL")]
    rebuild_table(driver, "links", add_foreign_keys=keys)
    assert driver.execute("SELECT * FROM links").fetchall() == [(1000, 1000, None), (1001, 1000, None)]
    assert driver.execute("SELECT * FROM ends").fetchall() == [(1000,)]
    assert Counter((each.table, each.kind) for each in read_quarantined(driver)) == {
        ("links", "row"): count + 1, ("links", "reference"): 1, ("ends", "row"): 1,
    }  # fmt: skip
    rebuild_table(driver, "links", drop_foreign_keys=keys)
    assert put_back(driver, read_quarantined(driver), by="me", at="now").refused == {}
    assert driver.execute("SELECT * FROM links ORDER BY id").fetchall() == before


def test_a_long_chain_does_not_have_the_table_read_for_each_link(driver: sqlite3.Connection) -> None:
    """Counted in steps of SQLite's machine, not in time."""

    def work(length: int) -> int:
        steps = 0

        def tick() -> None:
            nonlocal steps
            steps += 1

        driver.execute("DROP TABLE IF EXISTS links")
        driver.execute("CREATE TABLE links (id INTEGER PRIMARY KEY, above INTEGER NOT NULL REFERENCES links(id))")
        driver.executemany("INSERT INTO links VALUES (?, ?)", [(n, n + 1) for n in range(1, length + 1)])
        driver.executemany("INSERT INTO links VALUES (?, ?)", [(n, n) for n in range(10_000, 15_000)])
        driver.set_progress_handler(tick, 1000)
        assert set_aside(driver, Counter()) == {"links": length}
        driver.set_progress_handler(None, 0)
        return steps

    assert work(400) < 3 * work(20)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM twinstep_quarantine",
        "UPDATE twinstep_quarantine SET content = '{}'",
        "DROP TABLE twinstep_quarantine",
        "INSERT OR REPLACE INTO twinstep_quarantine SELECT id, kind, table_name, row_key, row_number, '{}', reason, "
        "broken_before, migration, run, set_aside_at, put_back_at, put_back_by FROM twinstep_quarantine",
    ],
)
def test_a_step_cannot_change_what_lies_in_quarantine(file: Path, statement: str) -> None:
    coordinator(file).migrate()
    before = coordinator(file).quarantine()
    second = Migration(id="0002_no", local=Side(up=statement, down=""))
    report = coordinator(file, MIGRATION, second).migrate()
    assert report.error is not None
    assert report.error.code == "T219"
    assert coordinator(file).quarantine() == before
    assert len(before) == 6


def test_triggers_keep_their_texts_and_their_order(driver: sqlite3.Connection) -> None:
    query = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' ORDER BY rowid"
    before = driver.execute(query).fetchall()
    rebuild_table(driver, "tasks", add_foreign_keys=KEYS["tasks"])
    assert driver.execute(query).fetchall() == before


def test_nothing_broken_makes_no_table(driver: sqlite3.Connection) -> None:
    assert set_aside(driver, foreign_key_violations(driver)) == {}
    assert driver.execute("SELECT 1 FROM sqlite_schema WHERE name LIKE 'twinstep%'").fetchall() == []


def test_rows_without_rowid_that_were_broken_before_cannot_be_told_apart(driver: sqlite3.Connection) -> None:
    driver.execute("CREATE TABLE w (a TEXT PRIMARY KEY, t INTEGER NOT NULL REFERENCES tasks(id)) WITHOUT ROWID")
    driver.execute("INSERT INTO w VALUES ('old', 77), ('new', 2)")
    with pytest.raises(Refused) as caught:
        rebuild_table(driver, "tasks", add_foreign_keys=KEYS["tasks"][:1])
    assert caught.value.code == "T342"


VALUES = [
    None,
    0,
    -1,
    2**63 - 1,
    -(2**63),
    1.0,
    -0.0,
    1e300,
    float("inf"),
    "",
    "a\0b",
    "é\U0001f600",
    b"",
    b"\xff\x00",
    RawText(b"\xff"),
]


def test_every_value_goes_there_and_back(driver: sqlite3.Connection) -> None:
    driver.execute("CREATE TABLE v (id INTEGER PRIMARY KEY, note TEXT NOT NULL, x)")
    for number, value in enumerate(VALUES):
        mark = "CAST(? AS TEXT)" if isinstance(value, RawText) else "?"
        bound = bytes(value) if isinstance(value, RawText) else value
        driver.execute(f"INSERT INTO v VALUES (?, 'gone', {mark})", (number, bound))
    query = "SELECT id, note, typeof(x), CAST(x AS BLOB) FROM v ORDER BY id"
    before = driver.execute(query).fetchall()
    rebuild_table(driver, "v", add_foreign_keys=[key("note", "notes")])
    assert driver.execute("SELECT count(*) FROM v").fetchone() == (0,)
    rebuild_table(driver, "v", drop_foreign_keys=[key("note", "notes")])
    assert put_back(driver, read_quarantined(driver), by="me", at="now").refused == {}
    assert driver.execute(query).fetchall() == before
    assert repr(from_json(to_json(list(map(str, range(len(VALUES)))), VALUES))) == repr(
        dict(zip(map(str, range(15)), VALUES, strict=True))
    )


def test_the_command_lists_and_restores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = make_project(tmp_path, capsys)
    script = (
        "from twinstep import ForeignKey, rebuild_table\n"
        "KEY = ForeignKey(columns='note', parent='notes', parent_columns='id')\n"
        "def local_up(connection):\n    rebuild_table(connection, 'tasks', add_foreign_keys=[KEY])\n"
        "def local_down(connection):\n    rebuild_table(connection, 'tasks', drop_foreign_keys=[KEY])\n"
    )
    project.add("0001_keys", {"migration.py": script})
    with closing(sqlite3.connect(project.local)) as host:
        host.execute("CREATE TABLE tasks (id INTEGER PRIMARY KEY, note INTEGER NOT NULL, x)")
        host.execute("INSERT INTO tasks VALUES (2, 99, 'two')")
        host.commit()
    where = ("--local", "app.db")
    migrated = project.run("migrate", *where)
    assert (migrated.code, "tasks 1 set aside" in migrated.out) == (0, True), migrated.out
    listed = project.run("quarantine", "list", *where)
    assert (listed.code, "note=99" in listed.out, "id=2" in listed.out) == (0, True, True)
    (row,) = project.run("quarantine", "list", "--json", *where).data["rows"]
    assert (row["content"], row["key"]) == ({"id": 2, "note": 99, "x": "two"}, {"id": 2})
    assert project.run("quarantine", "list", "--table", "notes", "--json", *where).data == {"rows": []}
    assert project.run("quarantine", "restore", *where).code == 2
    assert "T291" in project.run("quarantine", "restore", "77", *where).err
    refused = project.run("quarantine", "restore", "--all", *where)
    assert (refused.code, "stays: still the key (note)" in " ".join(refused.out.split())) == (1, True)
    with closing(sqlite3.connect(project.local)) as host:
        host.execute("INSERT INTO notes VALUES (99, '')")
        host.commit()
    restored = project.run("quarantine", "restore", str(row["id"]), "--json", *where)
    assert (restored.code, restored.data["outcome"], len(restored.data["restored"])) == (0, "restored", 1)
    again = project.run("quarantine", "restore", "--all", *where)
    assert (again.code, "Nothing lies in quarantine" in again.out) == (0, True)
    assert project.run("quarantine", "list", "--json", *where).data == {"rows": []}
    assert len(project.run("quarantine", "list", "--every", "--json", *where).data["rows"]) == 1
    assert project.run("log", "check", *where).code == 0
