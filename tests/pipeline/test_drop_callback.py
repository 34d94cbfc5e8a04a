"""The `on_drop` callback: what it receives, and that it can neither stop nor delay delivery."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gati import observe
from gati.events import Conversation, Event, Turn
from gati.exporters.base import DELIVERED, Outcome, Request, Verdict
from gati.pipeline import drop_callback
from gati.pipeline.codec import pack
from gati.pipeline.drop_callback import DropNotifier
from gati.pipeline.stats import Drop
from gati.trace.records import RunStarted
from tests.pipeline.kit import DOWN, FakeAssembler, FakeExporter, out_of_threads, record_turn, running, wait_until


@pytest.fixture(autouse=True)
def _short_rounds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(drop_callback, "GATHER_SECONDS", 0.01)
    yield
    wait_until(lambda: not drop_threads())


def drop_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "gati-on-drop"]


def test_a_rejected_message_is_reported(tmp_path: Path) -> None:
    exporter, drops = FakeExporter(), list[Drop]()
    exporter.answer = lambda request: Outcome(Verdict.REJECT, "400 bad")
    with running(tmp_path, exporter, on_drop=drops.append) as pipeline:
        record_turn(pipeline, "c", "x")
        pipeline.flush(20.0)
        wait_until(lambda: drops)
    assert drops == [Drop("400 bad", "rejected", 1, "fake", "c")]
    assert isinstance(drops[0], observe.Drop)


@pytest.mark.parametrize("on_full", ["oldest", "newest"])
def test_a_full_spool_is_reported_with_all_its_messages(tmp_path: Path, on_full: str) -> None:
    exporter, drops = FakeExporter(), list[Drop]()
    exporter.answer = lambda request: DOWN
    with running(
        tmp_path, exporter, patience=0.05, spool_max_bytes=200_000, on_full=on_full, on_drop=drops.append
    ) as pipeline:
        for n in range(30):
            record_turn(pipeline, f"c{n}", "x" * 20_000)
            pipeline.flush(0.02)
        lost = pipeline.stats().dropped["spool_full"]
        wait_until(lambda: sum(drop.messages for drop in drops) == lost)
    assert {(drop.kind, drop.reason, drop.destination) for drop in drops} == {("dropped", "spool_full", "fake")}
    # Only a call for a single message names a conversation here: each message has its own.
    assert all((drop.conversation_id is not None) == (drop.messages == 1) for drop in drops)


def test_a_paused_key_is_reported_once_until_it_works(tmp_path: Path) -> None:
    exporter, drops = FakeExporter(), list[Drop]()
    exporter.answer = lambda request: Outcome(Verdict.PAUSE, "401")
    with running(tmp_path, exporter, on_drop=drops.append) as pipeline:
        record_turn(pipeline, "c", "x")
        wait_until(lambda: exporter.attempts > 3)
        exporter.answer = lambda request: DELIVERED
        wait_until(lambda: pipeline.flush(20.0) and pipeline.stats().delivered == 1)  # an attempt may still be refused
        wait_until(lambda: bool(drops))  # the callback has a thread of its own
        assert drops == [Drop("401", "paused", 0, "fake", None)]
        exporter.answer = lambda request: Outcome(Verdict.PAUSE, "403")
        record_turn(pipeline, "c", "y")
        wait_until(lambda: len(drops) == 2)
        assert drops[1].reason == "403"
        exporter.answer = lambda request: DELIVERED


def test_turns_that_cannot_be_encoded_are_reported(tmp_path: Path) -> None:
    class Picky(FakeExporter):
        def encode(self, items: Any) -> list[Request]:
            raise ValueError("secret text")

    drops: list[Drop] = []
    with running(tmp_path, Picky(), flush_interval=3600, on_drop=drops.append) as pipeline:
        for n in range(3):
            record_turn(pipeline, f"c{n}", "x")
        pipeline.flush(20.0)
        wait_until(lambda: sum(drop.messages for drop in drops) == 3)
    assert {(drop.kind, drop.reason, drop.destination) for drop in drops} == {("dropped", "encode", "fake")}


def test_turns_that_a_full_buffer_interrupts_are_reported(tmp_path: Path) -> None:
    drops: list[Drop] = []
    started, go = threading.Event(), threading.Event()

    class Slow(FakeAssembler):
        def feed(self, records: Any) -> list[Any]:
            started.set()
            go.wait(20.0)
            return super().feed(records)

    with running(tmp_path, FakeExporter(), assembler=Slow, buffer_max_bytes=200_000, on_drop=drops.append) as pipeline:
        pipeline.put(RunStarted(uuid.uuid4(), None, "chain", "c", 1, "open"))
        started.wait(20.0)
        for n in range(1_000):
            record_turn(pipeline, "c", str(n))
        go.set()
        wait_until(lambda: not pipeline.stats().records_waiting)
        record_turn(pipeline, "c", "after the overload")
        pipeline.flush(20.0)
        wait_until(lambda: drops)
        lost = pipeline.stats().turns_dropped["buffer_full"]
    assert drops == [Drop("buffer_full", "dropped", lost, "", None)]


@pytest.mark.parametrize("raised", [ValueError("secret"), SystemExit(1), KeyboardInterrupt()])
def test_a_callback_that_raises_is_counted_and_called_again(
    tmp_path: Path, raised: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    exporter, calls = FakeExporter(), list[Drop]()
    exporter.answer = lambda request: Outcome(Verdict.REJECT, "no")

    def on_drop(drop: Drop) -> None:
        calls.append(drop)
        raise raised

    with running(tmp_path, exporter, on_drop=on_drop) as pipeline:
        for n in range(1, 4):
            record_turn(pipeline, "c", "x")
            pipeline.flush(20.0)
            wait_until(lambda expected=n: sum(drop.messages for drop in calls) == expected)
        wait_until(lambda: not drop_threads())
        assert pipeline.stats().faults == {"on_drop": len(calls)}
    assert sum("on_drop" in line for line in caplog.messages) == 1
    assert "secret" not in caplog.text


def test_a_callback_that_blocks_delays_neither_delivery_nor_flush_nor_shutdown(tmp_path: Path) -> None:
    exporter, go, calls = FakeExporter(), threading.Event(), list[Drop]()
    exporter.answer = lambda request: Outcome(Verdict.REJECT, "no") if "bad" in str(request.body) else DELIVERED

    def on_drop(drop: Drop) -> None:
        calls.append(drop)
        go.wait(30.0)

    with running(tmp_path, exporter, connections=1, on_drop=on_drop) as pipeline:
        record_turn(pipeline, "c", "bad")
        wait_until(lambda: calls)
        for n in range(20):
            record_turn(pipeline, "c", str(n))
        assert pipeline.flush(20.0).delivered == 20
        record_turn(pipeline, "c", "bad")
        pipeline.flush(20.0)
        began = time.monotonic()
        pipeline.shutdown(20.0)
        assert time.monotonic() - began < 10
    go.set()
    wait_until(lambda: not drop_threads())
    assert len(calls) == 1  # the second drop was pending when shutdown returned


def test_the_callback_is_called_before_shutdown_returns_and_not_after(tmp_path: Path) -> None:
    exporter, calls = FakeExporter(), list[Drop]()
    exporter.answer = lambda request: Outcome(Verdict.REJECT, "no")
    with running(tmp_path, exporter, on_drop=calls.append) as pipeline:
        record_turn(pipeline, "c", "x")
        pipeline.shutdown(20.0)
        assert [drop.reason for drop in calls] == ["no"]
        record_turn(pipeline, "c", "too late")
        time.sleep(0.05)
        assert len(calls) == 1
    assert drop_threads() == []


def test_the_callback_runs_outside_of_the_program_s_threads_and_our_locks(tmp_path: Path) -> None:
    exporter, results = FakeExporter(), list[Any]()
    exporter.answer = lambda request: Outcome(Verdict.REJECT, "no")

    def on_drop(drop: Drop) -> None:
        # Each would wait forever or time out if the callback held a lock that it needs.
        results.append((threading.current_thread().name, pipeline.flush(20.0).timed_out, pipeline.stats().rejected))

    with running(tmp_path, exporter, on_drop=on_drop) as pipeline:
        record_turn(pipeline, "c", "x")
        pipeline.flush(20.0)
        wait_until(lambda: results)
        assert results == [("gati-on-drop", False, 1)]


def test_the_callback_may_shut_down(tmp_path: Path) -> None:
    exporter, results = FakeExporter(), list[Any]()
    exporter.answer = lambda request: Outcome(Verdict.PAUSE, "401")
    with running(tmp_path, exporter, on_drop=lambda drop: results.append(pipeline.shutdown(20.0))) as pipeline:
        record_turn(pipeline, "c", "x")
        wait_until(lambda: results)
    assert not results[0].timed_out


def test_equal_drops_of_a_round_become_one_call() -> None:
    go, calls = threading.Event(), list[Drop]()

    def on_drop(drop: Drop) -> None:
        calls.append(drop)
        go.wait(20.0)

    notifier = DropNotifier(on_drop)
    notifier.add("dropped", "first", 1)
    wait_until(lambda: calls)
    for n in range(100):
        notifier.add("dropped", "spool_full", 2, "fake", pack(Request("c", {}, 2, f"t{n}")))
        notifier.add("rejected", "no", 1, "fake", pack(Request(f"c{n}", {}, 1, "t")))
    go.set()
    wait_until(lambda: len(calls) == 3)
    assert calls[1:] == [Drop("spool_full", "dropped", 200, "fake", "c"), Drop("no", "rejected", 100, "fake", None)]


def test_pending_drops_are_bounded() -> None:
    go, calls = threading.Event(), list[Drop]()

    def on_drop(drop: Drop) -> None:
        calls.append(drop)
        go.wait(20.0)

    notifier = DropNotifier(on_drop)
    notifier.add("rejected", "first", 1)
    wait_until(lambda: calls)
    for n in range(5_000):
        notifier.add("rejected", f"reason {n}", 1, "fake")
    go.set()
    wait_until(lambda: sum(drop.messages for drop in calls) == 5_001)
    assert len(calls) == 2 + drop_callback.MAX_PENDING
    assert calls[-1] == Drop("various", "rejected", 4_000, "fake", None)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (None, None),
        (b"not json", None),
        (pack(Request("c", {"messages": []}, 1, "t")), "c"),
        (pack(Request("c", {"events": []}, 1, "t", "events")), "c"),
        (pack(Request("ratings/1", {"external_conversation_id": "c"}, 1, "t", "ratings")), "c"),
        (pack(Request("u", {"external_user_id": "u"}, 1, "t", "users")), None),
        (Turn("r", Conversation("c")), "c"),
        (Event(event_type="clicked", conversation_id="c"), "c"),
        (Event(event_type="clicked"), None),
    ],
)
def test_a_drop_names_its_conversation(source: Any, expected: str | None) -> None:
    calls: list[Drop] = []
    DropNotifier(calls.append).add("dropped", "why", 1, "fake", source)
    wait_until(lambda: calls)
    assert calls[0].conversation_id == expected


def test_without_a_callback_no_thread_is_started() -> None:
    DropNotifier().add("dropped", "why", 1)
    assert drop_threads() == []


def test_a_drop_is_kept_while_no_thread_can_be_started() -> None:
    calls: list[Drop] = []
    notifier = DropNotifier(calls.append)
    with out_of_threads():
        notifier.add("dropped", "why", 1, "fake")
    notifier.add("dropped", "why", 1, "fake")
    wait_until(lambda: calls)
    assert calls == [Drop("why", "dropped", 2, "fake", None)]
