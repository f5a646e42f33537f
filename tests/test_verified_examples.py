"""What the documentation shows is verified by property, and so is the reference migration."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_line import Project, make_project
from documents import ROOT, shown_files
from hypothesis import strategies as st

from twinstep.engine.embedded import EmbeddedPostgres
from twinstep.engine.verification import Verification, verify_migration
from twinstep.engine.verification.scratch import schema_text
from twinstep.migrations import phase3
from twinstep.migrations.loader import load_folder
from twinstep.migrations.phase3 import remote_schema

PAGES = ["README.md", "docs/backups.md", "docs/dry-run.md", "docs/hosts.md", "docs/writing-migrations.md"]


@pytest.mark.full
@pytest.mark.parametrize("page", PAGES)
def test_the_migrations_of_the_documentation_hold(page: str, postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    files = shown_files(ROOT / page)
    for name, body in files.items():
        if name.startswith("migrations/"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(body, encoding="utf-8")
    before = {"local": files["before/local.sql"], "remote": files["before/remote.sql"]}
    listed = load_folder(tmp_path / "migrations")
    found = verify_migration(
        tmp_path / "migrations", listed[0].id, examples=3, large_rows=0, schemas_before=before, server=postgres.url()
    )
    assert found.ok, found.failures


@pytest.mark.full
def test_the_failure_that_is_explained_is_the_one_that_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project: Project = make_project(tmp_path, capsys)
    page = "docs/verification.md"
    for name, body in shown_files(ROOT / page).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(body, encoding="utf-8")
    answer = project.run("test", "--migrations", "people", "--seed", "1")
    assert answer.code == 1
    text = (ROOT / page).read_text(encoding="utf-8")
    (explained,) = re.findall(r"^```text\n(applies fails.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert explained in answer.out


def reference(server: str, folder: Path, *, examples: int) -> Verification:
    """The reference migration on databases at version 11, on rows that its two odd indexes admit."""
    phase3.build_local(folder / "before.db", notes=0)
    columns = {
        "remote.notes.encrypted_metadata": st.sampled_from([None, "{}", '{"version": 1}']),
        "remote.note_tasks.content_hash": st.none(),
    }
    before = {"local": schema_text(folder / "before.db"), "remote": ";".join((*remote_schema.TABLES, *remote_schema.INDEXES))}
    return verify_migration(
        phase3.FOLDER, phase3.MIGRATION, examples=examples, server=server, schemas_before=before, columns=columns, large_rows=0
    )


@pytest.mark.full
def test_the_reference_migration_holds(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    found = reference(postgres.url(), tmp_path, examples=3)
    assert found.ok, found.failures


@pytest.mark.full
def test_the_reference_migration_holds_on_a_thousand_databases(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    found = reference(postgres.url(), tmp_path, examples=1000)
    print(f"{found.examples} databases in {found.seconds:.0f} s, {found.examples / found.seconds:.1f} a second")
    assert found.ok, found.failures
