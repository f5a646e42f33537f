"""What the documentation shows is verified by property, and so is the reference migration."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_line import Project, make_project
from documents import DOCUMENTS, ROOT, shown_files, write
from hypothesis import strategies as st

from twinstep.engine.embedded import EmbeddedPostgres
from twinstep.engine.verification import Property, Verification, verify_migration
from twinstep.engine.verification.properties import OF_THE_CHANGE
from twinstep.engine.verification.scratch import schema_text
from twinstep.migrations import phase3
from twinstep.migrations.phase3 import remote_schema

WITH_MIGRATIONS = {
    page: sorted({Path(name).parts[1] for name in shown_files(page) if name.startswith("migrations/")}) for page in DOCUMENTS
}
FORMS = [(2, OF_THE_CHANGE), pytest.param(25, tuple(Property), marks=pytest.mark.full)]
SHOWN = [pytest.param(page, name, id=f"{page.name} {name}") for page, names in WITH_MIGRATIONS.items() for name in names]
MARK = re.compile(r"PRAGMA user_version = (\d+);")


@pytest.mark.parametrize(("examples", "properties"), FORMS)
@pytest.mark.parametrize(("page", "name"), SHOWN)
def test_the_migrations_of_the_documentation_hold(
    page: Path, name: str, examples: int, properties: tuple[Property, ...], postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    files = shown_files(page)
    # What the page's databases hold before is what a migration before all others makes.
    local = files["before/local.sql"]
    files["migrations/0000_before/local.up.sql"] = MARK.sub("", local)
    files["migrations/0000_before/remote.up.sql"] = files["before/remote.sql"]
    version = f"[local]\nuser_version = {{ from = [0], to = {mark[1]} }}\n" if (mark := MARK.search(local)) else ""
    files["migrations/0000_before/migration.toml"] = f"irreversible = true\n{version}"
    write(files, tmp_path, below="migrations/")
    found = verify_migration(
        tmp_path / "migrations", name, examples=examples, properties=properties, large_rows=0, server=postgres.url()
    )
    assert found.ok, found.failures
    assert found.examples >= examples


@pytest.mark.full
def test_the_failure_that_is_explained_is_the_one_that_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project: Project = make_project(tmp_path, capsys)
    page = "docs/verification.md"
    write(shown_files(ROOT / page), tmp_path)
    answer = project.run("test", "--migrations", "people", "--seed", "1")
    assert answer.code == 1
    text = (ROOT / page).read_text(encoding="utf-8")
    (explained,) = re.findall(r"^```text\n(applies fails.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert explained in answer.out


def reference(server: str, folder: Path, *, examples: int, properties: tuple[Property, ...] = tuple(Property)) -> Verification:
    """The reference migration on databases at version 11, on rows that its two odd indexes admit."""
    phase3.build_local(folder / "before.db", notes=0)
    columns = {
        # It waits while something is pending: without rows there, no database is drawn in vain.
        "local.pending_ops.kind": st.nothing(),
        "remote.notes.encrypted_metadata": st.sampled_from([None, "{}", '{"version": 1}']),
        "remote.note_tasks.content_hash": st.none(),
    }
    before = {"local": schema_text(folder / "before.db"), "remote": ";".join((*remote_schema.TABLES, *remote_schema.INDEXES))}
    return verify_migration(
        phase3.FOLDER,
        phase3.MIGRATION,
        examples=examples,
        properties=properties,
        server=server,
        schemas_before=before,
        columns=columns,
        large_rows=0,
    )


def test_the_reference_migration_holds(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    found = reference(postgres.url(), tmp_path, examples=1, properties=OF_THE_CHANGE)
    assert found.ok, found.failures


@pytest.mark.full
def test_the_reference_migration_holds_on_a_thousand_databases(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    found = reference(postgres.url(), tmp_path, examples=1000)
    print(f"{found.examples} databases in {found.seconds:.0f} s, {found.examples / found.seconds:.1f} a second")
    assert found.ok, found.failures
