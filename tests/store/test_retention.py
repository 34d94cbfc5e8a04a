"""Deletion by age: in small steps, once in a while, by whoever writes to the store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import pytest
from langchain_core.messages import AIMessage

from gati import observe
from gati.clock import Clock
from gati.errors import ConfigurationError
from gati.store import deletion, queries, retention
from gati.store.retention import Retention, RetentionThread
from gati.store.store import Store
from gati.testing import ScriptedChatModel
from tests.store.bodies import START, body, turn

DAY = 86_400_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "store.db")) as opened:
        yield opened


def now_ms() -> int:
    return (time.time_ns() // 1000 - START) // 1000


def fill(store: Store, days: int) -> None:
    """One conversation for each of the last days, the last one with two turns."""
    for day in range(days):
        store.ingest(body(f"c-{day}", *turn(f"r{day}", f"zebrafinch{day} here", when=now_ms() - day * DAY - 60_000)))
    store.ingest(body("c-0", *turn("r-old", "zebrafinch-old", when=now_ms() - 5 * DAY)))


def left(store: Store) -> list[str | None]:
    return [row.external_id for row in queries.list_conversations(store).conversations]


def run(old: Retention) -> int:
    steps = 0
    while old.step():
        steps += 1
        assert steps < 100
    return steps


def test_turns_are_deleted_by_age_in_steps_and_their_text_is_overwritten(store: Store, tmp_path: Path) -> None:
    fill(store, 6)
    with patch.object(retention, "_CHECK_SECONDS", 0.0):
        assert run(Retention(store, days=3)) >= 3
    assert left(store) == ["c-0", "c-1", "c-2"]
    assert len(queries.wire_messages(store, "c-0")) == 12
    found = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"zebrafinch-old" not in found
    assert b"zebrafinch5" not in found
    assert b"zebrafinch2" in found


def test_it_is_done_once_in_a_while_however_many_processes_there_are(store: Store) -> None:
    fill(store, 2)
    run(Retention(store, days=1))
    store.ingest(body("c-9", *turn("r9", when=now_ms() - DAY // 2)))
    with patch.object(deletion, "delete_some") as called:
        run(Retention(store, days=0.01))
        assert called.call_count == 0
    with patch.object(retention.time, "time", lambda: time.time_ns() / 1e9 + 86_400):
        run(Retention(store, days=1))
    assert left(store) == []


def test_what_is_too_old_when_it_arrives_stays_out(store: Store) -> None:
    run(Retention(store, days=3))
    fill(store, 6)
    assert left(store) == ["c-0", "c-1", "c-2"]


def test_the_process_looks_only_once_a_minute(store: Store) -> None:
    old = Retention(store, days=3)
    run(old)
    with patch.object(store.connections, "reading") as reading:
        assert not old.step()
        assert reading.call_count == 0
    with patch.object(Clock, "monotonic", lambda: time.monotonic() + 61):
        assert not old.step()


def test_a_store_that_is_locked_is_left_to_a_later_call(store: Store) -> None:
    fill(store, 6)
    with store.connections.writing(), patch.object(retention.Retention, "_is_due", side_effect=OSError):
        assert not Retention(store, days=3).step()
    assert len(left(store)) == 6


def test_a_program_deletes_what_is_older_than_its_option_says(store: Store) -> None:
    fill(store, 6)
    observe.init(local=store.path, retention=3)
    model = ScriptedChatModel(replies=[AIMessage("the answer")] * 8)
    for number in range(8):  # each write does one step
        with observe.conversation(f"new-{number}", user_id="ada"):
            model.invoke("question")
        assert observe.flush(timeout=20.0)
    assert {"c-3", "c-4", "c-5"}.isdisjoint(left(store))
    assert "new-7" in left(store)


def test_the_studio_deletes_in_a_thread(store: Store) -> None:
    fill(store, 6)
    thread = RetentionThread(store, days=3)
    while len(left(store)) > 3 or not _is_done(store):
        time.sleep(0.01)
    thread.stop()
    assert left(store) == ["c-0", "c-1", "c-2"]


def _is_done(store: Store) -> bool:
    with store.connections.reading() as db:
        return db.execute("SELECT 1 FROM counters WHERE name = 'retention'").fetchone() is not None


@pytest.mark.parametrize("days", [0, -1, 40_000, "soon"])
def test_a_retention_that_is_no_number_of_days_is_refused(days: float) -> None:
    with pytest.raises(ConfigurationError, match="retention"):
        observe.init(retention=days)
