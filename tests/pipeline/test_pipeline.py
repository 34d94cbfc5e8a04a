from __future__ import annotations

import asyncio
import errno
import gc
import os
import threading
import time
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from gati.events import ChatMessage, Conversation, Turn
from gati.exporters.base import DELIVERED, Outcome, Request, Verdict
from gati.pipeline import internal_errors
from gati.pipeline.filesystem import spool_folder
from gati.pipeline.pipeline import Pipeline
from gati.trace.records import RunStarted
from tests.pipeline.kit import (
    DOWN,
    QUICK,
    FakeAssembler,
    FakeExporter,
    options,
    out_of_threads,
    record_turn,
    running,
    spool_files,
    wait_until,
)


def gati_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("gati-")]


def test_nothing_happens_before_the_first_record(tmp_path: Path) -> None:
    with running(tmp_path / "spool", FakeExporter()) as pipeline:
        pipeline.stats()
        assert gati_threads() == []
    assert not (tmp_path / "spool").exists()


def test_no_thread_is_left_after_shutdown(tmp_path: Path) -> None:
    with running(tmp_path, FakeExporter()) as pipeline:
        for n in range(20):
            record_turn(pipeline, f"c{n}", "x")
        pipeline.flush(20.0)
        assert gati_threads()
    assert gati_threads() == []


def test_records_are_delivered_without_a_flush(tmp_path: Path) -> None:
    exporter = FakeExporter()
    with running(tmp_path, exporter) as pipeline:
        record_turn(pipeline, "c", "x")
        wait_until(lambda: exporter.total == 1)


def test_records_are_spooled_at_once_and_sent_after_the_interval(tmp_path: Path) -> None:
    exporter = FakeExporter()
    with running(tmp_path, exporter, spool_seconds=0.01, flush_interval=3600) as pipeline:
        record_turn(pipeline, "c", "sent at once, since nothing was before")
        wait_until(lambda: pipeline.stats().delivered == 1)
        record_turn(pipeline, "c", "later")
        wait_until(lambda: pipeline.stats().spooled == 1)
        assert exporter.attempts == 1
        assert len(spool_files(tmp_path)) == 1
        assert pipeline.flush(20.0).delivered == 2
    assert exporter.total == 2


def test_records_of_a_program_that_pauses_are_spooled_at_once(tmp_path: Path) -> None:
    exporter = FakeExporter()
    with running(tmp_path, exporter, spool_seconds=3600, flush_interval=3600) as pipeline:
        record_turn(pipeline, "c", "sent at once, since nothing was before")
        wait_until(lambda: pipeline.stats().delivered == 1)
        record_turn(pipeline, "c", "the program waits for somebody now")
        wait_until(lambda: pipeline.stats().spooled == 1)


def test_several_destinations_receive_everything_independently(tmp_path: Path) -> None:
    stuck, healthy = FakeExporter("stuck"), FakeExporter("healthy")
    stuck.gate.clear()
    with running(tmp_path, stuck, healthy) as pipeline:
        for n in range(50):
            record_turn(pipeline, f"c{n}", "x")
        wait_until(lambda: healthy.total == 50)
        stuck.gate.set()
        assert pipeline.flush(20.0).delivered == 100
    assert stuck.total == 50


def test_a_flush_returns_in_time_when_the_destination_hangs(tmp_path: Path) -> None:
    exporter = FakeExporter()
    exporter.gate.clear()
    with running(tmp_path, exporter) as pipeline:
        record_turn(pipeline, "c", "x")
        began = time.monotonic()
        result = pipeline.flush(0.1)
        assert time.monotonic() - began < 5
        assert result.timed_out
        assert result.spooled == 1


def test_a_flush_does_not_wait_for_later_records(tmp_path: Path) -> None:
    exporter = FakeExporter()
    with running(tmp_path, exporter) as pipeline:

        def record_another(request: Request) -> Outcome:
            record_turn(pipeline, "noise", "x")  # so there is always a later record
            return DELIVERED

        exporter.answer = record_another
        for n in range(20):
            record_turn(pipeline, "c", str(n))
            assert not pipeline.flush(60.0).timed_out
            assert exporter.texts["c"][-1] == str(n)
        exporter.answer = lambda request: DELIVERED


async def test_aflush_does_not_block_the_event_loop(tmp_path: Path) -> None:
    exporter = FakeExporter()
    exporter.gate.clear()
    with running(tmp_path, exporter) as pipeline:
        record_turn(pipeline, "c", "x")
        waiting = asyncio.create_task(pipeline.aflush(20.0))
        for _ in range(10):
            await asyncio.sleep(0.005)
        assert not waiting.done()
        exporter.gate.set()
        assert (await waiting).delivered == 1


async def test_aflush_returns_after_its_timeout(tmp_path: Path) -> None:
    exporter = FakeExporter()
    exporter.answer = lambda request: DOWN
    with running(tmp_path, exporter, patience=0) as pipeline:
        record_turn(pipeline, "c", "x")
        result = await pipeline.aflush(0.1)
        assert result.timed_out
        assert result.spooled == 1
        waiting = asyncio.create_task(pipeline.aflush(20.0))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


def test_open_turns_are_counted_by_a_flush_and_delivered_by_a_shutdown(tmp_path: Path) -> None:
    import uuid

    exporter = FakeExporter()
    with running(tmp_path, exporter) as pipeline:
        pipeline.put(RunStarted(uuid.uuid4(), None, "chain", "c", 1, "never ended"))
        result = pipeline.flush(20.0)
        assert (result.turns_open, result.delivered) == (1, 0)
        assert pipeline.stats().turns_open == 1
        assert pipeline.shutdown(20.0).delivered == 1
    assert exporter.texts == {"c": ["never ended"]}


def test_a_second_shutdown_does_nothing_and_later_records_are_counted(tmp_path: Path) -> None:
    exporter = FakeExporter()
    with running(tmp_path, exporter) as pipeline:
        record_turn(pipeline, "c", "x")
        assert pipeline.shutdown(20.0).delivered == 1
        assert not pipeline.shutdown(20.0).timed_out
        assert not pipeline.flush(20.0).timed_out
        record_turn(pipeline, "c", "too late")
        stats = pipeline.stats()
        assert (stats.records, stats.records_refused, stats.records_waiting) == (4, 2, 0)
        assert exporter.closed == 1
    assert gati_threads() == []


def test_a_shutdown_leaves_undelivered_messages_to_the_next_process(tmp_path: Path) -> None:
    exporter = FakeExporter()
    exporter.answer = lambda request: DOWN
    with running(tmp_path, exporter) as pipeline:
        for n in range(100):
            record_turn(pipeline, f"c{n % 5}", str(n))
        assert pipeline.shutdown(0.1).spooled == 100
    later = FakeExporter()
    with running(tmp_path, later) as pipeline:
        assert pipeline.flush(20.0).delivered == 100
        assert pipeline.stats().recovered == 100
    assert all(later.texts[f"c{k}"] == [str(n) for n in range(100) if n % 5 == k] for k in range(5))


def test_messages_of_another_account_are_not_touched(tmp_path: Path) -> None:
    exporter = FakeExporter(account="first")
    exporter.answer = lambda request: DOWN
    with running(tmp_path, exporter, patience=0) as pipeline:
        record_turn(pipeline, "c", "x")
        pipeline.flush(0.05)
    other = FakeExporter(account="second")
    with running(tmp_path, other) as pipeline:
        assert pipeline.flush(20.0).delivered == 0
    assert other.attempts == 0


def test_a_durable_destination_needs_no_spool(tmp_path: Path) -> None:
    exporter = FakeExporter()
    exporter.durable = True
    with running(tmp_path / "spool", exporter) as pipeline:
        record_turn(pipeline, "c", "x")
        assert pipeline.flush(20.0).delivered == 1
    assert not (tmp_path / "spool").exists()


def test_overload_drops_whole_turns_and_counts_them(tmp_path: Path) -> None:
    import uuid

    exporter = FakeExporter()

    class Slow(FakeAssembler):
        held = threading.Event()

        def feed(self, records: Iterable[Any]) -> list[Any]:
            self.held.wait()
            return super().feed(records)

    with running(tmp_path, exporter, assembler=Slow, buffer_max_bytes=200_000) as pipeline:
        pipeline.put(RunStarted(uuid.uuid4(), None, "chain", "c", 1, "open"))
        for n in range(1_000):
            record_turn(pipeline, "c", str(n))
        Slow.held.set()
        wait_until(lambda: not pipeline.stats().records_waiting)
        record_turn(pipeline, "c", "after the flood")
        result = pipeline.flush(20.0)
        assert not result
        assert result.turns_dropped + result.delivered == 1_002
        stats = pipeline.stats()
        record_turn(pipeline, "c", "later")
        assert pipeline.flush(20.0)
        exporter.texts["c"].pop()
    assert stats.turns_dropped["buffer_full"] + stats.turns == stats.turns_begun == 1_002
    assert stats.records_refused > 1_000
    assert stats.records == 2_003
    assert exporter.texts["c"][-1] == "after the flood"
    assert stats.turns == stats.delivered == exporter.total


def test_a_turn_of_which_a_record_was_refused_is_dropped_even_if_no_record_follows(tmp_path: Path) -> None:
    import uuid

    exporter = FakeExporter()
    held = threading.Event()

    class Slow(FakeAssembler):
        def feed(self, records: Iterable[Any]) -> list[Any]:
            held.wait()
            return super().feed(records)

    with running(tmp_path, exporter, assembler=Slow, buffer_max_bytes=200_000) as pipeline:
        run_id = uuid.uuid4()
        pipeline.put(RunStarted(run_id, None, "chain", "c", 1, "torn"))
        while not pipeline.stats().records_refused:
            pipeline.put(RunStarted(uuid.uuid4(), run_id, "chain", "below", 1, "x" * 1000))
        held.set()
        result = pipeline.flush(20.0)
        assert not result
        assert result.turns_dropped == pipeline.stats().turns_dropped["buffer_full"]
        assert result.turns_open == 0
        pipeline.shutdown(20.0)
    assert exporter.total == 0


def test_records_wait_while_the_assembler_cannot_be_imported(tmp_path: Path) -> None:
    failures = [OSError(errno.EMFILE, "simulated"), OSError(errno.EMFILE, "simulated"), ImportError("simulated")]
    exporter = FakeExporter()

    class Unloadable(FakeAssembler):
        def load(self) -> None:
            if failures:
                raise failures.pop()

    with running(tmp_path, exporter, assembler=Unloadable) as pipeline:
        record_turn(pipeline, "c", "1")
        record_turn(pipeline, "c", "2")
        assert pipeline.flush(20.0)
    assert exporter.texts["c"] == ["1", "2"]
    assert internal_errors.counts() == {"worker.load": 3}


class Fragile(FakeAssembler):
    """Fails on some records. As the real assembler, it returns earlier items with the next call."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[Any] = []

    def feed(self, records: Iterable[Any]) -> list[Any]:
        for record in records:
            made = super().feed([record])
            if any("fragile" in str(run.inputs) for run in made):
                raise ZeroDivisionError
            self.done += made
        done, self.done = self.done, []
        return done


def test_an_error_in_the_assembler_loses_one_turn_and_is_counted(tmp_path: Path) -> None:
    exporter = FakeExporter()
    with running(tmp_path, exporter, assembler=Fragile) as pipeline:
        for text in ("a", "fragile", "b"):
            record_turn(pipeline, "c", text)
        result = pipeline.flush(20.0)
        assert (bool(result), result.faults, result.turns_dropped) == (False, 1, 1)
        assert exporter.texts["c"] == ["a", "b"]
        assert pipeline.stats().faults == {"assembler.feed": 1}
        assert pipeline.stats().turns_dropped == {"assembler": 1}


def test_an_item_that_cannot_be_encoded_does_not_lose_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Picky(FakeExporter):
        def encode(self, items: Any) -> list[Request]:
            if any("bad" in run.inputs for run in items):
                raise ValueError("secret text")
            return super().encode(items)

    exporter = Picky()
    with running(tmp_path, exporter, flush_interval=3600) as pipeline:
        for text in ("a", "bad", "b"):
            record_turn(pipeline, "c", text)
        assert not pipeline.flush(20.0)
        stats = pipeline.stats()
        assert stats.turns_dropped == {"encode": 1}
        assert (stats.turns, stats.delivered) == (3, 2)
    assert exporter.texts["c"] == ["a", "b"]
    assert "secret" not in caplog.text
    assert sum("exporter.encode" in line for line in caplog.messages) == 1


def test_texts_are_masked_before_they_are_spooled_or_sent(tmp_path: Path) -> None:
    exporter = FakeExporter()
    exporter.answer = lambda request: DOWN

    def mask(text: str, path: str, kind: str) -> str:
        if "fail" in text:
            raise RuntimeError(text)
        return text.replace("secret", "***")

    class TypedTurnAssembler(FakeAssembler):
        """Makes typed turns, since the mask works on those."""

        def feed(self, records: Iterable[Any]) -> list[Any]:
            return [
                Turn(str(run.run_id), Conversation(run.name), messages=[ChatMessage("m", "user", run.inputs, run.at)])
                for run in super().feed(records)
            ]

    exporter.encode = lambda turns: [  # type: ignore[method-assign]  # the kit's `encode` takes records
        Request(turn.conversation.id, {"messages": [{"content": turn.messages[0].text}]}, 1, turn.run_id)
        for turn in turns
    ]
    with running(tmp_path, exporter, mask=mask, assembler=TypedTurnAssembler) as pipeline:
        record_turn(pipeline, "c", "my secret")
        record_turn(pipeline, "c", "fail secret")
        pipeline.flush(0.1)
        on_disk = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert b"secret" not in on_disk
        assert pipeline.stats().mask_failures == 1
        exporter.answer = lambda request: DELIVERED
        pipeline.flush(20.0)
    assert exporter.texts["c"] == ["my ***", "[masked: the mask failed]"]


def test_a_flush_from_a_sender_thread_returns_at_once(tmp_path: Path) -> None:
    exporter = FakeExporter()
    results = []
    with running(tmp_path, exporter) as pipeline:

        def answer(request: Request) -> Outcome:
            results.append(pipeline.flush(60.0))
            return DELIVERED

        exporter.answer = answer
        record_turn(pipeline, "c", "x")
        assert pipeline.flush(20.0).delivered == 1
    assert not results[0].timed_out


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, MemoryError])
def test_an_exception_of_any_class_does_not_end_the_worker(tmp_path: Path, error: type[BaseException]) -> None:
    exporter = FakeExporter()

    class Deadly(FakeAssembler):
        def feed(self, records: Iterable[Any]) -> list[Any]:
            done = super().feed(records)
            if any(run.inputs == "die" for run in done):
                raise error
            return done

    with running(tmp_path, exporter, assembler=Deadly) as pipeline:
        record_turn(pipeline, "c", "die")
        result = pipeline.flush(20.0)
        assert (bool(result), result.turns_dropped) == (False, 1)
        record_turn(pipeline, "c", "live")
        assert pipeline.flush(20.0).delivered == 1


def test_a_pipeline_without_references_is_freed(tmp_path: Path) -> None:
    pipeline = Pipeline(FakeAssembler, [FakeExporter()], options=options(tmp_path), policy=QUICK)
    record_turn(pipeline, "c", "x")
    pipeline.shutdown(20.0)
    gone = weakref.ref(pipeline)
    del pipeline
    gc.collect()
    assert gone() is None


def test_the_log_has_at_most_one_line_a_minute_of_each_kind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    exporter = FakeExporter()
    exporter.answer = lambda request: Outcome(Verdict.RETRY, "503")
    with running(tmp_path, exporter, patience=0) as pipeline:
        for n in range(50):
            record_turn(pipeline, f"c{n}", "content")
        wait_until(lambda: exporter.attempts > 30)
    assert [line for line in caplog.messages if "503" in line] == [
        "fake could not be reached or is busy (503); retrying"
    ]
    assert "content" not in caplog.text


def test_the_spool_is_in_the_users_data_folder_by_default(tmp_path: Path) -> None:
    assert spool_folder(tmp_path) == tmp_path
    assert Path.home() in spool_folder(None).parents


@pytest.mark.skipif(os.name != "posix", reason="Windows takes no stack of any size")
def test_a_flush_delivers_in_its_own_thread_if_no_thread_can_be_started(tmp_path: Path) -> None:
    exporter = FakeExporter()
    with running(tmp_path, exporter) as pipeline:
        with out_of_threads():
            for n in range(3):
                record_turn(pipeline, f"c{n}", str(n))
            assert gati_threads() == []
            assert pipeline.flush(20.0).delivered == 3
        record_turn(pipeline, "c", "later")
        assert pipeline.flush(20.0).delivered == 1
    assert exporter.total == 4


def test_an_engine_that_cannot_be_created_is_not_retried_for_every_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = threading.Semaphore(0)

    def broken() -> Any:
        tries.release()
        raise OSError("no")

    monkeypatch.setattr("gati.pipeline.internal_errors.RAISE", False)
    pipeline = Pipeline(broken, [], options=options(tmp_path))
    for _ in range(10):
        record_turn(pipeline, "c1", "x")
        wait_until(lambda: "gati-worker" not in gati_threads())
    assert tries.acquire(timeout=20.0)
    assert not tries.acquire(blocking=False)
    assert pipeline.stats().records_waiting == 20


@pytest.mark.skipif(os.name != "posix", reason="Windows takes no stack of any size")
def test_a_program_that_is_out_of_threads_never_waits_for_a_send(tmp_path: Path) -> None:
    exporter = FakeExporter()
    with running(tmp_path, exporter) as pipeline:
        with out_of_threads():
            for n in range(3):
                record_turn(pipeline, "c", str(n))
            assert (exporter.attempts, pipeline.stats().records_waiting) == (0, 6)
        record_turn(pipeline, "c", "3")  # there are threads again
        wait_until(lambda: exporter.total == 4)
    assert exporter.texts == {"c": ["0", "1", "2", "3"]}


@pytest.mark.skipif(os.name != "posix", reason="Windows takes no stack of any size")
def test_a_pipeline_without_a_thread_delivers_at_shutdown(tmp_path: Path) -> None:
    exporter = FakeExporter()
    with running(tmp_path, exporter) as pipeline, out_of_threads():
        record_turn(pipeline, "c", "x")
        assert pipeline.shutdown(20.0).delivered == 1
    assert exporter.texts == {"c": ["x"]}


def test_with_eager_delivery_a_turn_is_sent_without_waiting_for_the_interval(tmp_path: Path) -> None:
    exporter = FakeExporter()
    with running(tmp_path, exporter, flush_interval=3600, eager=True) as pipeline:
        for n in range(3):
            record_turn(pipeline, "c", str(n))
            wait_until(lambda sent=n + 1: exporter.total == sent)


def test_with_eager_delivery_a_program_that_never_pauses_does_not_delay_a_turn(tmp_path: Path) -> None:
    exporter = FakeExporter()
    with running(tmp_path, exporter, flush_interval=3600, eager=True) as pipeline:
        record_turn(pipeline, "c", "loads what delivery needs")
        wait_until(lambda: exporter.total == 1)

        for _ in range(2_000):
            record_turn(pipeline, "c", "x")
            time.sleep(0.002)  # less than a pause
            if exporter.total > 1:
                break
        assert exporter.total > 1


def test_with_eager_delivery_a_flush_loads_what_the_first_turn_needs(tmp_path: Path) -> None:
    loaded: list[bool] = []

    class Loading(FakeAssembler):
        def load(self) -> None:
            loaded.append(True)

    with running(tmp_path, FakeExporter(), assembler=Loading, eager=True) as pipeline:
        assert pipeline.flush(20.0)
        assert loaded == [True]


def test_with_eager_delivery_a_slow_answer_does_not_delay_other_conversations(tmp_path: Path) -> None:
    exporter = FakeExporter()
    exporter.gate.clear()
    with running(tmp_path, exporter, flush_interval=3600, eager=True, connections=3) as pipeline:
        for n in range(3):
            record_turn(pipeline, f"c{n}", "x")
            wait_until(lambda started=n + 1: exporter.attempts == started)
        exporter.gate.set()
