"""What is applied and unchanged is neither parsed nor loaded again; everything else is compiled before anything is touched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Project, make_project

from twinstep.engine.coordinator import Coordinator
from twinstep.migrations.definition import Migration, Side

# Says, at each loading, that it was loaded.
LOADED = """
from pathlib import Path

with (Path(__file__).parent.parent.parent / "loaded").open("a") as file:
    file.write("x")


def local_up(connection):
    connection.exec_driver_sql("CREATE TABLE made (x)")


def local_down(connection):
    connection.exec_driver_sql("DROP TABLE made")
"""


@pytest.fixture
def project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Project:
    return make_project(tmp_path, capsys)


def loaded(project: Project) -> int:
    file = project.folder / "loaded"
    return len(file.read_text()) if file.exists() else 0


def test_what_is_applied_and_unchanged_is_not_loaded_again(project: Project) -> None:
    project.add("0001_made", {"migration.py": LOADED})
    assert project.run("migrate", "--local", "app.db").code == 0
    before = loaded(project)
    assert project.run("check", "--local", "app.db").code == 0
    assert project.run("status", "--local", "app.db").code == 0
    assert project.run("migrate", "--local", "app.db").code == 0
    assert loaded(project) == before
    assert project.run("rollback", "--local", "app.db").code == 0
    assert loaded(project) == before + 1
    assert "made" not in project.tables()


def test_what_was_baselined_is_not_loaded_again_either(project: Project) -> None:
    says = "from pathlib import Path\nwith (Path(__file__).parents[2] / 'loaded').open('a') as file:\n    file.write('x')\n"
    table = "CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT);"
    project.add("0001_made", {"local.up.sql": table, "migration.py": says})
    assert project.run("baseline", "0001_made", "--local", "app.db").code == 0
    before = loaded(project)
    assert project.run("check", "--local", "app.db").code == 0
    assert loaded(project) == before


def test_an_edit_of_what_is_applied_is_noticed_and_a_comment_is_none(project: Project) -> None:
    project.add("0001_tags")
    project.run("migrate", "--local", "app.db")
    text = project.folder / "migrations" / "0001_tags" / "local.up.sql"
    text.write_text("-- a comment\n" + text.read_text())
    assert project.run("check", "--local", "app.db").code == 0
    text.write_text("CREATE TABLE tags (name TEXT, colour TEXT);")
    answer = project.run("migrate", "--local", "app.db")
    assert (answer.code, "T255" in answer.err) == (5, True)


def test_what_was_taken_back_is_compiled_before_anything_is_touched(project: Project) -> None:
    project.add("0001_tags")
    project.add("0002_more", {"local.up.sql": "CREATE TABLE more (x);", "local.down.sql": "DROP TABLE more;"})
    project.run("migrate", "--local", "app.db")
    project.run("rollback", "0001_tags", "--local", "app.db")
    (project.folder / "migrations" / "0002_more" / "local.up.sql").write_text("CREATE TABLE more (x); COMMIT;")
    assert project.run("migrate", "--local", "app.db").code == 2
    assert project.tables() == {"notes"}


def test_a_function_that_cannot_be_loaded_any_more_is_refused_before_the_first_of_a_batch_is_run(project: Project) -> None:
    project.add("0001_tags")
    project.add(
        "0002_made",
        {"migration.py": f"{LOADED}\nassert not Path('gone').exists(), 'gone'\n".replace("'gone')", "__file__ + '.gone')", 1)},
    )
    project.run("migrate", "--local", "app.db")
    project.run("rollback", "0001_tags", "--local", "app.db")
    (project.folder / "migrations" / "0002_made" / "migration.py.gone").touch()
    answer = project.run("migrate", "--local", "app.db")
    assert (answer.code, "T107" in answer.err) == (2, True)
    assert project.tables() == {"notes"}


def test_one_that_is_still_being_written_keeps_nothing_from_being_verified_and_taken_back(project: Project) -> None:
    project.add("0001_tags")
    project.run("migrate", "--local", "app.db")
    project.run("new", "later")
    assert project.run("migrate", "--local", "app.db").code == 2
    assert project.run("verify", "--local", "app.db").code == 0
    assert project.run("history", "--local", "app.db").code == 0
    assert project.run("rollback", "--local", "app.db").code == 0
    assert project.tables() == {"notes"}


def test_migrations_given_as_values_are_recognised_too(project: Project) -> None:
    given = [Migration(id="1_tags", local=Side(up="CREATE TABLE tags (x)", down="DROP TABLE tags"))]
    coordinator = Coordinator(local=project.local, migrations=given)
    assert coordinator.migrate().outcome == "verified"
    assert not coordinator.needs_migration()
    changed = [Migration(id="1_tags", local=Side(up="CREATE TABLE tags (y)", down="DROP TABLE tags"))]
    assert Coordinator(local=project.local, migrations=changed).migrate().exit_code == 5
    assert coordinator.roll_back().outcome == "rolled_back"


def test_asking_whether_anything_is_pending_loads_no_parser(project: Project) -> None:
    project.add("0001_tags")
    project.run("migrate", "--local", "app.db")
    program = (
        "import sys\nfrom pathlib import Path\nfrom twinstep.engine.cli.app import run\n"
        f"code = run(['check', '--local', 'app.db'], environ={{}}, folder=Path({str(project.folder)!r}))\n"
        "heavy = {'sqlglot', 'sqlalchemy', 'psycopg', 'rich', 'transitions', 'tenacity'} & set(sys.modules)\n"
        "print(code, sorted(heavy))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=project.folder, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []", done
