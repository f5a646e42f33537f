"""A migration.py into functions: run once, by itself, within a time, and leaving nothing behind.

The file is no module that could be imported: it is compiled from its text (no bytecode is written beside it), and its name is
in `sys.modules` only while it loads. It runs in a thread of its own, so that one that hangs is refused and does not
hang the caller; the hung one is interrupted when it next takes a step in Python.

Read next: `checksums.py` (how a function is known again), `loader.py`.
"""

from __future__ import annotations

import inspect
import sys
import threading
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from ..events.errors import DefinitionError
from .checksums import ENTRY_POINTS, is_entry_point
from .definition import FileFunction
from .time_limit import interrupt

if TYPE_CHECKING:
    from pathlib import Path

    from .work import SideWork

_RESERVED_PREFIXES = ("local_", "remote_", "check_")


def load_what_they_use(work: SideWork) -> None:
    """Load what the functions of a side are lent, before a lock is held: importing SQLAlchemy takes 0.4 s and more."""
    if work.compiled.callables or work.check is not None:
        guard = "held_sqlalchemy" if work.side == "local" else "remote_guard"
        import_module(f"..stores.{guard}", __package__)


def said_by(result: object) -> tuple[str, ...]:
    """What a check returned, as findings: one sentence, several, or nothing. Anything else says nothing."""
    if isinstance(result, str):
        return (result,) if result else ()
    if isinstance(result, list | tuple):
        return tuple(each for each in result if isinstance(each, str))
    return ()


def load_functions(source: str, path: Path, migration: str, timeout_seconds: float) -> dict[str, FileFunction]:
    """The functions that Twinstep calls, by name; others in the file are its own business.

    Raises DefinitionError: T126 no Python, T127 not loaded in time, T128 it tries to end the program; T107 if it raises, or
    defines something under a name that is nearly one of ours, or that cannot be called with a connection.
    """
    module = ModuleType(f"twinstep_migration_{migration}")
    module.__file__ = str(path)
    _run_in_time(source.removeprefix("\ufeff"), module, path, timeout_seconds)
    functions = {}
    for name, value in vars(module).items():
        if is_entry_point(name):
            _refuse_unusable(name, value, path)
            functions[name] = FileFunction(name=name, source=source, function=value)
        elif inspect.isfunction(value) and value.__module__ == module.__name__ and name.startswith(_RESERVED_PREFIXES):
            names = ", ".join(sorted(ENTRY_POINTS))
            problem = f"{name} would never be called; the names are {names} and probe_..."
            raise DefinitionError("T107", path=path, problem=problem)
    return functions


def _run_in_time(source: str, module: ModuleType, path: Path, timeout_seconds: float) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        sys.modules[module.__name__] = module  # attrs and dataclasses look their module up while a class is made
        try:
            exec(compile(source, str(path), "exec", dont_inherit=True), vars(module))
        except BaseException as error:  # SystemExit too: a migration's file must not end the host
            failures.append(error)
        finally:
            sys.modules.pop(module.__name__, None)

    thread = threading.Thread(target=run, name=module.__name__, daemon=True)
    thread.start()
    thread.join(timeout_seconds)
    if thread.is_alive():
        sys.modules.pop(module.__name__, None)
        interrupt(thread)
        raise DefinitionError("T127", path=path, seconds=timeout_seconds)
    if failures:
        raise _not_loaded(failures[0], path) from failures[0]


def _not_loaded(failure: BaseException, path: Path) -> DefinitionError:
    problem = f"{type(failure).__name__}: {failure}".removesuffix(": ")
    if isinstance(failure, SyntaxError) and failure.filename == str(path):  # not one of a module that it imports
        return DefinitionError("T126", path=path, line=failure.lineno or 1, problem=failure.msg)
    if isinstance(failure, SystemExit):
        return DefinitionError("T128", path=path, problem=problem)
    return DefinitionError("T107", path=path, problem=problem)


def _refuse_unusable(name: str, value: object, path: Path) -> None:
    problem = ""
    if not callable(value):
        problem = f"{name} is no function"
    elif inspect.iscoroutinefunction(value) or inspect.isgeneratorfunction(value) or inspect.isasyncgenfunction(value):
        problem = f"{name} would not run when called; it must be a plain function, without async and yield"
    else:
        try:
            inspect.signature(value).bind(None)
        except TypeError:
            problem = f"{name} must take one argument, the connection"
    if problem:
        raise DefinitionError("T107", path=path, problem=problem)
