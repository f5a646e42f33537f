"""The error tree and its messages: every code that is raised has an entry, and every entry is filled in."""

from __future__ import annotations

import ast
import pickle
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from twinstep.events import errors
from twinstep.events.errors import Conflict, TwinstepError
from twinstep.events.messages import MESSAGES, UNTOUCHED

ROOT = Path(__file__).parent.parent
PACKAGES = ("events", "stores", "migrations", "engine")
CLASSES = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, TwinstepError)}
CODE = re.compile(r"T\d{3}")


def examples(code: str) -> dict[str, object]:
    """A value for each word in braces of a message: a number where it is to be formatted as one."""
    message = MESSAGES[code]
    parsed = string.Formatter().parse(message.condition + message.effect + message.next_step)
    return {name: 2.5 if spec else f"<{name}>" for _, name, spec, _ in parsed if name is not None}


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def raised_codes(text: str) -> Iterator[tuple[int, str, set[str] | None]]:
    """(line, code, details) of each error that is made in that source; details are None where they are passed on."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
        code = node.args[0]
        if name in CLASSES and isinstance(code, ast.Constant) and isinstance(code.value, str):
            given = {keyword.arg for keyword in node.keywords}
            yield node.lineno, code.value, None if None in given else {name for name in given if name is not None}


def named_codes(text: str) -> Iterator[tuple[int, str]]:
    """(line, code) of every string that is nothing but a code."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
            yield node.lineno, node.value


def faults(text: str, path: str) -> list[str]:
    found = [f"{path}:{line} names {code}, which has no message" for line, code in named_codes(text) if code not in MESSAGES]
    for line, code, details in raised_codes(text):
        if code in MESSAGES and details is not None:
            missing = examples(code).keys() - details
            found += [f"{path}:{line} raises {code} without {name}" for name in sorted(missing)]
    return found


def test_every_error_that_is_raised_has_a_message_and_all_its_details() -> None:
    assert [fault for path in sources() for fault in faults(path.read_text(), str(path.relative_to(ROOT)))] == []


def test_the_search_for_errors_finds_what_it_is_for() -> None:
    assert any(code == "T505" for path in sources() for _, code, _ in raised_codes(path.read_text()))
    assert faults('raise LogDamaged("T500")', "x.py") == ["x.py:1 names T500, which has no message"]
    assert faults('raise errors.LogDamaged("T507", path=1)', "x.py") == ["x.py:1 raises T507 without problem"]
    assert faults('raise LogDamaged("T507", path=1, problem=2)', "x.py") == []
    assert faults('raise LogDamaged("T507", **details)', "x.py") == []


@pytest.mark.parametrize("code", MESSAGES)
def test_a_message_is_filled_in_whole(code: str) -> None:
    error = TwinstepError(code, **examples(code))  # type: ignore[arg-type]
    text = str(error)
    assert text.startswith(f"{code} ")
    assert "{" not in text
    assert "}" not in text
    assert all(str(value) in text for value in examples(code).values())
    assert error.next_step
    assert error.next_step in text


@pytest.mark.parametrize("code", MESSAGES)
def test_a_message_is_made_of_sentences(code: str) -> None:
    message = MESSAGES[code]
    assert CODE.fullmatch(code)
    for text in (message.condition, message.effect, message.next_step):
        assert text[-1] in ".!?}"
        assert text[0] in "{'" or not text[0].islower()


def test_details_may_hold_braces_and_are_not_filled_in_again() -> None:
    error = errors.LogDamaged("T507", path="{problem}", problem="{0} {")
    assert "The log at {problem} is not a log of Twinstep, or is damaged: {0} {." in str(error)
    assert UNTOUCHED in str(error)


@pytest.mark.parametrize("name", CLASSES)
def test_an_error_survives_being_sent_to_another_process(name: str) -> None:
    kind = CLASSES[name]
    details = {"path": "x", "problem": "y"} | ({"kind": "drift"} if issubclass(kind, Conflict) else {})
    error = kind("T506", state="verified", **details)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (str(again), again.code, again.state, again.details, again.next_step, again.exit_code) == (
        str(error),
        "T506",
        "verified",
        error.details,
        error.next_step,
        kind.exit_code,
    )


def test_every_error_tells_the_command_how_to_exit() -> None:
    assert {kind.exit_code for kind in CLASSES.values()} <= {1, 2, 4, 5, 6}


def test_the_tree_in_the_documentation_is_the_tree() -> None:
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__ or "")) | {"TwinstepError"}
    assert drawn == set(CLASSES)
