"""Migrations verified by property: faults of a change and of whole runs are found, shrunk and told; nothing right is blamed."""

from __future__ import annotations

import itertools
import random
import shlex
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from command_line import Project, make_project
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from twinstep import Expectation, LocalOptions, Migration, Query, Side
from twinstep.engine.cli.proving import PROPERTIES
from twinstep.engine.verification import Property, PropertyResult, Verification, Verifier, invariant, verify_migration
from twinstep.engine.verification.properties import OF_THE_CHANGE, OF_WHOLE_RUNS
from twinstep.events.errors import ConfigurationError, DefinitionError
from twinstep.migrations.definition import Step

# The plugin is there by its entry point.
PLUGIN = ("-p", "no:cacheprovider")

BEFORE = Migration(
    id="0001_before",
    local=Side(
        up="CREATE TABLE people (id INTEGER PRIMARY KEY, mail TEXT NOT NULL);"
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, owner INTEGER REFERENCES people, title TEXT)"
    ),
)


@pytest.fixture(autouse=True)
def _soon_small_enough(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("full") is None:
        monkeypatch.setattr("twinstep.engine.verification.searching.SHRINK_SECONDS", 1.0)


@pytest.fixture
def _small_enough_at_leisure(_soon_small_enough: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """For what is asserted of the very smallest database, also on a machine that is busy."""
    monkeypatch.setattr("twinstep.engine.verification.searching.SHRINK_SECONDS", 20.0)


def verified(
    up: Step | Sequence[Step],
    *,
    down: Step | Sequence[Step] | None = "",
    expect: Expectation = Expectation(),  # noqa: B008 - a value
    queries: Sequence[Query] = (),
    local_options: LocalOptions = LocalOptions(),  # noqa: B008 - a value
    examples: int = 20,
    properties: tuple[Property, ...] = OF_THE_CHANGE,
    **given: Any,
) -> Verification:
    """The change on the notes and people, verified; by whole runs only where that is asked for."""
    side = Side(up=up, down=down)
    change = Migration(id="0002_change", local=side, expect=expect, queries=tuple(queries), local_options=local_options)
    return verify_migration([BEFORE, change], examples=examples, large_rows=0, properties=properties, **given)


def fault(found: Verification, property: Property) -> PropertyResult:
    result = found.result(property)
    assert result is not None
    assert result.verdict == "fails", [(str(each.property), each.verdict, each.reason) for each in found.results]
    assert result.counterexample is not None
    return result


def told(found: Verification, property: Property) -> str:
    counterexample = fault(found, property).counterexample
    assert counterexample is not None
    return "; ".join(counterexample.told)


def rows(found: Verification, property: Property) -> int:
    counterexample = fault(found, property).counterexample
    assert counterexample is not None
    return counterexample.rows


# The properties, one by one


def test_a_right_migration_is_not_blamed_and_every_property_is_tried() -> None:
    found = verified(
        "ALTER TABLE notes ADD COLUMN body TEXT",
        down="ALTER TABLE notes DROP COLUMN body",
        queries=[Query(name="all", side="local", sql="SELECT id, title FROM notes ORDER BY title")],
        invariants=[kept],
        properties=tuple(Property),
    )
    assert found.ok, found.failures
    assert {str(each.property): each.verdict for each in found.results} == {each.value: "holds" for each in Property}
    assert found.examples == 20 + 4


@invariant(side="local")
def kept(connection: Connection) -> int:
    return int(connection.execute(text("SELECT count(*) FROM notes")).scalar_one())


@pytest.mark.full
def test_what_is_refused_on_some_rows_does_not_apply() -> None:
    found = verified("CREATE UNIQUE INDEX notes_title ON notes (title)", down="DROP INDEX notes_title", examples=100)
    assert "UNIQUE constraint failed: notes.title" in told(found, Property.APPLIES)
    assert rows(found, Property.APPLIES) >= 2
    assert [each.property for each in found.failures] == [Property.APPLIES]


def test_a_value_that_an_update_changes_is_lost_unless_declared() -> None:
    found = verified("UPDATE notes SET title = upper(title)")
    assert "value of notes.title is another" in told(found, Property.KEEPS_ROWS)
    changed = Expectation(columns_changed=("notes.title",))
    honest = verified("UPDATE notes SET title = upper(title)", down=None, expect=changed)
    assert honest.ok, honest.failures


def test_a_row_that_is_copied_twice_is_told() -> None:
    found = verified("INSERT INTO people (id, mail) SELECT id + 1000000, mail FROM people WHERE id < 1000000", down=None)
    assert "there twice, under a new key" in told(found, Property.KEEPS_ROWS)


def test_a_down_that_forgets_is_told_once_and_not_again_by_whole_runs() -> None:
    found = verified("CREATE TABLE tags (name TEXT)", down="SELECT 1", examples=5, properties=tuple(Property))
    assert "tags is new" in told(found, Property.DOWN_RESTORES)
    assert [each.property for each in found.failures] == [Property.DOWN_RESTORES]


def test_a_query_whose_rows_come_in_another_order() -> None:
    up = "CREATE TABLE new (id INTEGER PRIMARY KEY, owner INTEGER REFERENCES people, title TEXT COLLATE NOCASE);"
    up += "INSERT INTO new SELECT * FROM notes; DROP TABLE notes; ALTER TABLE new RENAME TO notes"
    by_title = [Query(name="by title", side="local", sql="SELECT title FROM notes ORDER BY title")]
    titles = {"local.notes.title": st.sampled_from(["a", "B", "b"])}
    expect = Expectation(definitions_changed=("notes",))
    found = verified(up, down=None, queries=by_title, columns=titles, expect=expect)
    assert "the query by title returns its rows in another order" in told(found, Property.QUERIES)


def test_rows_that_tie_may_change_places() -> None:
    found = verified(
        "CREATE INDEX notes_owner ON notes (owner, title DESC)",
        down="DROP INDEX notes_owner",
        queries=[Query(name="by owner", side="local", sql="SELECT id, owner FROM notes ORDER BY owner LIMIT 3")],
        properties=(Property.QUERIES,),
    )
    assert found.ok, found.failures


@pytest.mark.usefixtures("_small_enough_at_leisure")
def test_an_invariant_that_does_not_hold_and_one_that_changes() -> None:
    @invariant(side="local")
    def titles(connection: Connection) -> object:
        return connection.execute(text("SELECT count(title) FROM notes")).scalar_one()

    @invariant(side="local")
    def short(connection: Connection) -> None:
        long = connection.execute(text("SELECT count(*) FROM notes WHERE length(title) > 1000")).scalar_one()
        assert not long, f"{long} titles are too long"

    up = "UPDATE notes SET title = 'untitled' WHERE title IS NULL"
    changed = Expectation(columns_changed=("notes.title",))
    found = verified(up, down=None, expect=changed, invariants=[titles])
    assert "titles was 0 before, and is 1 afterwards" in told(found, Property.INVARIANTS)
    found = verified(
        "UPDATE notes SET title = printf('%.*c', 1001, 'x') WHERE title IS NULL", down=None, expect=changed, invariants=[short]
    )
    assert "short does not hold afterwards: 1 titles are too long" in told(found, Property.INVARIANTS)


def test_a_schema_that_depends_on_the_rows_is_not_that_of_a_new_installation() -> None:
    def up(connection: Connection) -> None:
        if connection.execute(text("SELECT count(*) FROM notes")).scalar_one():
            connection.execute(text("CREATE INDEX notes_title ON notes (title)"))

    found = verified(up, down="DROP INDEX IF EXISTS notes_title")
    assert "with rows, index notes_title is new" in told(found, Property.NEW_INSTALL)
    assert rows(found, Property.NEW_INSTALL) >= 1


def test_the_schema_of_a_new_installation_may_be_given() -> None:
    both = "CREATE TABLE people (id INTEGER PRIMARY KEY, mail TEXT NOT NULL);"
    both += "CREATE TABLE notes (id INTEGER PRIMARY KEY, owner INTEGER REFERENCES people, title TEXT);"
    found = verified("SELECT 1", new_install={"local": both}, properties=(Property.NEW_INSTALL,))
    assert found.ok, found.failures
    found = verified("SELECT 1", new_install={"local": both + "CREATE INDEX i ON notes (title)"}, examples=2)
    assert "index i is missing" in told(found, Property.NEW_INSTALL)


@pytest.mark.full
def test_hidden_state_shows_when_a_run_is_killed() -> None:
    calls = itertools.count()

    def up(connection: Connection) -> None:
        connection.execute(text("UPDATE notes SET title = :n WHERE title IS NOT NULL"), {"n": f"title {next(calls)}"})

    found = verified(up, down=None, expect=Expectation(columns_changed=("notes.title",)), properties=(Property.CRASH,))
    assert "and run again, notes: the row" in told(found, Property.CRASH)


@pytest.mark.full
def test_a_new_column_of_random_values_is_nobodys_fault() -> None:
    def up(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE notes ADD COLUMN salt INTEGER"))
        connection.execute(text("UPDATE notes SET salt = :salt"), {"salt": random.randrange(2**60)})

    found = verified(up, down="ALTER TABLE notes DROP COLUMN salt", properties=(Property.CRASH, Property.AGAIN))
    assert found.ok, found.failures


def test_a_down_that_does_not_restore_shows_when_it_is_refused() -> None:
    found = verified(
        "CREATE TABLE tags (name TEXT)", down="ALTER TABLE tags RENAME TO old_tags", properties=(Property.REFUSAL,)
    )
    assert "refused at the last check, it ended in_flight: T335" in told(found, Property.REFUSAL)


# What is said of it


@pytest.mark.full
def test_the_same_seed_finds_the_same(tmp_path: Path) -> None:
    one = verified("UPDATE notes SET title = upper(title)", seed=7, properties=(Property.KEEPS_ROWS,))
    other = verified("UPDATE notes SET title = upper(title)", seed=7, properties=(Property.KEEPS_ROWS,))
    assert [each.counterexample for each in one.failures] == [each.counterexample for each in other.failures]
    assert one.failures


def test_the_counterexample_is_sql_that_makes_it() -> None:
    found = verified("UPDATE notes SET title = upper(title)", properties=(Property.KEEPS_ROWS,))
    (failure,) = found.failures
    assert failure.counterexample is not None
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(str(BEFORE.local.up[0]) if BEFORE.local is not None else "")
        database.executescript(failure.counterexample.sql["local"])
        titles = [title for (title,) in database.execute("SELECT title FROM notes") if isinstance(title, str)]
    assert any(title != title.upper() for title in titles)


def test_it_begins_on_none_of_the_databases() -> None:
    found = verified("SELECT 1", local_options=LocalOptions(user_version_from=(3,)), examples=5)
    assert {each.verdict for each in found.results} == {"not tried", "does not apply"}
    result = found.result(Property.APPLIES)
    assert result is not None
    assert "it is applied to none of the databases: T201" in result.reason
    assert (found.outcome, found.ok, found.exit_code) == ("not tried", False, 5)


def test_what_a_migration_has_nothing_for_keeps_it_from_nothing() -> None:
    found = verified("SELECT 1", properties=(Property.QUERIES, Property.INVARIANTS))
    assert {each.verdict for each in found.results} == {"does not apply"}
    assert (found.outcome, found.examples) == ("holds", 0)


def test_all_databases_that_are_tried_differ() -> None:
    """So that where there is only one, it is tried once."""
    seen: list[tuple[object, ...]] = []

    def up(connection: Connection) -> None:
        tables = ("people", "notes")
        seen.append(tuple(tuple(connection.exec_driver_sql(f"SELECT * FROM {name}").fetchall()) for name in tables))

    found = verified(up, properties=(Property.APPLIES,), examples=30)
    assert (found.ok, found.examples, len(set(seen)), len(seen)) == (True, 30, 30, 30)
    empty = [Migration(id="0001_first", local=Side(up="CREATE TABLE notes (id INTEGER PRIMARY KEY)"))]
    assert verify_migration(empty, properties=OF_THE_CHANGE).examples == 1


def test_a_migration_that_does_not_do_the_same_twice_is_told_so() -> None:
    turns = itertools.count()

    def up(connection: Connection) -> None:
        if next(turns) % 3 == 2:
            raise ValueError("not today")

    found = verified(up, properties=(Property.APPLIES,))
    assert "not today" in told(found, Property.APPLIES)


def test_one_that_hangs_is_ended_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinstep.engine.verification.subject.TRIAL_SECONDS", 0.2)
    monkeypatch.setattr("twinstep.engine.verification.searching.SHRINK_SECONDS", 1.0)
    endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) UPDATE notes SET title = (SELECT max(i) FROM n)"
    found = verified(endless, properties=(Property.APPLIES,), examples=10)
    assert "T269" in told(found, Property.APPLIES)


def test_one_that_hangs_everywhere_is_given_up_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinstep.engine.verification.subject.TRIAL_SECONDS", 0.4)
    monkeypatch.setattr("twinstep.engine.verification.searching.LONG_SECONDS", 0.2)
    monkeypatch.setattr("twinstep.engine.verification.searching.TRIAL_SECONDS", 0.4)
    monkeypatch.setattr("twinstep.engine.verification.searching.SHRINK_SECONDS", 1.0)
    endless = (
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) INSERT INTO notes SELECT i, 1, '' FROM n WHERE i < 0"
    )
    began = time.monotonic()
    found = verified(endless, properties=tuple(Property))
    assert time.monotonic() - began < 30  # not fifty times, for each of the properties
    assert [str(each.property) for each in found.failures] == ["applies"]
    others = [each for each in found.results if each.verdict == "not tried" and "T269" in each.reason]
    assert {each.property for each in others} >= {Property.KEEPS_ROWS, Property.DOWN_RESTORES, *OF_WHOLE_RUNS}


def of_settings(up: str, *, key: str = "key TEXT PRIMARY KEY", **given: Any) -> Verification:
    before = Migration(id="0001_before", local=Side(up=f"CREATE TABLE settings ({key}, value TEXT)"))
    change = Migration(id="0002_change", local=Side(up=up), **given)
    return verify_migration([before, change], properties=(Property.KEEPS_ROWS,), large_rows=0)


def test_rows_whose_key_is_null_are_told_apart_by_their_values() -> None:
    """SQLite lets NULL into a primary key that is not declared NOT NULL, as often as one likes."""
    assert of_settings("ALTER TABLE settings ADD COLUMN extra TEXT").ok
    found = of_settings("UPDATE settings SET value = 'x' WHERE key IS NULL")
    assert "settings is gone or changed: key=NULL" in told(found, Property.KEEPS_ROWS)


def test_a_key_that_is_declared_to_change_tells_no_row_from_another() -> None:
    prefixed = "UPDATE settings SET key = 'app.' || key"
    declared = Expectation(columns_changed=("settings.key",))
    key = "key INTEGER PRIMARY KEY"
    assert of_settings("UPDATE settings SET key = -1 - key", key=key, expect=declared).ok
    assert of_settings(f"{prefixed} WHERE key IS NOT NULL", expect=declared).ok
    assert not of_settings(prefixed).ok
    assert not of_settings("UPDATE settings SET key = -1 - key, value = lower(value)", key=key, expect=declared).ok


def test_tables_in_which_no_row_was_tried_are_told() -> None:
    """What holds of no rows at all is not known to hold."""
    impossible = Migration(
        id="0001_before",
        local=Side(
            up="CREATE TABLE notes (id INTEGER PRIMARY KEY);"
            "CREATE TABLE odd (id INTEGER PRIMARY KEY, a INTEGER NOT NULL CHECK (a > 5 AND a < 3));"
            "CREATE TABLE strange (id INTEGER PRIMARY KEY, a TEXT NOT NULL CHECK (hex(a) || hex(id) = 'nothing is so'))"
        ),
    )
    change = Migration(id="0002_change", local=Side(up="ALTER TABLE odd ADD COLUMN b"))
    found = verify_migration([impossible, change], examples=20, large_rows=100, properties=OF_THE_CHANGE)
    assert found.ok
    assert found.untried == ("odd", "strange")
    assert found.findings == ("it holds on a database of 100 rows too",)  # of notes
    assert verified("SELECT 1").untried == ()


def test_no_further_database_is_begun_when_the_time_is_over() -> None:
    began = time.monotonic()
    found = verified("SELECT 1", examples=100_000, time_seconds=1.5)
    assert time.monotonic() - began < 15
    assert 0 < found.examples < 100_000
    assert found.ok


@pytest.mark.full
def test_large_databases_are_tried_too() -> None:
    def up(connection: Connection) -> None:
        if connection.execute(text("SELECT count(*) FROM notes")).scalar_one() > 100:
            connection.execute(text("UPDATE notes SET title = 'lost'"))

    change = Migration(id="0002_change", local=Side(up=up, down=None))
    found = verify_migration([BEFORE, change], examples=20, large_rows=500, properties=(Property.APPLIES, Property.KEEPS_ROWS))
    assert "only on a large database of" in "; ".join(
        sentence for each in found.failures if each.counterexample is not None for sentence in each.counterexample.told
    )


# Wrong use


def test_an_unknown_migration() -> None:
    with pytest.raises(DefinitionError) as caught:
        verify_migration([BEFORE], "0009_missing")
    assert caught.value.code == "T145"


def test_no_migration_at_all() -> None:
    with pytest.raises(DefinitionError) as caught:
        verify_migration([])
    assert caught.value.code == "T387"


def test_an_earlier_one_that_fails() -> None:
    broken = Migration(id="0001_broken", local=Side(up="CREATE TABLE notes (id INTEGER PRIMARY KEY); SELECT * FROM missing"))
    with pytest.raises(DefinitionError) as caught:
        verify_migration([broken, Migration(id="0002_change", local=Side(up="SELECT 1"))])
    assert caught.value.code == "T381"
    assert "no such table: missing" in str(caught.value)


def test_a_schema_before_takes_the_place_of_the_earlier_migrations() -> None:
    """Also where they fail, or make something else: nothing of them is run."""
    broken = Migration(id="0001_broken", local=Side(up="CREATE TABLE notes (id INTEGER PRIMARY KEY); SELECT * FROM missing"))
    change = Migration(id="0002_change", local=Side(up="UPDATE notes SET title = lower(title)"))
    given = {"local": "CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT NOT NULL)"}
    verification = verify_migration([broken, change], schemas_before=given, examples=20, large_rows=0)
    assert "keeps-rows" in {str(each.property) for each in verification.failures}
    assert all(each.examples for each in verification.results if each.property in OF_WHOLE_RUNS)


def test_a_schema_before_that_cannot_be_made() -> None:
    with pytest.raises(DefinitionError) as caught:
        verify_migration([Migration(id="2_x", local=Side(up="SELECT 1"))], schemas_before={"local": "CREATE TABLE ("})
    assert caught.value.code == "T382"


def test_a_remote_side_without_a_server() -> None:
    with pytest.raises(DefinitionError) as caught:
        verify_migration([Migration(id="2_x", remote=Side(up="SELECT 1", down=""))])
    assert caught.value.code == "T383"


def test_invariants_of_no_side() -> None:
    with pytest.raises(DefinitionError) as caught:
        invariant(side="device")  # type: ignore[arg-type]
    assert caught.value.code == "T384"
    with pytest.raises(DefinitionError) as caught:
        verified("SELECT 1", invariants=[lambda connection: None])
    assert caught.value.code == "T385"


def test_values_for_a_column_that_is_not_there() -> None:
    with pytest.raises(ConfigurationError) as caught:
        verified("SELECT 1", columns={"local.notes.colour": st.just("red")})
    assert caught.value.code == "T374"


# The command


@pytest.fixture
def project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Project:
    """Two migrations, of which the second is refused on some rows."""
    made = make_project(tmp_path, capsys)
    made.add("0001_people", {"local.up.sql": "CREATE TABLE people (id INTEGER PRIMARY KEY, mail TEXT NOT NULL);"})
    small = {
        "local.up.sql": "UPDATE people SET mail = lower(mail); CREATE UNIQUE INDEX people_mail ON people (mail);",
        "migration.toml": '[expect]\ncolumns_changed = ["people.mail"]\n',
    }
    made.add("0002_small", small)
    return made


@pytest.mark.full
def test_the_command_shows_the_smallest_database_and_how_to_see_it_again(project: Project) -> None:
    answer = project.run("test", "--seed", "1", "--examples", "30")
    assert answer.code == 1
    assert "applies fails (local side): it ends verified, but" in answer.out
    assert "UNIQUE constraint failed: people.mail" in answer.out
    assert "(1, '')," in answer.out
    (again,) = [line.strip() for line in answer.out.splitlines() if line.startswith("  twinstep test")]
    assert again == "twinstep test 0002_small --property applies --seed 1 --examples 30"
    shown = project.run(*again.split()[1:])
    assert (shown.code, "UNIQUE constraint failed" in shown.out) == (1, True)
    # The application's own database is none of its business.
    assert project.tables() == {"notes"}
    assert not (project.folder / "app.db.twinstep").exists()


@pytest.mark.full
def test_with_json_there_is_one_object(project: Project) -> None:
    answer = project.run("test", "--all", "--examples", "5", "--json")
    found = answer.data
    assert [each["migration"] for each in found["migrations"]] == ["0001_people", "0002_small"]
    assert found["outcome"] in ("holds", "fails")
    (applies,) = [each for each in found["migrations"][0]["properties"] if each["property"] == "applies"]
    # Before the first there is nothing, and one database that has it.
    assert (applies["verdict"], applies["databases"], applies["counterexample"]) == ("holds", 1, None)


CHANGE = ("--property", "applies", "--examples", "30", "--seed", "1")


def test_one_that_cannot_be_verified_keeps_no_other_from_it(project: Project) -> None:
    project.add("0003_waits", {"local.up.sql": "SELECT 1;", "migration.toml": '[local]\npending = "SELECT 1"\n'})
    project.add("0004_next", {"local.up.sql": "ALTER TABLE people ADD COLUMN name TEXT;"})
    answer = project.run("test", "--all", *CHANGE)
    assert answer.code == 1
    assert "nothing could be tried, so that nothing is known of it; 0 databases" in answer.out
    assert answer.out.count("T381") == 1
    total = "4 migrations: holds 1, fails 1 (0002_small), not tried 1 (0003_waits), not verified 1 (0004_next)"
    assert answer.out.splitlines()[-1] == total
    assert project.run("test", "0003_waits", *CHANGE).code == 5
    refused = project.run("test", "--all", *CHANGE, "--json").data
    assert [each["outcome"] for each in refused["migrations"]] == ["holds", "fails", "not tried", "not verified"]
    assert refused["migrations"][-1]["error"]["code"] == "T381"


def test_each_is_shown_before_the_next_and_what_is_known_survives_an_interruption(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = Verifier.verify

    def interrupted(self: Verifier, id: str | None = None, **given: Any) -> Verification:
        if id == "0002_small":
            raise KeyboardInterrupt
        return verify(self, id, **given)

    monkeypatch.setattr(Verifier, "verify", interrupted)
    answer = project.run("test", "--all", *CHANGE)
    assert (answer.code, "0001_people: holds; 1 database in" in answer.out) == (130, True)
    assert "T158" in answer.err
    found = project.run("test", "--all", *CHANGE, "--json").data
    assert (found["outcome"], found["error"]["code"]) == ("interrupted", "T158")
    assert [(each["migration"], each["outcome"]) for each in found["migrations"]] == [("0001_people", "holds")]


def test_what_the_author_adds_is_read_from_the_folder(project: Project) -> None:
    (project.folder / "migrations" / "verification.py").write_text(
        "from hypothesis import strategies as st\n"
        "from twinstep.engine.verification import invariant\n"
        "columns = {'local.people.mail': st.integers(0, 10**6).map(lambda n: f'{n}@example.org')}\n",
        encoding="utf-8",
    )
    (project.folder / "migrations" / "0002_small" / "verification.py").write_text(
        "from twinstep.engine.verification import invariant\n"
        "@invariant(side='local')\n"
        "def at_an_example(connection):\n"
        "    rows = connection.exec_driver_sql(\"SELECT mail FROM people WHERE mail NOT LIKE '%@example.org'\").fetchall()\n"
        "    assert not rows, rows\n",
        encoding="utf-8",
    )
    answer = project.run("test", "--seed", "1", "--property", "invariants", "--examples", "20")
    assert answer.code == 0, answer.out
    assert "invariants  holds" in " ".join(answer.out.split()).replace("holds 20", " holds")


@pytest.mark.parametrize(
    ("text", "problem"),
    [("1 / 0", "ZeroDivisionError"), ("columns = ['notes.title']", "columns is no mapping"), ("def (", "SyntaxError")],
)
def test_a_file_of_the_author_that_cannot_be_used(project: Project, text: str, problem: str) -> None:
    (project.folder / "migrations" / "verification.py").write_text(text, encoding="utf-8")
    answer = project.run("test")
    assert answer.code == 2
    assert "T386" in answer.err
    assert problem in answer.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("test", "0009_missing"), 2, "T145"),
        (("test", "--time", "soon"), 2, "'soon' is no time, such as 60s or 2min"),
        (("test", "--examples", "0"), 2, "0 is not in the range"),
        (("test", "--property", "speed"), 2, "'speed' is not one of"),
        (("test", "--before-local", "missing.sql"), 2, "does not exist"),
    ],
)
def test_wrong_words(project: Project, words: tuple[str, ...], code: int, said: str) -> None:
    answer = project.run(*words)
    assert answer.code == code
    assert said in answer.err


@pytest.mark.usefixtures("_small_enough_at_leisure")
def test_the_command_to_run_it_again_has_what_was_given(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.folder)
    schema = "CREATE TABLE people (id INTEGER PRIMARY KEY, mail TEXT NOT NULL)"
    (project.folder / "the schema.sql").write_text(schema, encoding="utf-8")
    given = ("--migrations", "migrations", "--before-local", "the schema.sql", "--enforced")
    answer = project.run("test", *given, "--property", "applies", "--seed", "1", "--examples", "30")
    (again,) = [line.strip() for line in answer.out.splitlines() if line.startswith("  twinstep test")]
    assert shlex.split(again)[2:] == ["0002_small", *given, "--property", "applies", "--seed", "1", "--examples", "30"]
    assert project.run(*shlex.split(again)[1:]).out.splitlines()[:-1] == answer.out.splitlines()[:-1]


def test_no_migration_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = make_project(tmp_path, capsys).run("test")
    assert (answer.code, "T102" in answer.err) == (2, True)


def test_the_names_that_the_command_knows_are_the_properties() -> None:
    assert tuple(each.value for each in Property) == PROPERTIES


# The plugin


@pytest.mark.full
def test_pytest_has_one_test_for_each_migration_and_property(project: Project) -> None:
    words = [
        "--twinstep=migrations/",
        "--twinstep-examples=30",
        "--hypothesis-seed=1",
        "-k",
        "0002_small and (applies or again)",
    ]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *PLUGIN, *words], cwd=project.folder, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "1 failed, 1 passed, 20 deselected" in ended.stdout
    assert "UNIQUE constraint failed: people.mail" in ended.stdout
    assert "Traceback" not in ended.stdout


@pytest.mark.full
def test_the_fixtures_are_a_pair_and_its_coordinator(project: Project) -> None:
    (project.folder / "test_host.py").write_text(
        "def test_it(twinstep_coordinator, twinstep_pair):\n"
        "    assert twinstep_coordinator.migrate().outcome == 'verified'\n"
        "    assert twinstep_pair.remote is None and twinstep_pair.local.exists()\n",
        encoding="utf-8",
    )
    words = [sys.executable, "-m", "pytest", *PLUGIN, "-q", "test_host.py"]
    ended = subprocess.run(words, cwd=project.folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 passed" in ended.stdout


@pytest.mark.full
def test_a_folder_that_cannot_be_read_is_named(project: Project) -> None:
    words = [sys.executable, "-m", "pytest", *PLUGIN, "--twinstep=missing"]
    ended = subprocess.run(words, cwd=project.folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 4
    assert "T101" in ended.stderr


def test_no_server_is_started_for_a_migration_that_does_not_need_one() -> None:
    """Also where others of the folder change the remote."""

    def start() -> str:
        raise AssertionError("a server was started")

    other = Migration(id="0001_other", remote=Side(up="CREATE TABLE t (id int)", down="DROP TABLE t"))
    change = Migration(id="0003_change", local=Side(up="CREATE TABLE u (id INTEGER PRIMARY KEY)"))
    assert verify_migration([other, Migration(id="0002_x", local=BEFORE.local), change], examples=2, server=start).ok
    with pytest.raises(AssertionError, match="started"):
        verify_migration([other], examples=2, server=start)
