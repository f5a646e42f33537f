"""`init` and `new`: what they write is accepted as it is, follows the numbers in use, and never takes another file's place."""

from __future__ import annotations

import re
import sqlite3
import tomllib
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from command_line import Project, make_project

from twinstep.engine import scaffold
from twinstep.engine.cli.beginning import settings_text
from twinstep.engine.cli.configuration import SETTINGS, configure
from twinstep.events.errors import ConfigurationError, DefinitionError
from twinstep.migrations.loader import load_folder
from twinstep.migrations.settings import Settings, read_settings

SECRET = "hidden-word-4711"


@pytest.fixture
def project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Project:
    """A folder with a database, and nothing of Twinstep's."""
    made = make_project(tmp_path, capsys)
    (tmp_path / "migrations").rmdir()
    return made


def entries(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def uncommented(text: str) -> str:
    """The text with every line that is a key, or a table, in a comment made one."""
    return re.sub(r"^# (?=\[|[\w-]+ = )", "", text, flags=re.MULTILINE)


def test_init_writes_settings_and_a_first_migration_and_says_what_to_do_next(project: Project) -> None:
    done = project.run("init")
    assert (done.code, done.err) == (0, "")
    files = [
        "twinstep.toml",
        *(f"migrations/0001_first/{name}" for name in ("local.up.sql", "migration.toml", "remote.up.sql")),
    ]
    assert [line.removeprefix("Wrote ") for line in done.out.splitlines() if line.startswith("Wrote")] == files
    assert all((project.folder / file).is_file() for file in files)
    assert "Next: Name your databases in twinstep.toml.\n" in done.out
    assert "add *.twinstep/ to .gitignore" in done.out


def test_the_way_from_nothing_to_a_verified_migration(project: Project) -> None:
    project.run("init", "--local", "app.db")
    (project.folder / "migrations/0001_first/local.up.sql").write_text("CREATE TABLE first (x);")
    assert project.run("migrate").code == 0
    made = project.run("new", "second", "--json").data
    assert made["migration"] == "0002_second"
    (Path(made["folder"]) / "local.up.sql").write_text("CREATE TABLE second (x);")
    assert project.run("migrate").code == 0
    assert project.tables() == {"notes", "first", "second"}


def test_the_settings_file_is_accepted_as_it_is_and_names_every_key(project: Project) -> None:
    project.run("init")
    text = (project.folder / "twinstep.toml").read_text()
    assert tomllib.loads(text) == {}
    assert configure({}, {}, project.folder) == configure({}, {}, project.folder / "nowhere")
    (project.folder / "twinstep.toml").write_text(uncommented(text))
    assert list(tomllib.loads(uncommented(text))) == list(SETTINGS)
    configured = configure({}, {}, project.folder)
    assert set(configured.sources) == set(SETTINGS)
    assert configured.local == project.folder / "app.db"


def test_what_is_given_with_flags_stands_in_the_settings_file(project: Project) -> None:
    words = ["--local", 'a "b".db', "--migrations", "steps", "--wait", "2.5", "--keep-days", "7", "--remote-role", "skip"]
    remote = f"postgresql://u:{SECRET}@h/db"
    assert project.run("init", *words, "--remote", remote).code == 0
    text = (project.folder / "twinstep.toml").read_text()
    assert tomllib.loads(text) == {
        "local": 'a "b".db',
        "remote": "postgresql://u@h/db",
        "migrations": "steps",
        "remote-role": "skip",
        "wait": 2.5,
        "keep-days": 7,
    }
    assert (project.folder / "steps" / "0001_first").is_dir()
    assert SECRET not in text


def test_a_flag_that_cannot_be_used_is_not_written(project: Project) -> None:
    before = entries(project.folder)
    assert project.run("init", "--wait", "soon").code == 2
    assert entries(project.folder) == before


@pytest.mark.parametrize("there", ["twinstep.toml", "migrations/0007_other/local.up.sql", "migrations"])
def test_init_never_writes_over_what_is_there(project: Project, there: str) -> None:
    path = project.folder / there
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("# mine\n")
    before = entries(project.folder)
    refused = project.run("init", "--json")
    named = path.parent if there.endswith(".sql") else path
    assert (refused.code, refused.data["error"]["code"]) == (2, "T161")
    assert f"{named} is there already" in refused.err
    assert entries(project.folder) == before


def test_init_does_not_hide_settings_that_stand_in_pyproject(project: Project) -> None:
    (project.folder / "pyproject.toml").write_text('[tool.twinstep]\nlocal = "app.db"\n')
    refused = project.run("init")
    assert (refused.code, "T161 [tool.twinstep] in" in refused.err) == (2, True)
    assert not (project.folder / "twinstep.toml").exists()


def test_a_settings_file_that_came_to_be_meanwhile_is_kept_and_nothing_is_left_behind(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What another program may do between the look and the write.
    made = scaffold.make_migration

    def meanwhile(folder: Path, slug: str, now: datetime) -> Path:
        (project.folder / "twinstep.toml").write_text("# theirs\n")
        return made(folder, slug, now)

    monkeypatch.setattr(scaffold, "make_migration", meanwhile)
    assert project.run("init").code == 2
    assert (project.folder / "twinstep.toml").read_text() == "# theirs\n"
    assert sorted(entries(project.folder)) == ["app.db", "twinstep.toml"]


def test_where_nothing_can_be_written_the_file_is_named(project: Project) -> None:
    (project.folder / "blocked").write_text("a file, not a folder")
    refused = project.run("init", "--migrations", "blocked/steps")
    assert (refused.code, "T162" in refused.err) == (2, True)
    assert not (project.folder / "twinstep.toml").exists()


@pytest.mark.parametrize(
    ("there", "made"),
    [
        ([], r"0001_add_tags"),
        (["0001_a", "0009_b"], r"0010_add_tags"),
        (["1_a", "9_b"], r"10_add_tags"),
        (["007_a"], r"008_add_tags"),
        (["9999_a"], r"10000_add_tags"),
        (["00000000000007_a"], r"00000000000008_add_tags"),
        (["20240101120000_a"], r"20[0-9]{12}_add_tags"),
        (["202401011200_a"], r"20[0-9]{10}_add_tags"),
        (["29990101120000_a"], r"29990101120001_add_tags"),
        (["0003_a", ".0044_hidden", "notes"], r"0004_add_tags"),
    ],
)
def test_the_number_follows_the_ones_in_use(project: Project, there: list[str], made: str) -> None:
    migrations = project.folder / "migrations"
    for name in there:
        (migrations / name).mkdir(parents=True)
    migrations.mkdir(exist_ok=True)
    (migrations / "0099_a_file").write_text("")
    assert project.run("new", "Add tags").code == 0
    (found,) = {path.name for path in migrations.iterdir() if path.is_dir()} - set(there)
    assert re.fullmatch(made, found)


def test_a_number_that_is_a_time_is_the_time_now() -> None:
    now = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert scaffold.next_number(["20260101120000", "20250101120000"], now) == "20260203040506"
    assert scaffold.next_number(["202601011200"], now) == "202602030405"
    # No month 13: digits, and no time.
    assert scaffold.next_number(["20261301120000"], now) == "20261301120001"


@pytest.mark.parametrize(
    ("slug", "name"),
    [
        ("add_tags", "add_tags"),
        ("Add  Tags!", "add_tags"),
        ("../../etc/passwd", "etc_passwd"),
        ("Größe", "grosse"),
        ("--x", "x"),
        ("a" * 300, "a" * 100),
    ],
)
def test_a_slug_becomes_a_name_that_every_file_system_takes(project: Project, slug: str, name: str) -> None:
    (project.folder / "migrations").mkdir()
    assert project.run("new", "--json", "--", slug).data["migration"] == f"0001_{name}"


@pytest.mark.parametrize("slug", ["", "  ", "...", "日本"])
def test_a_slug_that_gives_no_name_is_refused(project: Project, slug: str) -> None:
    (project.folder / "migrations").mkdir()
    refused = project.run("new", slug)
    assert (refused.code, refused.err[:4]) == (2, "T160")
    assert list((project.folder / "migrations").iterdir()) == []


def test_a_folder_that_is_not_there_is_not_made_by_new(project: Project) -> None:
    refused = project.run("new", "tags", "--migrations", "migratoins")
    assert (refused.code, refused.err[:4]) == (2, "T101")
    assert "'twinstep init'" in refused.err
    assert sorted(entries(project.folder)) == ["app.db"]


def test_a_template_that_nobody_filled_in_is_refused_by_name(project: Project) -> None:
    project.run("init", "--local", "app.db")
    for command in ("migrate", "plan", "check"):
        refused = project.run(command)
        assert (refused.code, refused.err[:4], "0001_first" in refused.err) == (2, "T105", True)
        assert "comments alone do nothing" in refused.err
    assert project.tables() == {"notes"}


def test_a_template_with_a_remote_text_and_no_way_back_is_refused(project: Project, remote_url: str) -> None:
    # The template has no down files on purpose: an empty one would say that nothing needs to be undone.
    project.run("init", "--local", "app.db", "--remote", remote_url)
    (project.folder / "migrations/0001_first/remote.up.sql").write_text("CREATE TABLE first (x int);")
    refused = project.run("migrate")
    assert (refused.code, refused.err[:4]) == (2, "T117")


def test_the_template_knows_every_key_of_a_migration_and_shows_the_defaults() -> None:
    text = scaffold.template_texts("0001_first")["migration.toml"]
    assert read_settings(text, Path("migration.toml")) == Settings()
    with_keys = read_settings(uncommented(text), Path("migration.toml"))
    assert (with_keys.local_options.user_version_to, len(with_keys.queries)) == (2, 1)
    plain = Settings()
    assert (with_keys.load_timeout_seconds, with_keys.remote_options) == (plain.load_timeout_seconds, plain.remote_options)
    assert (with_keys.rehearsal_budget_seconds, with_keys.expect) == (plain.rehearsal_budget_seconds, plain.expect)


def test_the_sql_that_the_template_shows_runs(project: Project, remote_url: str) -> None:
    project.run("init", "--local", "app.db", "--remote", remote_url)
    with closing(sqlite3.connect(project.local)) as local:
        local.execute("PRAGMA user_version = 1")
    folder = project.folder / "migrations" / "0001_first"
    make = "CREATE TABLE notes (id bigint PRIMARY KEY);"
    for side in ("local", "remote"):
        shown = re.findall(r"^--     (.+)$", (folder / f"{side}.up.sql").read_text(), re.MULTILINE)
        down = [line for line in shown if line.startswith(("DROP", "ALTER TABLE notes DROP"))]
        up = [line for line in shown if line not in down]
        assert (bool(up), bool(down)) == (True, True)
        (folder / f"{side}.up.sql").write_text("\n".join([make] * (side == "remote") + up))
        (folder / f"{side}.down.sql").write_text("\n".join(down + ["DROP TABLE notes;"] * (side == "remote")))
    assert project.run("migrate").code == 0
    assert project.run("rollback").code == 0


def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        """The process is gone."""

    def killed(self: Path, target: Path) -> Path:
        raise Killed

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(Killed):
        scaffold.make_migration(tmp_path, "one", datetime.now(UTC))
    monkeypatch.undo()
    # Were even the tidying up cut off, what is left has a name that the loader does not look at.
    (tmp_path / ".0001_one.abcd").mkdir()
    with pytest.raises(DefinitionError, match="T102"):
        load_folder(tmp_path)
    assert scaffold.make_migration(tmp_path, "one", datetime.now(UTC)).name == "0001_one"


def test_two_calls_at_once_get_two_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def beaten(self: Path, target: Path) -> Path:
        monkeypatch.undo()
        scaffold.make_migration(tmp_path, "one", datetime.now(UTC))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", beaten)
    made = scaffold.make_migration(tmp_path, "one", datetime.now(UTC))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0001_one", "0002_one"]
    assert made.name == "0002_one"


def test_a_value_with_every_kind_of_character_arrives(tmp_path: Path) -> None:
    from twinstep.engine.cli.beginning import toml_text

    value = "a\"b\\c\n\t\x7f\x01é日😀'#"
    assert tomllib.loads(settings_text({"local": toml_text(value)}))["local"] == value


def test_errors_of_the_file_system_are_ours(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="T162"):
        scaffold.make_migration(tmp_path / ("x" * 300), "one", datetime.now(UTC))
