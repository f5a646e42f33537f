"""Type-check what users get: build the wheel anew from the files that git tracks, install it elsewhere, run mypy on it.

A module that was never added to git, or a package that pyproject.toml forgets, is an error here and nowhere else before
the first user. Run by `make check`; leaves nothing in the tree.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Returns the exit code of mypy; a failed build or installation ends the program with its own output."""
    with tempfile.TemporaryDirectory(prefix="twinstep-check-") as name:
        folder = Path(name)
        source, wheels, target = folder / "source", folder / "wheels", folder / "target"
        export(source)
        # Without isolation: setuptools is part of the extra `dev`, and nothing is downloaded.
        run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", wheels, source)
        (wheel,) = wheels.glob("*.whl")
        print(f"mypy --strict over {wheel.name}, built from the files that git tracks", flush=True)
        run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", target, wheel)
        return check(target, source / "pyproject.toml")


def export(folder: Path) -> None:
    """Copy the tracked files as they are now, so that an edit is checked before it is committed."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def check(target: Path, configuration: Path) -> int:
    """Run mypy on the installed wheel, by the rules of pyproject.toml."""
    cache = ROOT / ".venv" / "cache" / "mypy"
    places: list[str | Path] = ["--config-file", configuration, "--cache-dir", cache]
    command = [sys.executable, "-m", "mypy", "--strict", *places, "-p", "twinstep"]
    return subprocess.run(command, cwd=target, env=os.environ | {"MYPYPATH": str(target)}).returncode


def run(*command: str | Path) -> None:
    """Run a step, quietly as long as it succeeds."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        print(done.stdout)
        sys.exit(done.returncode)


if __name__ == "__main__":
    sys.exit(main())
