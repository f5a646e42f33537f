"""The files that a reader sees in the documentation, and the blocks that are run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

FENCE = re.compile(
    r"(?:^`(?P<file>[^`\n]+)`:\n\n)?^```(?P<info>[^\n]*)\n(?P<body>.*?)^```$"
    r"(?:\n\nIt prints:\n\n```text\n(?P<prints>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)


@frozen(kw_only=True)
class Example:
    """One fenced block: the file that it shows, its language and marks, its text, and what running it prints."""

    file: str | None
    info: str
    body: str
    prints: str | None


def examples(path: Path) -> list[Example]:
    return [Example(**found.groupdict()) for found in FENCE.finditer(path.read_text(encoding="utf-8"))]


def shown_files(path: Path) -> dict[str, str]:
    return {each.file: each.body for each in examples(path) if each.file is not None}


def write(files: Mapping[str, str], folder: Path, *, below: str = "") -> None:
    """Those of the files whose names begin so, into the folder."""
    for name, body in files.items():
        if name.startswith(below):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(body, encoding="utf-8")
