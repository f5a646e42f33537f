"""A limit on a function: it ends what runs on, and leaves nothing behind in the interpreter."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from twinstep.migrations.time_limit import OutOfTime, call_within


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
        with pytest.raises(OutOfTime):
            call_within(0.05, function)


def test_what_is_done_in_time_and_its_own_errors_pass() -> None:
    assert call_within(60, lambda: "done") == "done"
    with pytest.raises(KeyError):
        call_within(60, lambda: {}["missing"])


def test_an_end_that_comes_just_then_is_either_in_time_or_not_and_comes_no_later() -> None:
    """Nothing is raised any more once the call has ended, however close the two are."""
    ends = {True: 0, False: 0}
    switching = sys.getswitchinterval()
    sys.setswitchinterval(0.000_01)
    for turn in range(1000):
        until = time.perf_counter() + 0.001 + 0.000_002 * (turn % 300 - 100)

        def wait(until: float = until) -> None:
            while time.perf_counter() < until:
                pass

        try:
            call_within(0.001, wait)
            ends[True] += 1
        except OutOfTime:
            ends[False] += 1
        for _ in range(1000):
            pass
    sys.setswitchinterval(switching)
    assert min(ends.values()) > 10, ends
    assert not [each for each in threading.enumerate() if isinstance(each, threading.Timer) and not each.finished.is_set()]


SCRIPT = """
import sys
from twinstep.migrations.time_limit import OutOfTime, call_within
def run_on():
    while True:
        pass
try:
    call_within(0.05, run_on)
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
