"""A folder becomes migrations, or is refused by name, with nothing run and nothing left behind."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from twinstep.events.errors import DefinitionError
from twinstep.migrations.checksums import checksum
from twinstep.migrations.definition import FileFunction, Query
from twinstep.migrations.loader import load_folder
from twinstep.migrations.script import compile_side

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from twinstep.migrations.definition import Migration

CONTRACT = """
description = "Foreign keys and performance indexes"
irreversible = false
load_timeout = "10s"

[local]
user_version = { from = [11], to = 12 }
pending = "SELECT count(*) FROM pending_ops"
timeout = "15min"

[remote]
lock_timeout = "500ms"
statement_timeout = "1.5h"
schemas = ["public", "notes"]

[rehearsal]
budget = "3 s"

[expect]
rows_removed = ["note_tags"]
columns_changed = ["notes.title"]

[[query]]
name = "main list"
side = "local"
sql = "SELECT 1 LIMIT 50"
uses_index = "idx_local_notes_pinned_updated"
fail_on_slowdown = true

[[query]]
name = "other"
side = "remote"
sql = "SELECT 2"
"""


def write(root: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def load_one(root: Path, files: Mapping[str, str | bytes]) -> Migration:
    (found,) = load_folder(write(root, {f"0001_a/{name}": content for name, content in files.items()}))
    return found


def refused(root: Path, files: Mapping[str, str | bytes]) -> DefinitionError:
    write(root, files)
    with pytest.raises(DefinitionError) as caught:
        load_folder(root)
    return caught.value


# The folder


def test_migrations_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = ("10_b", "0009_c", "20260101120000_a", "0011_d")
    found = load_folder(write(tmp_path, {f"{name}/local.up.sql": "SELECT 1" for name in names}))
    assert [migration.id for migration in found] == ["0009_c", "10_b", "0011_d", "20260101120000_a"]


def test_the_texts_are_kept_as_they_lie_in_the_files(tmp_path: Path) -> None:
    text = "\ufeffSELECT 'é';\r\n-- a\r\n"
    found = load_one(tmp_path, {"local.up.sql": text, "remote.up.sql": "SELECT 2", "remote.down.sql": "SELECT 3"})
    assert found.local is not None
    assert found.remote is not None
    assert (found.local.up, found.local.down) == ((text,), None)
    assert (found.remote.up, found.remote.down) == (("SELECT 2",), ("SELECT 3",))
    assert checksum(found.local.up, "local") == checksum(["SELECT 'é';"], "local")


def test_what_is_beside_the_migrations_is_left_alone(tmp_path: Path) -> None:
    files = {"0001_a/local.up.sql": "SELECT 1", "README.md": "", ".git/config": "", "__pycache__/a.pyc": "", "0001_b.sql": ""}
    assert len(load_folder(write(tmp_path, files))) == 1
    assert load_one(tmp_path, {"README.md": "", ".local.up.sql.swp": "", "seed.csv": "", "notes.txt": ""}).remote is None


def test_a_side_of_comments_only_is_not_touched(tmp_path: Path) -> None:
    found = load_one(tmp_path, {"local.up.sql": "SELECT 1", "remote.up.sql": "-- later\n", "remote.down.sql": "/* later */"})
    assert found.remote is None


def test_an_empty_down_is_kept_as_a_down(tmp_path: Path) -> None:
    found = load_one(tmp_path, {"remote.up.sql": "SELECT 1", "remote.down.sql": ""})
    assert found.remote is not None
    assert found.remote.down == ("",)
    compiled = compile_side(found, "remote")
    assert compiled is not None
    assert compiled.script.units[0].down == ()


@pytest.mark.parametrize(
    ("files", "code", "named"),
    [
        ({"README.md": ""}, "T102", ""),
        ({"1_a/local.up.sql": "SELECT 1", "0001_b/local.up.sql": "SELECT 1"}, "T103", "0001_b"),
        ({"first/local.up.sql": "SELECT 1"}, "T104", "first"),
        ({"0001/local.up.sql": "SELECT 1"}, "T104", "0001"),
        ({"0001_a/README.md": ""}, "T105", "0001_a"),
        ({"0001_a/local.up.sql": "-- nothing", "0001_a/remote.up.sql": "  "}, "T105", "0001_a"),
        ({"0001_a/local.up.sql": b"SELECT '\xff'"}, "T108", "byte 8"),
        ({"0001_a/local.up.sql/x": ""}, "T108", "local.up.sql"),
        ({"0001_a/local.up.sql": "SELECT 1", "0001_a/remote_up.sql": "SELECT 1"}, "T109", "remote_up.sql"),
        ({"0001_a/Local.up.sql": "SELECT 1"}, "T109", "Local.up.sql"),
        ({"0001_a/local.up.sql": "SELECT 1", "0001_a/migrations.toml": ""}, "T109", "migrations.toml"),
        ({"0001_a/local.up.sql": "SELECT 1", "0001_a/remote.down.sql": "SELECT 1"}, "T123", "remote"),
        ({"0001_a/local.up.sql": "SELECT 1", "0001_a/migration.py": "def check_remote(c): ..."}, "T123", "check_remote"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_by_name(
    tmp_path: Path, files: Mapping[str, str | bytes], code: str, named: str
) -> None:
    error = refused(tmp_path, files)
    assert error.code == code
    assert named in error.condition


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(DefinitionError) as caught:
            load_folder(path)
        assert caught.value.code == "T101"


# migration.toml


def test_every_key_of_the_settings_arrives(tmp_path: Path) -> None:
    found = load_one(tmp_path, {"local.up.sql": "SELECT 1", "migration.toml": "\ufeff" + CONTRACT.replace("\n", "\r\n")})
    assert (found.description, found.irreversible) == ("Foreign keys and performance indexes", False)
    local, remote = found.local_options, found.remote_options
    assert (local.user_version_from, local.user_version_to) == ((11,), 12)
    assert (local.pending, local.timeout_seconds) == ("SELECT count(*) FROM pending_ops", 900)
    assert (remote.lock_timeout_seconds, remote.statement_timeout_seconds) == (0.5, 5400)
    assert remote.schemas == ("public", "notes")
    assert (found.load_timeout_seconds, found.rehearsal_budget_seconds) == (10, 3)
    assert (found.expect.rows_removed, found.expect.columns_changed) == (("note_tags",), ("notes.title",))
    assert found.queries == (
        Query(
            name="main list",
            side="local",
            sql="SELECT 1 LIMIT 50",
            uses_index="idx_local_notes_pinned_updated",
            fail_on_slowdown=True,
        ),
        Query(name="other", side="remote", sql="SELECT 2"),
    )


@pytest.mark.parametrize("text", ["", "# nothing\n", "[local]\n[remote]\n"])
def test_settings_that_say_nothing_are_the_same_as_none(tmp_path: Path, text: str) -> None:
    without = load_one(tmp_path / "a", {"local.up.sql": "SELECT 1"})
    assert load_one(tmp_path / "b", {"local.up.sql": "SELECT 1", "migration.toml": text}) == without


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("irreversable = true", "irreversable"),
        ("[locale]\n", "locale"),
        ("[local]\nlock_timeout = '5s'", "local.lock_timeout"),
        ("[local.user_version]\nform = [1]", "local.user_version.form"),
        ("[expect]\nrows = []", "expect.rows"),
        ("[[query]]\nname = 'a'\nside = 'local'\nsql = 'b'\nindex = 'c'", "query[1].index"),
        ("[[query]]\nname = 'a'\nside = 'local'", "query[1].sql"),
        ("[[query]]\nname = 'a'\nside = 'both'\nsql = 'b'", "query[1].side"),
        ("[[query]]\nname='a'\nside='local'\nsql='b'\n[[query]]\nname='a'\nside='local'\nsql='b'", "query"),
        ("query = 'SELECT 1'", "query"),
        ("irreversible = 1", "irreversible"),
        ("irreversible = 'no'", "irreversible"),
        ("description = 3", "description"),
        ("local = 3", "local"),
        ("load_timeout = 10", "load_timeout"),
        ("load_timeout = '10'", "load_timeout"),
        ("load_timeout = '0s'", "load_timeout"),
        ("load_timeout = '-1s'", "load_timeout"),
        ("load_timeout = '10 seconds'", "load_timeout"),
        ("[local]\nuser_version = { from = 11 }", "local.user_version.from"),
        ("[local]\nuser_version = { from = [] }", "local.user_version.from"),
        ("[local]\nuser_version = { to = true }", "local.user_version.to"),
        ("[local]\nuser_version = { to = 4294967296 }", "local.user_version.to"),
        ("[local]\npending = ''", "local.pending"),
        ("[remote]\nschemas = 'public'", "remote.schemas"),
        ("[remote]\nschemas = []", "remote.schemas"),
        ("[expect]\ncolumns_changed = ['title']", "expect.columns_changed"),
    ],
)
def test_a_key_that_is_unknown_or_of_the_wrong_kind_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    error = refused(tmp_path, {"0001_a/local.up.sql": "SELECT 1", "0001_a/migration.toml": text})
    assert error.code == "T106"
    assert named in error.condition
    assert "migration.toml" in error.condition


# migration.py


FUNCTIONS = """
from __future__ import annotations

import dataclasses
import attrs


@dataclasses.dataclass
class Plain:
    a: int = 1


@attrs.frozen
class Row:
    a: int = attrs.field(default=2)


def helper(connection):
    return connection.append(Row().a + Plain().a)


def local_up(connection):
    return helper(connection)


def local_down(connection): connection.pop()
def remote_up(connection): connection.append(1)
def remote_down(connection): connection.pop()
def check_local(connection): return "local"
def check_remote(connection): return "remote"
def probe_built(connection): return True
"""


def test_functions_are_found_by_name_and_run_after_the_text_of_their_direction(tmp_path: Path) -> None:
    texts = {"local.up.sql": "SELECT 1", "local.down.sql": "SELECT 2"}
    found = load_one(tmp_path, {**texts, "migration.py": FUNCTIONS})
    assert found.local is not None
    assert found.remote is not None
    assert [step if isinstance(step, str) else getattr(step, "name", "") for step in found.local.up] == ["SELECT 1", "local_up"]
    assert [getattr(step, "name", step) for step in found.local.down or ()] == ["SELECT 2", "local_down"]
    assert [getattr(step, "name", step) for step in found.remote.up] == ["remote_up"]
    assert [getattr(step, "name", step) for step in found.remote.down or ()] == ["remote_down"]
    assert (list(found.local.probes), list(found.remote.probes)) == ([], ["probe_built"])
    checks = (found.local.check, found.remote.check)
    assert [check.name if isinstance(check, FileFunction) else "" for check in checks] == ["check_local", "check_remote"]


def test_a_loaded_function_works_after_its_file_is_gone(tmp_path: Path) -> None:
    found = load_one(tmp_path, {"migration.py": FUNCTIONS})
    (tmp_path / "0001_a" / "migration.py").unlink()
    assert found.local is not None
    (step,) = found.local.up
    given: list[int] = []
    assert isinstance(step, FileFunction)
    step.function(given)  # type: ignore[arg-type]
    assert given == [3]


def test_loading_leaves_nothing_behind(tmp_path: Path) -> None:
    threads = threading.active_count()
    load_one(tmp_path, {"migration.py": FUNCTIONS})
    assert [name for name in sys.modules if "twinstep_migration" in name] == []
    assert threading.active_count() == threads
    assert [path.name for path in (tmp_path / "0001_a").iterdir()] == ["migration.py"]


def test_two_migrations_do_not_see_each_other(tmp_path: Path) -> None:
    one = "NAME = 'one'\ndef local_up(connection): return NAME\n"
    two = "def local_up(connection): return NAME\n"
    first, second = load_folder(write(tmp_path, {"1_a/migration.py": one, "2_b/migration.py": two}))
    assert first.local is not None
    assert second.local is not None
    assert [step(None) for step in first.local.up if isinstance(step, FileFunction)] == ["one"]  # type: ignore[arg-type]
    with pytest.raises(NameError):
        [step(None) for step in second.local.up if isinstance(step, FileFunction)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "code", "named"),
    [
        ("x = 1\ndef local_up(connection:\n", "T126", "line 2"),
        ("raise RuntimeError('no such host')", "T107", "RuntimeError: no such host"),
        ("import sys; sys.exit(3)", "T128", "SystemExit: 3"),
        ("exit()", "T128", "SystemExit"),
        ("exec('1 +')", "T107", "SyntaxError"),
        ("import a_module_that_is_nowhere", "T107", "a_module_that_is_nowhere"),
        ("local_up = 3", "T107", "local_up"),
        ("async def local_up(connection): ...", "T107", "local_up"),
        ("def remote_up(connection): yield", "T107", "remote_up"),
        ("def local_up(): ...", "T107", "local_up"),
        ("def local_up(connection, more): ...", "T107", "local_up"),
        ("def local_upp(connection): ...", "T107", "local_upp"),
        ("def local_up(connection): ...\ndef check_locally(connection): ...", "T107", "check_locally"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_reason(tmp_path: Path, source: str, code: str, named: str) -> None:
    error = refused(tmp_path, {"0001_a/local.up.sql": "SELECT 1", "0001_a/migration.py": source})
    assert error.code == code
    assert named in error.condition
    assert "migration.py" in error.condition


def test_a_file_that_hangs_is_refused_in_time_and_goes_on_no_longer(tmp_path: Path) -> None:
    files = {"0001_a/migration.py": "while True: pass", "0001_a/migration.toml": "load_timeout = '200ms'"}
    started = time.monotonic()
    error = refused(tmp_path, files)
    assert error.code == "T127"
    assert "0.2 seconds" in error.condition
    assert time.monotonic() - started < 2
    while any(thread.name == "twinstep_migration_0001_a" for thread in threading.enumerate()):
        assert time.monotonic() - started < 5, "it still runs"
        time.sleep(0.01)


def test_text_that_is_no_toml_is_refused_with_its_place(tmp_path: Path) -> None:
    error = refused(tmp_path, {"0001_a/local.up.sql": "SELECT 1", "0001_a/migration.toml": "[local\n"})
    assert (error.code, "line 1" in error.condition) == ("T129", True)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("descripton = 'x'", "did you mean description?"),
        ("[local]\npendign = 'SELECT 0'", "did you mean local.pending?"),
        ("[local]\nuser_version = { form = [1] }", "did you mean local.user_version.from?"),
        ("[remot]\nlock_timeout = '1s'", "did you mean remote?"),
        ("[[query]]\nname = 'a'\nside = 'local'\nsql = 'SELECT 1'\nuse_index = 'x'", "did you mean query[1].uses_index?"),
        ("colour = 'red'", "there is no key colour."),
    ],
)
def test_the_key_that_was_meant_is_named(tmp_path: Path, text: str, meant: str) -> None:
    error = refused(tmp_path, {"0001_a/local.up.sql": "SELECT 1", "0001_a/migration.toml": text})
    assert error.code == "T106"
    assert meant in error.condition


def test_reading_a_folder_loads_neither_a_parser_nor_a_driver(tmp_path: Path) -> None:
    write(tmp_path, {"0001_a/local.up.sql": "SELECT 1", "0001_a/remote.up.sql": "SELECT $$;$$"})
    program = (
        f"import sys; from twinstep.migrations.loader import load_folder; assert load_folder({str(tmp_path)!r});"
        "assert not {'sqlglot', 'sqlalchemy', 'sqlite3', 'psycopg', 'tomllib'} & set(sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
