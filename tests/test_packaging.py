"""What is installed is what lies here: every package, every file of data, under one name."""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import twinstep

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]
PACKAGES = ("events", "stores", "migrations", "engine")


def test_every_package_is_installed() -> None:
    found = {path.parent.relative_to(ROOT) for folder in PACKAGES for path in (ROOT / folder).rglob("__init__.py")}
    assert set(SETUPTOOLS["packages"]) == {"twinstep"} | {".".join(("twinstep", *folder.parts)) for folder in found}


def test_every_file_that_is_no_module_of_a_package_is_installed_as_data() -> None:
    installed = {
        path
        for package, patterns in SETUPTOOLS["package-data"].items()
        for pattern in patterns
        for path in ROOT.joinpath(*package.split(".")[1:]).glob(pattern)
    }
    modules = {path for package in SETUPTOOLS["packages"] for path in ROOT.joinpath(*package.split(".")[1:]).glob("*.py")}
    lying = {path for folder in PACKAGES for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert lying <= installed | modules
    assert ROOT / "py.typed" in installed


def test_the_package_is_imported_under_one_name_only() -> None:
    assert twinstep.__name__ == "twinstep"
    package = ROOT.resolve()
    files = {name: getattr(module, "__file__", None) for name, module in sorted(sys.modules.items())}
    paths = {name: Path(file).resolve() for name, file in files.items() if isinstance(file, str)}
    ours = {name: path.relative_to(package) for name, path in paths.items() if path.is_relative_to(package)}
    code = {name: path for name, path in ours.items() if path.parts[0] not in {"tests", ".venv"}}
    assert "twinstep" in code
    assert {name for name in code if name.split(".")[0] != "twinstep"} == set()
    assert len(set(code.values())) == len(code)


def test_the_installed_version_is_that_of_the_source() -> None:
    assert version("twinstep") == PYPROJECT["project"]["version"]
