"""All event stores, driven together by one machine: the same orders give the same records, rows and errors.

Memory is the oracle: it is too simple to hide a fault. The machine appends legal events and senseless ones, on old
versions and with wrong hashes, from two handles that claim pairs, is cut at each crossing, reopens, rebuilds, and registers
pairs. After each step all that
can be read is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from event_stores import LOGS, Log, TickingClock, head
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from strategies import any_events, histories, texts

from twinstep.events import types as e
from twinstep.events.errors import TwinstepError
from twinstep.events.projections import ROW_TYPES
from twinstep.stores.log_check import check_log
from twinstep.stores.port import EventStore

pytestmark = pytest.mark.usefixtures("log_server")

STREAMS = st.sampled_from(["pair1/0001_first", "pair1/0002_second", "pair2/0001_first", "pair1", "pair2", "ö/🗝"])
CROSSINGS = st.sampled_from([None, None, None, "append:before-commit", "append:after-commit"])


class Cut(BaseException):
    """A stand-in for whatever ends a process."""


class StoresAgree(RuleBasedStateMachine):
    """One log of each kind, and after each step the same in all of them."""

    @initialize()
    def make(self) -> None:
        self.folder = TemporaryDirectory()
        self.cut_at: str | None = None
        # One clock for all, which moves between the steps: how often a store asks it is its own affair.
        self.clock = TickingClock()
        self.now = self.clock()
        self.logs: dict[str, Log] = {name: kind(Path(self.folder.name) / name, lambda: self.now) for name, kind in LOGS.items()}
        self.stores: dict[str, EventStore] = {}
        self.others: dict[str, EventStore] = {}
        self.open()
        self.claimed: set[str] = set()
        self.pairs: dict[str, list[str]] = {name: [] for name in LOGS}

    def open(self) -> None:
        """Two handles on each log: they have claims of their own."""
        self.stores = {name: log.handle(probe=self.probe) for name, log in self.logs.items()}
        self.others = {name: log.handle(probe=self.probe) for name, log in self.logs.items()}

    def probe(self, crossing: str) -> None:
        if crossing == self.cut_at:
            raise Cut

    def all_answer_alike(self, ask: Callable[[EventStore], object], *, by_the_other: bool = False) -> object:
        answers = {}
        for name, store in (self.others if by_the_other else self.stores).items():
            try:
                answers[name] = ask(store)
            except TwinstepError as error:
                answers[name] = type(error), str(error), error.details
            except Cut:
                answers[name] = "cut"
        first, *others = answers.items()
        for name, answer in others:
            assert answer == first[1], f"{name} and {first[0]} differ"
        self.now = self.clock()
        return first[1]

    @rule(
        stream=STREAMS,
        events=st.lists(any_events(), max_size=3),
        ahead=st.sampled_from([0, 0, 0, 0, -1, 1]),
        wrong_hash=st.sampled_from([None, None, None, None, "0" * 64, "x"]),
        cut_at=CROSSINGS,
        by_the_other=st.booleans(),
    )
    def append(
        self, stream: str, events: list[e.Event], ahead: int, wrong_hash: str | None, cut_at: str | None, by_the_other: bool
    ) -> None:
        # What may be refused is not cut as well: a store may learn of a refusal only by the commit that it tries.
        is_refused = ahead != 0 or wrong_hash is not None or stream.partition("/")[0] in self.claimed
        self.cut_at = None if is_refused else cut_at
        self._append(stream, events, ahead=ahead, wrong_hash=wrong_hash, by_the_other=by_the_other)
        self.cut_at = None

    @rule(pair=st.sampled_from(["pair1", "pair2"]), by_the_other=st.booleans())
    def claim(self, pair: str, by_the_other: bool) -> None:
        self.claimed.add(pair)
        self.all_answer_alike(lambda store: store.claim(pair), by_the_other=by_the_other)

    def _append(
        self,
        stream: str,
        events: Sequence[e.Event],
        *,
        ahead: int = 0,
        wrong_hash: str | None = None,
        by_the_other: bool = False,
    ) -> None:
        version, last_hash = head(self.stores["memory"], stream)
        expected_hash = last_hash if wrong_hash is None else wrong_hash
        self.all_answer_alike(
            lambda store: store.append(stream, events, expected_version=version + ahead, expected_hash=expected_hash),
            by_the_other=by_the_other,
        )

    @rule(appends=histories(migration="0003_legal", max_appends=5), number=st.integers(0, 99))
    def append_a_legal_history(self, appends: list[tuple[e.Event, ...]], number: int) -> None:
        stream = f"pair{number}/0003_legal"
        for events in appends:
            self._append(stream, events)

    @rule(key=texts(max_size=2) | st.sampled_from(["a", "b"]))
    def register_a_pair(self, key: str) -> None:
        known = self.all_answer_alike(lambda store: store.pair_of(key) is not None)
        for name, store in self.stores.items():
            pair = store.register_pair(key)
            assert (pair in self.pairs[name]) == known
            if not known:
                self.pairs[name].append(pair)
            assert store.pair_of(key) == pair
        # The ids differ from log to log; which key has which is the same.
        assert len({len(pairs) for pairs in self.pairs.values()}) == 1
        assert len({self.pairs[name].index(store.register_pair(key)) for name, store in self.stores.items()}) == 1
        assert all(store.knows_pair(pair) for name, store in self.stores.items() for pair in self.pairs[name])

    @rule()
    def reopen(self) -> None:
        self.close()
        self.open()

    @rule()
    def close(self) -> None:
        for store in (*self.stores.values(), *self.others.values()):
            store.close()

    @rule()
    def rebuild(self) -> None:
        self.all_answer_alike(lambda store: store.rebuild_rows())

    @rule(stream=STREAMS | texts(), after=st.integers(-2, 6))
    def read_from(self, stream: str, after: int) -> None:
        self.all_answer_alike(lambda store: store.read(stream, after=after))
        self.all_answer_alike(lambda store: list(store.read_all(after=after)))

    @invariant()
    def everything_reads_alike(self) -> None:
        if not hasattr(self, "stores"):
            return
        streams = self.all_answer_alike(lambda store: store.streams())
        assert isinstance(streams, list)
        self.all_answer_alike(lambda store: list(store.read_all()))
        self.all_answer_alike(lambda store: {stream: store.read(stream) for stream in streams})
        self.all_answer_alike(lambda store: {table: store.rows(table) for table in ROW_TYPES})

    def teardown(self) -> None:
        if not hasattr(self, "stores"):
            return
        self.all_answer_alike(lambda store: [(problem.code, str(problem)) for problem in check_log(store).problems])
        for log in self.logs.values():
            log.close()
        self.folder.cleanup()


StoresAgree.TestCase.settings = settings(max_examples=30, stateful_step_count=15, deadline=None)
TestStoresAgree = StoresAgree.TestCase
