"""A limit on a function: it ends what runs on, and leaves nothing behind in the interpreter."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from twinstep.migrations.time_limit import OutOfTime, limited


def run_on() -> None:
    while True:
        pass


def test_what_runs_on_is_ended_also_where_it_catches_every_exception() -> None:
    def stubborn() -> None:
        while True:
            try:
                run_on()
            except BaseException:
                time.sleep(0.01)
                return

    for function in (run_on, stubborn):
        with pytest.raises(OutOfTime), limited(0.05):
            function()


def test_what_is_done_in_time_and_its_own_errors_pass() -> None:
    with limited(60):
        done = True
    assert done
    with pytest.raises(KeyError), limited(60):
        raise KeyError


def test_an_end_that_comes_just_then_is_either_in_time_or_not_and_comes_no_later() -> None:
    """Nothing is raised any more once the block is left, however close the two are."""
    ends = {True: 0, False: 0}
    for turn in range(200):
        until = time.perf_counter() + 0.001 + 0.000_002 * (turn - 100)
        try:
            with limited(0.001):
                while time.perf_counter() < until:
                    pass
            ends[True] += 1
        except OutOfTime:
            ends[False] += 1
        for _ in range(1000):
            pass
    assert sum(ends.values()) == 200


SCRIPT = """
import sys
from twinstep.migrations.time_limit import OutOfTime, limited
try:
    with limited(0.05):
        while True:
            pass
except OutOfTime:
    pass
def call():
    return "done"
sys.settrace(lambda *given: None)
print(call())
"""


def test_a_debugger_or_coverage_can_still_follow_the_process() -> None:
    """An interpreter that is left waiting for an exception which was taken back never comes to the first step of a traced
    function (Python 3.11)."""
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=20, check=False)
    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stderr
