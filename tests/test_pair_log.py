"""The pair's own stream: what is appended to it, when, and what the read tables make of it."""

from __future__ import annotations

from pathlib import Path

from twinstep.engine.pair_log import append_to_pair
from twinstep.engine.session import Settings, session
from twinstep.events import types as e
from twinstep.events.types import Recorded
from twinstep.migrations.memory_target import MemoryDatabase
from twinstep.stores.log_check import check_log
from twinstep.stores.memory import MemoryEventStore


def test_what_is_appended_to_the_pair_follows_what_is_there_and_is_told_to_the_listener(tmp_path: Path) -> None:
    log, told = MemoryEventStore(), list[Recorded]()
    settings = Settings(local=MemoryDatabase(), migrations=(), log=log, state_dir=tmp_path, on_event=told.append)
    with session(settings, {}, writes=True) as opened:
        assert append_to_pair(opened, []) == []
        first = append_to_pair(opened, [e.SyncChecked(conflicts=0), e.SyncChecked(conflicts=1)])
        second = append_to_pair(opened, [e.SyncChecked(conflicts=2)])
        assert [record.version for record in (*first, *second)] == [1, 2, 3]
        assert {record.stream for record in told} == {opened.pair}
    assert told == [*first, *second] == list(log.read_all())
    assert check_log(log).sound
