"""The documentation holds: its examples run, its links lead somewhere, and what it lists is what the code has.

An example is a fenced block below a line that names its file, such as `migrations/0001_states/local.up.sql` or
`before/local.sql` (what the application's databases hold before). A block marked `python runnable` is run where those files
lie; a `text` block after "It prints:" is what it must print. Addresses that stand for the reader's are replaced by real ones.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import importlib
import importlib.util
import io
import pkgutil
import re
import shutil
import sqlite3
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import psycopg
import pytest
from documents import DOCUMENTS, ROOT, examples, shown_files, write

import twinstep
from twinstep import Coordinator
from twinstep.engine.report import Report
from twinstep.events import lifecycle
from twinstep.events.codec import EVENT_TYPES
from twinstep.events.messages import MESSAGES
from twinstep.events.projections import ROW_TYPES, columns_of
from twinstep.migrations import settings as settings_module
from twinstep.migrations.ledger import COLUMNS
from twinstep.migrations.settings import Settings, read_settings

IDS = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
LINK = re.compile(r"\[[^\]]+\]\((?P<target>[^)\s]+)\)")
REMOTE = "postgresql://app@db.example/notes"


WITH_FOLDERS = [path for path in DOCUMENTS if any(name.startswith("migrations/") for name in shown_files(path))]
RUNNABLE = [(path, number) for path in DOCUMENTS for number, each in enumerate(examples(path)) if "runnable" in each.info]


def built(document: Path, folder: Path, remote_url: str) -> None:
    """Make the databases and the folder of migrations that a document shows."""
    files = shown_files(document)
    with contextlib.closing(sqlite3.connect(folder / "notes.db")) as local:
        local.executescript(files["before/local.sql"])
    with psycopg.connect(remote_url, autocommit=True) as remote:
        remote.execute(files["before/remote.sql"].encode())
    write(files, folder, below="migrations/")


def local_schema(folder: Path) -> list[tuple[str, ...]]:
    """Without our own table, and without the quotes that SQLite itself puts around a name when it renames a table."""
    with contextlib.closing(sqlite3.connect(folder / "notes.db")) as local:
        query = "SELECT name, replace(sql, '\"', '') FROM sqlite_schema WHERE tbl_name <> 'twinstep_ledger' ORDER BY name"
        return local.execute(query).fetchall()


def remote_schema(url: str) -> list[tuple[str, ...]]:
    with psycopg.connect(url) as remote:
        columns = "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'"
        indexes = "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
        return sorted(remote.execute(f"{columns} UNION ALL {indexes}".encode()).fetchall())


def coordinator(folder: Path, remote_url: str) -> Coordinator:
    return Coordinator(local=folder / "notes.db", remote=remote_url, migrations=folder / "migrations", retry_for_seconds=2)


def succeeded(report: Report) -> Report:
    assert report.exit_code == 0, report.error or [run.error for run in report.runs]
    return report


@pytest.mark.parametrize("document", WITH_FOLDERS, ids=lambda path: path.name)
def test_the_folders_in_the_documentation_go_up_and_back_and_up_again(document: Path, tmp_path: Path, remote_url: str) -> None:
    built(document, tmp_path, remote_url)
    before = local_schema(tmp_path), remote_schema(remote_url)
    shown = {Path(name).parts[1] for name in shown_files(document) if name.startswith("migrations/")}
    with coordinator(tmp_path, remote_url) as databases:
        report = succeeded(databases.migrate())
        assert {run.migration for run in report.runs if run.state == "verified"} == shown
        applied = local_schema(tmp_path), remote_schema(remote_url)
        assert applied != before
        succeeded(databases.roll_back(min(shown)))
        assert (local_schema(tmp_path), remote_schema(remote_url)) == before
        succeeded(databases.migrate())
        assert [name for name, _ in local_schema(tmp_path)] == [name for name, _ in applied[0]]
        assert remote_schema(remote_url) == applied[1]


@pytest.mark.parametrize(("document", "number"), RUNNABLE, ids=lambda part: part.name if isinstance(part, Path) else str(part))
def test_the_python_in_the_documentation_runs_and_prints_what_it_says(
    document: Path, number: int, tmp_path: Path, remote_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if document in WITH_FOLDERS:
        built(document, tmp_path, remote_url)
    monkeypatch.chdir(tmp_path)
    example = examples(document)[number]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(example.body.replace(REMOTE, remote_url), str(document), "exec"), {"__name__": "example"})
    assert printed.getvalue() == (example.prints or "")


def test_there_are_folders_and_python_to_run() -> None:
    names = ["README.md", "backups.md", "dry-run.md", "hosts.md", "writing-migrations.md"]
    assert [path.name for path in WITH_FOLDERS] == names
    assert len(RUNNABLE) >= 3


# What the README and docs/recovery.md say about trouble, on the README's own example


@pytest.fixture
def example(tmp_path: Path, remote_url: str) -> Path:
    built(ROOT / "README.md", tmp_path, remote_url)
    return tmp_path


FILES = Path("migrations") / "0001_pinned"


def test_what_the_remote_refuses_is_taken_back_on_both_sides(example: Path, remote_url: str) -> None:
    up = example / FILES / "remote.up.sql"
    up.write_text(up.read_text(encoding="utf-8") + "ALTER TABLE missing ADD COLUMN pinned boolean;\n", encoding="utf-8")
    # The last group needs a down of its own.
    down = example / FILES / "remote.down.sql"
    down.write_text("-- twinstep: group\n" + down.read_text(encoding="utf-8"), encoding="utf-8")
    before = local_schema(example), remote_schema(remote_url)
    report = coordinator(example, remote_url).migrate()
    assert (report.outcome, report.exit_code) == ("rolled_back", 1)
    assert [step.effect for step in report.runs[0].steps][-3:] == ["UNDO_REMOTE", "UNDO_LOCAL", "COMPARE"]
    assert (local_schema(example), remote_schema(remote_url)) == before


class Crash(BaseException):
    """The process is gone; nothing may catch it."""


def crash(crossing: str) -> None:
    if crossing == "APPLY_LOCAL:performed":
        raise Crash


def test_a_run_in_flight_is_finished_by_the_statements_it_began_with(example: Path, remote_url: str) -> None:
    pair = coordinator(example, remote_url)
    dying = Coordinator(local=example / "notes.db", remote=remote_url, migrations=example / "migrations", probe=crash)
    with pytest.raises(Crash):
        dying.migrate()
    flying = pair.status().in_flight
    assert flying is not None
    assert flying.state == "backed_up"
    (example / FILES / "remote.up.sql").write_text("ALTER TABLE notes ADD COLUMN other text;\n", encoding="utf-8")
    assert succeeded(pair.resume()).outcome == "verified"
    columns = {name for _, name, _ in remote_schema(remote_url)}
    assert "pinned" in columns
    assert "other" not in columns


def blocked(example: Path, remote_url: str, code: str) -> None:
    before = local_schema(example), remote_schema(remote_url)
    report = coordinator(example, remote_url).migrate()
    assert (report.outcome, report.exit_code, report.error and report.error.code) == ("blocked", 5, code)
    assert (local_schema(example), remote_schema(remote_url)) == before


def test_a_lost_log_blocks(example: Path, remote_url: str) -> None:
    succeeded(coordinator(example, remote_url).migrate())
    shutil.rmtree(example / "notes.db.twinstep")
    blocked(example, remote_url, "T251")


def test_an_older_local_file_blocks(example: Path, remote_url: str) -> None:
    shutil.copy(example / "notes.db", example / "older.db")
    succeeded(coordinator(example, remote_url).migrate())
    shutil.copy(example / "older.db", example / "notes.db")
    blocked(example, remote_url, "T253")


def test_an_edited_migration_blocks(example: Path, remote_url: str) -> None:
    succeeded(coordinator(example, remote_url).migrate())
    (example / FILES / "local.up.sql").write_text("ALTER TABLE notes ADD COLUMN other TEXT;\n", encoding="utf-8")
    blocked(example, remote_url, "T255")


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_docs", ROOT / "tools" / "write_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


write_docs = load_tool()


@pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)
def test_what_is_generated_is_what_the_code_says(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert write_docs.render(text) == text, "run: make docs"


def test_every_generated_block_is_in_one_document() -> None:
    found = [block["name"] for path in DOCUMENTS for block in write_docs.BLOCK.finditer(path.read_text(encoding="utf-8"))]
    assert sorted(found) == sorted(write_docs.BLOCKS)


def test_a_block_that_is_out_of_date_is_found() -> None:
    text = "before\n<!-- generated: exit codes -->\n| 7 | luck |\n<!-- end -->\nafter\n"
    rendered = write_docs.render(text)
    assert "luck" not in rendered
    assert rendered.startswith("before\n")
    assert rendered.endswith("<!-- end -->\nafter\n")


def test_the_diagram_leads_through_every_state() -> None:
    diagram = write_docs.lifecycle_diagram()
    for state in lifecycle.State:
        assert re.search(rf"^    {state} --> ", diagram, re.MULTILINE), state
        assert re.search(rf"--> {state}\b", diagram), state


@pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)
def test_links_lead_to_files_and_headings_that_are_there(document: Path) -> None:
    for found in LINK.finditer(document.read_text(encoding="utf-8")):
        target, _, anchor = found["target"].partition("#")
        if "://" in target:
            continue
        file = (document.parent / target).resolve() if target else document
        assert file.exists(), found[0]
        assert not anchor or anchor in anchors(file), found[0]


def anchors(file: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)
def test_codes_files_and_tests_that_are_named_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert set(re.findall(r"\bT\d{3}\b", text)) <= MESSAGES.keys()
    for name in re.findall(r"`((?:events|stores|migrations|engine|tests|tools|docs)/[\w/.]+\.\w+)`", text):
        assert name in shown_files(document) or (ROOT / name).exists(), name
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    for name in re.findall(r"`(test_[a-z0-9_]+)`", text):
        assert f"def {name}(" in tests, name


def test_every_document_is_in_the_table_of_contents() -> None:
    listed = set(LINK.findall((ROOT / "docs" / "index.md").read_text(encoding="utf-8")))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"} <= listed


# What is written by hand and must agree with the code


def first_cells(text: str) -> list[str]:
    """The first cell of each row of the tables in a text, without its code marks; not the headings."""
    cells = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    assert cells
    return cells


def section(document: Path, name: str) -> str:
    found = re.search(rf"<!-- {re.escape(name)} -->(.*?)<!-- end -->", document.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None, name
    return found[1]


@pytest.mark.parametrize("table", ROW_TYPES)
def test_the_read_tables_are_described_column_by_column(table: str) -> None:
    assert tuple(first_cells(section(ROOT / "docs" / "log.md", table))) == columns_of(table)


def test_the_ledger_is_described_column_by_column() -> None:
    assert tuple(first_cells(section(ROOT / "docs" / "log.md", "ledger"))) == COLUMNS


def test_every_type_is_written_by_something() -> None:
    written = {
        node.func.attr
        for path in (ROOT / "engine").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name)
    }
    assert EVENT_TYPES.keys() <= written


def test_every_state_is_described() -> None:
    assert first_cells(section(ROOT / "docs" / "lifecycle.md", "states")) == [str(state) for state in lifecycle.State]


# How migrations/settings.py calls the tables of a migration.toml, and where their keys stand.
READERS = {
    "top": "",
    "local": "local.",
    "version": "local.user_version.",
    "remote": "remote.",
    "rehearsal": "rehearsal.",
    "expect": "expect.",
    "reader": "query.",
}


def test_every_key_of_the_settings_is_described() -> None:
    assert set(first_cells(section(WRITING, "keys"))) == keys_that_are_read()


WRITING = ROOT / "docs" / "writing-migrations.md"


def keys_that_are_read() -> set[str]:
    """The keys that the code asks for by name, apart from those that hold a whole table."""
    found = set()
    for node in ast.walk(ast.parse(Path(settings_module.__file__).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("get", "need"):
            (owner, (key, *_)) = node.func.value, node.args
            if isinstance(owner, ast.Name) and isinstance(key, ast.Constant):
                found.add(READERS[owner.id] + str(key.value))
    return found


def test_the_defaults_in_the_documentation_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| `([^`]+)` \|", section(WRITING, "keys"), re.MULTILINE)
    text = "".join(f"{key} = {value}\n" for key, value in rows if not key.startswith("query."))
    assert read_settings(text, Path("migration.toml")) == Settings()
    assert len(tomllib.loads(text)) > 3


# The command


def leaves(name: str, command: object) -> set[str]:
    """A command, and the commands below it; one that only groups others does nothing by itself."""
    below = getattr(command, "commands", {})
    own = {name} if not below or getattr(command, "invoke_without_command", False) else set()
    return own.union(*(leaves(f"{name} {each}", one) for each, one in below.items()))


def existing_commands() -> set[str]:
    from twinstep.engine.cli.app import APP

    return set().union(*(leaves(name, command) for name, command in APP.commands.items()))


def test_the_readme_lists_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `twinstep ([a-z ]+)` \|", text, re.MULTILINE)
    assert sorted(listed) == sorted(existing_commands())


def test_what_a_message_tells_to_run_exists_or_is_listed_as_missing() -> None:
    missing = re.findall(r"`([a-z-]+(?: [a-z-]+)*)`", section(ROOT / "README.md", "missing"))
    assert "lint" in missing
    told = {
        command
        for message in MESSAGES.values()
        for command in re.findall(r"'twinstep ([a-z][^']*)'", f"{message.effect} {message.next_step}")
    }
    assert told
    for command in told:
        words = [word for word in command.split() if word.islower() and not word.startswith("-")]
        known = any(" ".join(words[:length]) in existing_commands() for length in (1, 2))
        flags = [word.removeprefix("--") for word in command.split() if word.startswith("--")]
        assert known or " ".join(words) in missing, command
        assert all(flag in missing or flag in known_flags() for flag in flags), command


def groups_and_commands(name: str, command: object) -> list[str]:
    below = getattr(command, "commands", {})
    return [name, *(found for each, one in below.items() for found in groups_and_commands(f"{name} {each}".strip(), one))]


def test_the_help_in_the_documentation_is_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    from twinstep.engine.cli.app import APP, run

    text = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```text\n\$ twinstep([a-z ]*) --help\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert [name.strip() for name, _ in shown] == groups_and_commands("", APP)
    for name, body in shown:
        assert run([*name.split(), "--help"], environ={}, folder=ROOT) == 0
        assert capsys.readouterr().out == body, name


def known_flags() -> set[str]:
    from twinstep.engine.cli.app import APP

    commands = [APP, *APP.commands.values()]
    return {name.removeprefix("--") for command in commands for option in command.params for name in option.opts}


def test_the_settings_file_in_the_documentation_is_accepted(tmp_path: Path) -> None:
    from twinstep.engine.cli.configuration import configure

    (tmp_path / "twinstep.toml").write_text(shown_files(ROOT / "docs" / "settings.md")["twinstep.toml"], encoding="utf-8")
    (tmp_path / "below").mkdir()
    configured = configure({}, {}, tmp_path / "below")
    assert (configured.local, configured.remote, configured.wait_seconds) == (tmp_path / "notes.db", REMOTE, 10)


# The docstrings


def test_the_examples_in_the_docstrings_are_true() -> None:
    failed, tried = [], 0
    for found in pkgutil.walk_packages(twinstep.__path__, "twinstep."):
        if found.name == "twinstep.__main__":
            continue
        result = doctest.testmod(importlib.import_module(found.name))
        tried += result.attempted
        failed += [found.name] * bool(result.failed)
    assert failed == []
    assert tried >= 10


def test_the_documentation_is_about_this_package() -> None:
    assert "twinstep" in sys.modules
    for name in twinstep.__all__:
        assert getattr(twinstep, name).__doc__, name
