"""The rules of the house that a machine can hold: one straight line of imports, no cycles, every module introduced.

The rules are functions of a folder, so that each is also seen to find what it is there for, in a small tree of its own.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("events", "stores", "migrations", "engine")
FRONT_DOOR = ("__init__", "__main__")
# What a package must not touch, by the first name of the import.
FOREIGN = {
    "events": {"sqlite3", "psycopg", "sqlalchemy", "os", "pathlib", "socket", "subprocess", "time", "random", "dataclasses"},
    "stores": {"dataclasses"},
    "migrations": {"dataclasses"},
    "engine": {"dataclasses"},
}


def modules(root: Path) -> dict[str, Path]:
    """Every module of the package by its name below `twinstep`, such as "events.errors" or "stores" (an __init__)."""
    files = [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]
    # A migration folder's own script is data of the package: nothing imports it by name.
    code = [path for path in files if all(part.isidentifier() for part in path.relative_to(root).parent.parts)]
    named = {".".join(path.relative_to(root).with_suffix("").parts): path for path in code}
    return {name.removesuffix(".__init__"): path for name, path in named.items()}


def parsed(path: Path) -> ast.Module:
    """The file's syntax, by the oldest Python that is supported."""
    return ast.parse(path.read_text(), filename=str(path), feature_version=(3, 11))


def imports(name: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    """What a module imports of twinstep, wherever the import stands; "" is the front door."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            own = [alias.name for alias in node.names if alias.name.split(".")[0] == "twinstep"]
            yield from (imported.removeprefix("twinstep").removeprefix(".") for imported in own)
        elif isinstance(node, ast.ImportFrom):
            source = _source(node, package)
            if source is not None:
                members = (".".join(filter(None, (source, alias.name))) for alias in node.names)
                yield from {member if member in known else source for member in members}


def _source(node: ast.ImportFrom, package: list[str]) -> str | None:
    if node.level:
        above = package[: len(package) - node.level + 1]
        return ".".join([*above, *filter(None, [node.module])])
    if (node.module or "").split(".")[0] != "twinstep":
        return None
    return (node.module or "").removeprefix("twinstep").removeprefix(".")


def graph(root: Path) -> dict[str, set[str]]:
    known = modules(root)
    return {name: set(imports(name, path, known)) for name, path in known.items()}


def wrong_directions(root: Path) -> list[str]:
    def rank(name: str) -> int:
        package = name.split(".")[0]
        return PACKAGES.index(package) if package in PACKAGES else len(PACKAGES)

    return [f"{name} imports {other}" for name, others in graph(root).items() for other in others if rank(other) > rank(name)]


def cycles(root: Path) -> list[str]:
    # A package that names its own modules is no cycle with itself.
    edges = {name: {other for other in others if other != name} for name, others in graph(root).items()}
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as found:
        return list(found.args[1])
    return []


def foreign_imports(root: Path) -> list[str]:
    return [
        f"{name} imports {imported}"
        for name, path in modules(root).items()
        for imported in _outside(path)
        if imported in FOREIGN[name.split(".")[0]]
    ]


def _outside(path: Path) -> Iterator[str]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.split(".")[0]


def unintroduced(root: Path) -> list[str]:
    """Python files without a docstring of at least a few words at their head."""
    folders = (*PACKAGES, "tests", "tools", "benchmarks")
    files = [*root.glob("*.py"), *(path for folder in folders for path in (root / folder).rglob("*.py"))]
    heads = {path: ast.get_docstring(parsed(path)) or "" for path in files}
    return [str(path.relative_to(root)) for path, head in heads.items() if len(head.split()) < 4]


def unrun_tests(root: Path) -> list[str]:
    """Where tests are skipped or expected to fail: what cannot run here is not collected, what fails is mended."""
    marks = {"skip", "skipif", "xfail", "importorskip"}
    return [
        f"{path.relative_to(root)}:{node.lineno} {node.attr}"
        for path in sorted((root / "tests").rglob("*.py"))
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute) and node.attr in marks
    ]


def test_imports_go_one_way_from_engine_to_events() -> None:
    assert wrong_directions(ROOT) == []


def test_no_module_imports_itself_through_others() -> None:
    assert cycles(ROOT) == []


def test_the_vocabulary_touches_no_clock_and_no_database() -> None:
    assert foreign_imports(ROOT) == []


def test_every_module_says_at_its_head_what_it_is_for() -> None:
    assert unintroduced(ROOT) == []


def test_no_test_is_skipped_or_expected_to_fail() -> None:
    assert unrun_tests(ROOT) == []


def test_nothing_at_the_root_but_the_front_door_would_be_installed() -> None:
    assert {path.stem for path in ROOT.glob("*.py")} == set(FRONT_DOOR)


def test_the_tests_are_no_package() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree in which nothing is wrong yet."""
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text('"""What this package promises."""\n')
    (tmp_path / "stores" / "port.py").write_text("from ..events import types\n")
    (tmp_path / "events" / "types.py").write_text("import json\n")
    assert wrong_directions(tmp_path) == cycles(tmp_path) == foreign_imports(tmp_path) == []
    return tmp_path


@pytest.mark.parametrize(
    "line",
    [
        "from ..engine import loop",
        "from ..engine.loop import run",
        "from .. import engine",
        "from .. import Coordinator",
        "import twinstep",
        "import twinstep.engine.loop as loop",
        "from twinstep.migrations import work",
        "from twinstep import engine",
        "def late():\n    from ..migrations.work import unit",
        "if TYPE_CHECKING:\n    from ..engine.loop import run",
    ],
)
def test_an_import_in_the_wrong_direction_is_found(line: str, tree: Path) -> None:
    (tree / "stores" / "memory.py").write_text(line)
    assert [found.split(" imports ")[0] for found in wrong_directions(tree)] == ["stores.memory"]


@pytest.mark.parametrize("line", ["from .second import two", "from . import second", "import twinstep.stores.second"])
def test_a_cycle_is_found_however_it_is_written(line: str, tree: Path) -> None:
    (tree / "stores" / "first.py").write_text(line)
    (tree / "stores" / "second.py").write_text("def late():\n    from .first import one")
    assert set(cycles(tree)) == {"stores.first", "stores.second"}


@pytest.mark.parametrize("line", ["import sqlite3", "from pathlib import Path", "def late():\n    import time"])
def test_a_database_or_a_clock_in_the_vocabulary_is_found(line: str, tree: Path) -> None:
    (tree / "events" / "types.py").write_text(line)
    assert [found.split(" imports ")[0] for found in foreign_imports(tree)] == ["events.types"]


def test_a_module_without_a_head_and_a_skipped_test_are_found(tree: Path) -> None:
    (tree / "tests").mkdir()
    (tree / "tests" / "test_one.py").write_text('"""A head of four words."""\n@pytest.mark.skip\ndef test(): pass\n')
    assert unintroduced(tree) == ["events/types.py", "stores/port.py"]
    assert unrun_tests(tree) == ["tests/test_one.py:2 skip"]
