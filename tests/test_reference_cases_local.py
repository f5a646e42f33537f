"""What went wrong on the device in the reference application's own attempt, case by case, on the smallest data that shows it.

Each test asserts a property of the file, of the reference migration's end, or of what the engine made of a bad step; and sees
the same assertion fail on the application's own step, which really runs on a file of its own:

=== ==============================================================================================
L1  drops note_folders, then renames its successor, while triggers of other tables name it
L2  the same, and the same again at the next start
L3  takes the first index for a sign that all was done, and sets the version
L4  makes a new install from the tables of version 11 and calls it 12
L5  adds a key, and leaves it to the connection whether it is enforced
D1  copies only rows whose parent is there
D2  copies folders without a parent, then those whose parent has none
D3  drops the old table with foreign keys on
D4  copies all rows with foreign keys on, statement by statement
D5  INSERT OR IGNORE
D6  declares the dates as text
D7  declares the columns anew without NOT NULL and CHECK
D8  forgets the AUTOINCREMENT mark
D9  forgets the rebuilt table's indexes and triggers
D10 copies by position into columns of another order
=== ==============================================================================================
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from naive_steps import NEW, local, rebuild, without_triggers

from twinstep import Coordinator, LocalOptions, Migration, Report, Side
from twinstep.migrations import phase3

KEYED = {"note_tags": 1, "note_links": 2, "note_reminders": 1, "note_tasks": 3, "note_folders": 2, "local_folders": 1}
NOTES = "INSERT INTO local_notes (id, updated_at) VALUES ('a', 1), ('b', 1)"
FOLDER = "INSERT INTO local_folders (id, name, parent_id, path, created_at, updated_at) VALUES {}"
TASK = "INSERT INTO note_tasks (id, note_id, content, content_hash, parent_task_id, due_date) VALUES {}"
FIRST_INDEX = "CREATE INDEX idx_local_notes_pinned_updated ON local_notes (is_pinned DESC, updated_at DESC)"
FILED = rebuild("note_folders", NEW["note_folders"], "INSERT INTO note_folders_new SELECT * FROM note_folders")

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def version_11(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Empty files of version 11, made once."""
    folder = tmp_path_factory.mktemp("version_11")
    for variant in ("fresh", "grown"):
        for mode in ("delete", "wal"):
            phase3.build_local(folder / f"{variant}_{mode}.db", notes=0, variant=variant, journal_mode=mode)
    return folder


@pytest.fixture
def make(version_11: Path, tmp_path: Path) -> Make:
    """Copies of them, with rows, each in a folder of its own."""
    made: list[Path] = []

    def copy(*statements: str, variant: str = "fresh", mode: str = "delete") -> Path:
        path = tmp_path / str(len(made)) / "notes.db"
        path.parent.mkdir()
        shutil.copy(version_11 / f"{variant}_{mode}.db", path)
        made.append(path)
        assert local(path, statements) is None
        return path

    return copy


def migrate(path: Path) -> Report:
    return Coordinator(local=path, migrations=phase3.FOLDER).migrate()


def migrated(path: Path) -> Path:
    report = migrate(path)
    assert (report.outcome, report.error) == ("verified", None)
    return path


def handwritten(path: Path, *statements: str) -> Report:
    """The application's step as a migration, run by the engine, which must leave the file as it was if it refuses."""
    step = Migration(
        id="0012_by_hand",
        local=Side(up=";\n".join(statements)),
        local_options=LocalOptions(user_version_from=(11,), user_version_to=12),
    )
    return Coordinator(local=path, migrations=[step]).migrate()


def aborts(path: Path, *statements: str, naming: str) -> None:
    before = dump(path)
    report = handwritten(path, *statements)
    assert report.exit_code != 0
    assert report.error is not None
    assert naming in report.error.message
    assert dump(path) == before


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [line for line in connection.iterdump() if "twinstep_" not in line] + [str(version(path))]


def version(path: Path) -> int:
    found: int = rows(path, "PRAGMA user_version")[0][0]
    return found


def count(path: Path, table: str) -> int:
    found: int = rows(path, f"SELECT count(*) FROM {table}")[0][0]
    return found


def objects(path: Path, kind: str) -> set[str]:
    found = rows(path, f"SELECT name FROM sqlite_schema WHERE type = '{kind}' AND sql IS NOT NULL")
    return {name for (name,) in found if not name.startswith("twinstep_")}


def all_keys(path: Path) -> None:
    """Every table is there, under its own name only, with its keys."""
    assert {table: len(rows(path, f"SELECT DISTINCT id FROM pragma_foreign_key_list('{table}')")) for table in KEYED} == KEYED
    assert not {name for name in objects(path, "table") if name.endswith("_new")}


def set_aside(path: Path) -> dict[str, int]:
    found = rows(path, "SELECT name FROM sqlite_schema WHERE name = 'twinstep_quarantine'")
    return dict(rows(path, "SELECT table_name, count(*) FROM twinstep_quarantine GROUP BY 1")) if found else {}


# The course of it


@pytest.mark.parametrize(("variant", "mode"), [("fresh", "delete"), ("grown", "wal")])
def test_l1_a_table_that_triggers_of_others_name_is_rebuilt(make: Make, variant: str, mode: str) -> None:
    holds = all_keys
    holds(migrated(make(variant=variant, mode=mode)))
    naive = make(variant=variant, mode=mode)
    assert "no such table" in str(local(naive, FILED))
    with pytest.raises(AssertionError):
        holds(naive)


KILLED = """
import os, signal, sys
from twinstep import Coordinator
from twinstep.migrations import phase3
def probe(crossing):
    if crossing == "APPLY_LOCAL:performed":
        os.kill(os.getpid(), signal.SIGKILL)
Coordinator(local=sys.argv[1], migrations=phase3.FOLDER, probe=probe).migrate()
"""


def kill(path: Path) -> None:
    python = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], env=python, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL


def test_l2_the_start_after_an_interruption_finishes(make: Make) -> None:
    def holds(path: Path) -> None:
        all_keys(path)
        assert version(path) == 12

    ours = make()
    kill(ours)
    holds(migrated(ours))
    naive = make()
    for said in ("no such table", "already exists"):
        assert said in str(local(naive, FILED))
    with pytest.raises(AssertionError):
        holds(naive)


def test_l3_a_half_done_migration_is_not_stamped_done(make: Make) -> None:
    def holds(path: Path) -> None:
        if version(path) == 12:
            all_keys(path)

    def start(path: Path) -> None:
        done = "idx_local_notes_pinned_updated" in objects(path, "index")
        local(path, ["PRAGMA user_version = 12"] if done else [FIRST_INDEX])

    naive, ours = make(), make(FIRST_INDEX)
    assert migrate(ours).outcome == "rolled_back"  # there already, and not as wanted: said, not taken for done
    assert version(ours) == 11
    holds(ours)
    start(naive)
    start(naive)
    with pytest.raises(AssertionError):
        holds(naive)


def test_l4_a_new_install_is_what_an_upgraded_one_is(make: Make) -> None:
    upgraded = migrated(make(NOTES))

    def holds(path: Path) -> None:
        all_keys(path)
        assert version(path) == version(upgraded) == 12
        assert [objects(path, kind) for kind in ("index", "trigger")] == [
            objects(upgraded, kind) for kind in ("index", "trigger")
        ]

    holds(migrated(make()))
    naive = make("PRAGMA user_version = 12")
    with pytest.raises(AssertionError):
        holds(naive)
    report = migrate(naive)
    assert (report.exit_code, version(naive)) == (5, 12)  # and the engine does not believe it


def test_l5_every_key_is_kept_whether_or_not_a_connection_enforces_it(make: Make) -> None:
    # Enforcement belongs to the connection, so that no migration can leave it on. What it can leave is a file in which no
    # reference is broken, in which whoever switches it on finds it true.
    orphan = "INSERT INTO note_tags VALUES ('gone', 'red')"

    def holds(path: Path) -> None:
        assert rows(path, "PRAGMA foreign_key_check") == []
        assert rows(path, "SELECT 1 FROM pragma_foreign_key_list('note_tags')") == [(1,)]
        assert "FOREIGN KEY" in str(local(path, [orphan], foreign_keys=True))

    holds(migrated(make(orphan)))
    naive = make()
    copy = "INSERT INTO note_tags_new SELECT * FROM note_tags"
    assert local(naive, rebuild("note_tags", NEW["note_tags"], copy), foreign_keys=True) is None
    assert local(naive, [orphan]) is None  # the next connection
    with pytest.raises(AssertionError):
        holds(naive)


# The data

ORPHANS = (
    "INSERT INTO note_tags VALUES ('gone', 'red')",
    "INSERT INTO note_links VALUES ('gone', 'x', NULL)",
    "INSERT INTO note_reminders (note_id, type) VALUES ('gone', 0)",
    TASK.format("('t', 'gone', '', '', NULL, NULL)"),
    "INSERT INTO note_folders VALUES ('gone', 'gone', 1)",
)
ORPHANED = ("note_tags", "note_links", "note_reminders", "note_tasks", "note_folders")


@pytest.mark.parametrize(("variant", "mode"), [("fresh", "wal"), ("grown", "delete")])
def test_d1_rows_without_a_parent_are_set_aside_and_counted(make: Make, variant: str, mode: str) -> None:
    def holds(path: Path) -> None:
        aside = set_aside(path)
        assert {table: count(path, table) + aside.get(table, 0) for table in ORPHANED} == dict.fromkeys(ORPHANED, 1)

    ours = make(*ORPHANS, variant=variant, mode=mode)
    (run,) = migrate(ours).runs
    holds(ours)
    assert run.local["rows_quarantined"] == dict.fromkeys(ORPHANED, 1)
    naive = make(*ORPHANS)
    filtered = "INSERT INTO note_tags_new SELECT t.* FROM note_tags t JOIN local_notes n ON n.id = t.note_id"
    by_hand = rebuild("note_tags", NEW["note_tags"], filtered)
    assert local(naive, by_hand) is None
    with pytest.raises(AssertionError):
        holds(naive)
    aborts(make(*ORPHANS), *by_hand, naming="note_tags had 1 row")


def test_d2_folders_of_every_depth_and_shape_stay(make: Make) -> None:
    shapes = {"a": None, "b": "a", "c": "b", "d": "c", "lost": "gone", "own": "own", "x": "y", "y": "x"}
    folders = FOLDER.format(", ".join(f"('{name}', '', '{parent}', '', 1, 1)" for name, parent in shapes.items())).replace(
        "'None'", "NULL"
    )

    def holds(path: Path) -> None:
        found = dict(rows(path, "SELECT id, parent_id FROM local_folders"))
        assert found == {**shapes, "lost": None}

    holds(migrated(make(folders)))
    naive = make(folders)
    two_levels = (
        "CREATE TABLE local_folders_new AS SELECT * FROM local_folders WHERE parent_id IS NULL",
        "INSERT INTO local_folders_new SELECT f.* FROM local_folders f JOIN local_folders_new p ON p.id = f.parent_id",
        "DROP TABLE local_folders",
        "ALTER TABLE local_folders_new RENAME TO local_folders",
    )
    assert local(naive, (*without_triggers(naive), *two_levels)) is None
    with pytest.raises(AssertionError):
        holds(naive)
    other = make(folders)
    aborts(other, *without_triggers(other), *two_levels, naming="local_folders had 8 rows, would have 2")


def enforce(driver: sqlite3.Connection) -> None:
    """As the application sets up its connections."""
    driver.execute("PRAGMA foreign_keys = ON")


def test_d3_dropping_the_old_table_deletes_nothing(make: Make) -> None:
    data = (
        NOTES,
        TASK.format("('t', 'a', '', '', NULL, NULL), ('child', 'a', '', '', 't', NULL), ('grand', 'a', '', '', 'child', NULL)"),
        FOLDER.format("('f', '', NULL, '', 1, 1), ('g', '', 'f', '', 1, 1)"),
        "INSERT INTO note_folders VALUES ('a', 'f', 1), ('b', 'g', 1)",
    )

    def holds(path: Path) -> None:
        assert [count(path, table) for table in ("note_tasks", "local_folders", "note_folders")] == [3, 2, 2]

    ours = make(*data)
    Coordinator(
        local=ours,
        migrations=phase3.FOLDER,
        on_local_connect=enforce,
    ).migrate()
    assert version(ours) == 12
    holds(ours)
    naive = migrated(make(*data))
    for table in ("note_tasks", "local_folders"):
        text = rows(naive, f"SELECT sql FROM sqlite_schema WHERE name = '{table}'")[0][0]
        new = re.sub(rf'^CREATE TABLE "?{table}"?', f"CREATE TABLE {table}_new", text)
        steps = rebuild(table, new, f"INSERT INTO {table}_new SELECT * FROM {table}")
        assert local(naive, (*without_triggers(naive), *steps), foreign_keys=True) is None
    with pytest.raises(AssertionError, match=re.escape("[1, 1, 0] == [3, 2, 2]")):
        holds(naive)


def test_d4_a_dangling_optional_reference_becomes_null_and_stops_nothing(make: Make) -> None:
    link = "INSERT INTO note_links VALUES ('a', 'title', 'gone')"

    def holds(path: Path) -> None:
        assert rows(path, "SELECT * FROM note_links") == [("a", "title", None)]
        all_keys(path)

    ours = migrated(make(NOTES, link))
    holds(ours)
    (kept,) = rows(ours, "SELECT * FROM twinstep_quarantine")
    assert "gone" in repr(kept)
    naive = make(NOTES, link)
    copy = "INSERT INTO note_links_new SELECT * FROM note_links"
    assert "FOREIGN KEY" in str(local(naive, rebuild("note_links", NEW["note_links"], copy), foreign_keys=True))
    with pytest.raises(AssertionError):
        holds(naive)


def test_d5_what_a_copy_ignores_is_not_lost(make: Make) -> None:
    tags = "INSERT INTO note_tags VALUES ('a', 'red'), ('b', 'red')"

    def holds(path: Path) -> None:
        assert count(path, "note_tags") + set_aside(path).get("note_tags", 0) == 2

    holds(migrated(make(NOTES, tags)))
    naive = make(NOTES, tags)
    new = NEW["note_tags"].replace("tag TEXT NOT NULL,", "tag TEXT NOT NULL CHECK (note_id <> 'b'),")
    ignoring = rebuild("note_tags", new, "INSERT OR IGNORE INTO note_tags_new SELECT * FROM note_tags")
    assert local(naive, ignoring) is None
    with pytest.raises(AssertionError):
        holds(naive)
    aborts(make(NOTES, tags), *ignoring, naming="note_tags had 2 rows, would have 1")


def remade(path: Path, table: str, *changes: tuple[str, str]) -> tuple[str, ...]:
    """The application's rebuild of a table from its own definition, with some words of it replaced."""
    ((text,),) = rows(path, f"SELECT sql FROM sqlite_schema WHERE name = '{table}'")
    new = text.replace(f"TABLE {table}", f"TABLE {table}_new", 1)
    for old, other in changes:
        assert old in new
        new = new.replace(old, other)
    return (*without_triggers(path), *rebuild(table, new, f"INSERT INTO {table}_new SELECT * FROM {table}"))


def test_d6_dates_stay_numbers(make: Make) -> None:
    tasks = TASK.format("('early', 'a', '', '', NULL, 999999999), ('late', 'a', '', '', NULL, 1758600000)")

    def holds(path: Path) -> None:
        assert rows(path, "SELECT id FROM note_tasks ORDER BY due_date") == [("early",), ("late",)]
        assert rows(path, "SELECT DISTINCT typeof(due_date) FROM note_tasks") == [("integer",)]

    holds(migrated(make(NOTES, tasks)))
    naive = make(NOTES, tasks)
    steps = remade(naive, "note_tasks", ("due_date INTEGER", "due_date TEXT"))
    assert local(naive, steps) is None
    with pytest.raises(AssertionError):
        holds(naive)
    aborts(make(NOTES, tasks), *steps, naming="rows of note_tasks have another due_date")


def test_d7_not_null_and_check_still_refuse(make: Make) -> None:
    wrong = TASK.replace("due_date", "deleted").format("('t', 'a', '', '', NULL, 7)")
    missing = TASK.format("('u', 'a', NULL, '', NULL, NULL)")

    def holds(path: Path) -> None:
        assert "CHECK" in str(local(path, [wrong]))
        assert "NOT NULL" in str(local(path, [missing]))

    holds(migrated(make(NOTES)))
    naive = make(NOTES)
    steps = remade(naive, "note_tasks", (" CHECK (deleted IN (0, 1))", ""), ("content TEXT NOT NULL", "content TEXT"))
    assert local(naive, steps) is None
    with pytest.raises(AssertionError):
        holds(naive)
    aborts(make(NOTES), *steps, naming="note_tasks has lost CHECK")


def test_d8_ids_of_deleted_reminders_are_not_used_again(make: Make) -> None:
    reminder = "INSERT INTO note_reminders (note_id, type) VALUES ('a', 0)"
    data = (NOTES, *[reminder] * 6, "DELETE FROM note_reminders WHERE id > 1")

    def holds(path: Path) -> None:
        assert local(path, [reminder]) is None
        assert rows(path, "SELECT max(id) FROM note_reminders") == [(7,)]

    holds(migrated(make(*data)))
    naive = make(*data)
    steps = remade(naive, "note_reminders")
    assert local(naive, steps) is None
    with pytest.raises(AssertionError):
        holds(naive)
    aborts(make(*data), *steps, naming="the AUTOINCREMENT of note_reminders falls from 6 to 1")


@pytest.mark.parametrize("variant", ["fresh", "grown"])
def test_d9_indexes_and_triggers_are_there_afterwards(make: Make, variant: str) -> None:
    before = make(variant=variant)

    def holds(path: Path) -> None:
        assert objects(before, "index") <= objects(path, "index")
        assert objects(before, "trigger") == objects(path, "trigger")

    holds(migrated(make(variant=variant)))
    naive = make(variant=variant)
    steps = remade(naive, "note_folders")
    assert local(naive, steps) is None
    with pytest.raises(AssertionError):
        holds(naive)
    aborts(before, *steps, naming="index idx_note_folders_folder_id")
    aborts(before, *steps, naming="trigger trg_note_folders_ai")


def test_d10_no_value_changes_its_column(make: Make) -> None:
    data = (NOTES, "UPDATE local_notes SET title = 'the title', body = 'the body'")

    def holds(path: Path) -> None:
        assert rows(path, "SELECT DISTINCT title, body FROM local_notes") == [("the title", "the body")]

    holds(migrated(make(*data)))
    naive = make(*data)
    title, body = (f"{name} TEXT NOT NULL DEFAULT ''" for name in ("title", "body"))
    steps = remade(naive, "local_notes", (title, "other"), (body, title), ("other", body))
    assert local(naive, steps) is None
    with pytest.raises(AssertionError):
        holds(naive)
    aborts(make(*data), *steps, naming="rows of local_notes have another title")
