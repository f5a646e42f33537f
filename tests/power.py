"""Power loss on the device: what a killed process had written and not synced is lost, in whole or in part.

A child is run under strace, and killed. From its calls it is known which writes to the files of a folder came after the last
`fsync` of their file, and which names were made, moved or taken away after the last `fsync` of their folder. Then the folder
is made anew as a disk may hold it after the power was cut: without all of these, or with any selection of a file's writes.

What is taken for durable is what Linux's file systems promise: the content of a file once it is synced, and with it the name
that it was made or renamed under; any change of names in a folder once the folder is synced. The shared memory of a WAL
(`-shm`) is nothing that a disk keeps. That every call was understood is looked at: the folder that the calls make must be the
one that is there. The server is another machine, and goes on: what it has committed stays.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, TypeAlias

from attrs import define, field, frozen

CALLS = (
    "openat",
    "creat",
    "close",
    "lseek",
    "write",
    "pwrite64",
    "writev",
    "pwritev",
    "ftruncate",
    "truncate",
    "fallocate",
    "copy_file_range",
    "sendfile",
    "fsync",
    "fdatasync",
    "sync_file_range",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "rmdir",
)
Kind: TypeAlias = Literal["make", "remove", "move"]

_LINE = re.compile(r"(?P<at>[\d.]+) (?P<call>\w+)\((?P<given>.*)\) += (?P<result>-?\d+)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_OPENED = re.compile(r"^(\d+)<([^>]*)>")


def traced(trace: Path) -> tuple[str, ...]:
    """What to put before a command, so that each of its processes writes its calls to a file of its own: `trace`.PID."""
    listed = ",".join(CALLS)
    return ("strace", "-ff", "-ttt", "-y", "-xx", "-s", "10000000", "-o", str(trace), "-e", f"trace={listed}", "--signal=none")


def can_trace() -> bool:
    """Whether this machine has strace, and lets it look."""
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0


@frozen
class Change:
    """One thing that was done to a file's content: bytes written at an offset, or its size set (without bytes)."""

    offset: int
    data: bytes | None = None

    def on(self, content: bytearray) -> None:
        end = self.offset + len(self.data or b"")
        if self.data is None:
            del content[self.offset :]
        if len(content) < end:
            content.extend(bytes(end - len(content)))
        if self.data is not None:
            content[self.offset : end] = self.data


@define(eq=False)
class Inode:
    """A file, whatever its name is: what is on the disk, and what is not yet."""

    synced: bytearray = field(factory=bytearray)
    pending: list[Change] = field(factory=list)

    def content(self, kept: Iterable[Change]) -> bytes:
        content = bytearray(self.synced)
        for change in kept:
            change.on(content)
        return bytes(content)

    def sync(self) -> None:
        self.synced = bytearray(self.content(self.pending))
        self.pending.clear()


@define(eq=False)
class Naming:
    """A name that was made, taken away, or moved; `durable` once it is on the disk."""

    kind: Kind
    path: Path
    inode: Inode | None = None
    to: Path | None = None
    durable: bool = False

    def on(self, names: dict[Path, Inode]) -> None:
        if self.kind == "make" and self.inode is not None:
            names[self.path] = self.inode
        elif self.kind == "remove":
            names.pop(self.path, None)
        elif self.path in names and self.to is not None:
            names[self.to] = names.pop(self.path)

    def folders(self) -> set[Path]:
        return {self.path.parent, *([self.to.parent] if self.to is not None else [])}


@define
class Disk:
    """The files of a folder as one traced process changed them. What is there before it begins is durable."""

    folder: Path
    _base: dict[Path, Inode] = field(factory=dict)
    _names: dict[Path, Inode] = field(factory=dict)
    _namings: list[Naming] = field(factory=list)
    _opened: dict[int, tuple[Inode, int]] = field(factory=dict)

    @classmethod
    def of(cls, folder: Path) -> Disk:
        base = {path: Inode(bytearray(path.read_bytes())) for path in _files(folder)}
        return cls(folder, base, dict(base))

    def replay(self, traces: Iterable[Path]) -> None:
        """All calls of these threads, in the order of their time."""
        lines = [
            (float(found["at"]), trace.name, found)
            for trace in traces
            for line in trace.read_text(encoding="ascii", errors="replace").splitlines()
            if (found := _LINE.match(line)) is not None
        ]
        for _, _, found in sorted(lines, key=lambda each: each[0]):
            if not found["result"].startswith("-"):
                self._call(found["call"], found["given"], int(found["result"]))

    def now(self) -> dict[Path, bytes]:
        """The files as a process sees them."""
        return {path: inode.content(inode.pending) for path, inode in self._names.items() if _is_kept(path)}

    def unsynced(self) -> int:
        """How many writes and names a power loss would take."""
        pending = sum(len(inode.pending) for path, inode in self._names.items() if _is_kept(path))
        return pending + sum(not each.durable and _is_kept(each.path) for each in self._namings)

    def lose_power(self, chance: random.Random | None) -> None:
        """Make the folder as the disk may hold it: without all that is not synced, or with a selection of it."""
        names = dict(self._base)
        kept = chance.randint(0, len(self._namings)) if chance is not None else 0
        for number, naming in enumerate(self._namings):
            if naming.durable or number < kept:
                naming.on(names)
        shutil.rmtree(self.folder)
        self.folder.mkdir()
        for path, inode in names.items():
            if _is_kept(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                selected = [change for change in inode.pending if chance is not None and chance.random() < 0.5]
                path.write_bytes(inode.content(selected))

    def assert_understood(self) -> None:
        """What the calls make must be what is there."""
        there = {path: path.read_bytes() for path in _files(self.folder) if _is_kept(path)}
        now = self.now()
        assert there.keys() == now.keys(), there.keys() ^ now.keys()
        assert [path for path in there if there[path] != now[path]] == []

    # One call

    def _call(self, call: str, given: str, result: int) -> None:
        texts = [bytes.fromhex(text.replace("\\x", "")) for text in _TEXT.findall(given)]
        opened = _OPENED.match(given)
        path = _path(opened[2]) if opened is not None else None
        match call:
            case "openat" | "creat":
                self._open(Path(texts[0].decode()), given, result)
            case "mkdir" | "mkdirat" | "rmdir":
                pass  # a folder is there as soon as something in it is
            case "rename" | "renameat" | "renameat2":
                self._name("move", Path(texts[0].decode()), to=Path(texts[1].decode()))
            case "link" | "linkat":
                assert not self._is_ours(Path(texts[1].decode())), f"not understood: {call}({given[:200]})"
            case "unlink" | "unlinkat":
                self._name("remove", Path(texts[0].decode()))
            case "fsync" | "fdatasync" if path is not None:
                self._sync(int(given.split("<")[0]), path)
            case _ if opened is not None and int(opened[1]) in self._opened:
                self._write(int(opened[1]), call, given, texts, result)

    def _is_ours(self, path: Path) -> bool:
        return path.is_relative_to(self.folder)

    def _open(self, path: Path, given: str, number: int) -> None:
        self._opened.pop(number, None)
        if not self._is_ours(path) or "O_DIRECTORY" in given:
            return
        inode = self._names.get(path)
        if inode is None:
            if "O_CREAT" not in given:  # a folder
                return
            inode = Inode()
            self._name("make", path, inode)
        if "O_TRUNC" in given:
            inode.pending.append(Change(0))
        assert "O_APPEND" not in given, given[:200]
        self._opened[number] = inode, 0

    def _name(
        self, kind: Literal["make", "remove", "move"], path: Path, inode: Inode | None = None, to: Path | None = None
    ) -> None:
        if not self._is_ours(path):
            return
        naming = Naming(kind, path, inode or self._names.get(path), to)
        naming.on(self._names)
        self._namings.append(naming)

    def _sync(self, number: int, path: Path) -> None:
        opened = self._opened.get(number)
        if opened is not None:
            opened[0].sync()
            for naming in self._namings:
                naming.durable |= naming.inode is opened[0] and naming.kind != "remove"
        elif path.is_dir():
            for naming in self._namings:
                naming.durable |= path in naming.folders()

    def _write(self, number: int, call: str, given: str, texts: list[bytes], result: int) -> None:
        inode, at = self._opened[number]
        last = given.rsplit(", ", 1)[-1]
        match call:
            case "pwrite64":
                inode.pending.append(Change(int(last), texts[0][:result]))
            case "write":
                inode.pending.append(Change(at, texts[0][:result]))
                self._opened[number] = inode, at + result
            case "lseek":
                self._opened[number] = inode, result
            case "ftruncate":
                inode.pending.append(Change(int(last)))
            case "close":
                del self._opened[number]
            case _:
                raise AssertionError(f"not understood: {call}({given[:200]})")


def _path(text: str) -> Path:
    """As strace writes that of a descriptor."""
    return Path(bytes.fromhex(text.replace("\\x", "")).decode() if text.startswith("\\x") else text)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _is_kept(path: Path) -> bool:
    return not path.name.endswith("-shm")
