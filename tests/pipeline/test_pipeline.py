from __future__ import annotations

import asyncio
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
from gati.pipeline.engine import spool_folder
from gati.pipeline.pipeline import Pipeline
from gati.trace.records import Record, RunStarted
from tests.pipeline.kit import DOWN, QUICK, Destination, Turns, files, options, out_of_threads, running, say, until


def ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("gati-")]


def test_nothing_happens_before_the_first_record(tmp_path: Path) -> None:
    with running(tmp_path / "spool", Destination()) as pipeline:
        pipeline.stats()
        assert ours() == []
    assert not (tmp_path / "spool").exists()


def test_no_thread_is_left_after_shutdown(tmp_path: Path) -> None:
    with running(tmp_path, Destination()) as pipeline:
        for n in range(20):
            say(pipeline, f"c{n}", "x")
        pipeline.flush(20.0)
        assert ours()
    assert ours() == []


def test_what_is_recorded_is_delivered_without_being_asked(tmp_path: Path) -> None:
    desk = Destination()
    with running(tmp_path, desk) as pipeline:
        say(pipeline, "c", "x")
        until(lambda: desk.total == 1)


def test_what_is_recorded_is_on_disk_at_once_and_sent_at_the_next_look(tmp_path: Path) -> None:
    desk = Destination()
    with running(tmp_path, desk, spool_seconds=0.01, flush_interval=3600) as pipeline:
        say(pipeline, "c", "sent at once, since nothing was before")
        until(lambda: desk.total == 1)
        say(pipeline, "c", "later")
        until(lambda: pipeline.stats().spooled == 1)
        assert desk.attempts == 1
        assert len(files(tmp_path)) == 1
        assert pipeline.flush(20.0).delivered == 2
    assert desk.total == 2


def test_a_program_that_pauses_is_on_disk_long_before_the_longest_wait(tmp_path: Path) -> None:
    desk = Destination()
    with running(tmp_path, desk, spool_seconds=3600, flush_interval=3600) as pipeline:
        say(pipeline, "c", "sent at once, since nothing was before")
        until(lambda: desk.total == 1)
        say(pipeline, "c", "the program waits for somebody now")
        until(lambda: pipeline.stats().spooled == 1)


def test_several_destinations_get_everything_and_do_not_wait_for_each_other(tmp_path: Path) -> None:
    stuck, well = Destination("stuck"), Destination("well")
    stuck.gate.clear()
    with running(tmp_path, stuck, well) as pipeline:
        for n in range(50):
            say(pipeline, f"c{n}", "x")
        until(lambda: well.total == 50)
        stuck.gate.set()
        assert pipeline.flush(20.0).delivered == 100
    assert stuck.total == 50


def test_a_flush_returns_in_time_when_the_destination_hangs(tmp_path: Path) -> None:
    desk = Destination()
    desk.gate.clear()
    with running(tmp_path, desk) as pipeline:
        say(pipeline, "c", "x")
        began = time.monotonic()
        result = pipeline.flush(0.1)
        assert time.monotonic() - began < 5
        assert result.timed_out
        assert result.spooled == 1


def test_a_flush_does_not_wait_for_what_is_recorded_after_it_began(tmp_path: Path) -> None:
    desk = Destination()
    stop = threading.Event()
    with running(tmp_path, desk) as pipeline:

        def talk() -> None:
            while not stop.is_set():
                say(pipeline, "noise", "x")
                time.sleep(0.0002)

        thread = threading.Thread(target=talk)
        thread.start()
        try:
            for n in range(20):
                say(pipeline, "c", str(n))
                assert not pipeline.flush(20.0).timed_out
                assert desk.texts["c"][-1] == str(n)
        finally:
            stop.set()
            thread.join()


async def test_a_flush_can_be_awaited_while_the_loop_goes_on(tmp_path: Path) -> None:
    desk = Destination()
    desk.gate.clear()
    with running(tmp_path, desk) as pipeline:
        say(pipeline, "c", "x")
        waiting = asyncio.create_task(pipeline.aflush(20.0))
        for _ in range(10):
            await asyncio.sleep(0.005)
        assert not waiting.done()
        desk.gate.set()
        assert (await waiting).delivered == 1


async def test_an_awaited_flush_keeps_its_time(tmp_path: Path) -> None:
    desk = Destination()
    desk.answer = lambda request: DOWN
    with running(tmp_path, desk, patience=0) as pipeline:
        say(pipeline, "c", "x")
        result = await pipeline.aflush(0.1)
        assert result.timed_out
        assert result.spooled == 1
        waiting = asyncio.create_task(pipeline.aflush(20.0))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


def test_open_turns_are_told_by_a_flush_and_delivered_by_a_shutdown(tmp_path: Path) -> None:
    import uuid

    desk = Destination()
    with running(tmp_path, desk) as pipeline:
        pipeline.put(RunStarted(uuid.uuid4(), None, "chain", "c", 1, "never ended"))
        result = pipeline.flush(20.0)
        assert (result.turns_open, result.delivered) == (1, 0)
        assert pipeline.stats().turns_open == 1
        assert pipeline.shutdown(20.0).delivered == 1
    assert desk.texts == {"c": ["never ended"]}


def test_a_second_shutdown_changes_nothing_and_later_records_are_counted(tmp_path: Path) -> None:
    desk = Destination()
    with running(tmp_path, desk) as pipeline:
        say(pipeline, "c", "x")
        assert pipeline.shutdown(20.0).delivered == 1
        assert not pipeline.shutdown(20.0).timed_out
        assert not pipeline.flush(20.0).timed_out
        say(pipeline, "c", "too late")
        stats = pipeline.stats()
        assert (stats.records, stats.records_refused, stats.records_waiting) == (4, 2, 0)
        assert desk.closed == 1
    assert ours() == []


def test_a_shutdown_leaves_what_it_cannot_deliver_to_the_next(tmp_path: Path) -> None:
    desk = Destination()
    desk.answer = lambda request: DOWN
    with running(tmp_path, desk) as pipeline:
        for n in range(100):
            say(pipeline, f"c{n % 5}", str(n))
        assert pipeline.shutdown(0.1).spooled == 100
    later = Destination()
    with running(tmp_path, later) as pipeline:
        assert pipeline.flush(20.0).delivered == 100
        assert pipeline.stats().recovered == 100
    assert all(later.texts[f"c{k}"] == [str(n) for n in range(100) if n % 5 == k] for k in range(5))


def test_what_another_account_left_is_not_touched(tmp_path: Path) -> None:
    desk = Destination(account="first")
    desk.answer = lambda request: DOWN
    with running(tmp_path, desk, patience=0) as pipeline:
        say(pipeline, "c", "x")
        pipeline.flush(0.05)
    other = Destination(account="second")
    with running(tmp_path, other) as pipeline:
        assert pipeline.flush(20.0).delivered == 0
    assert other.attempts == 0


def test_a_durable_destination_needs_no_spool(tmp_path: Path) -> None:
    desk = Destination()
    desk.durable = True
    with running(tmp_path / "spool", desk) as pipeline:
        say(pipeline, "c", "x")
        assert pipeline.flush(20.0).delivered == 1
    assert not (tmp_path / "spool").exists()


def test_overload_drops_whole_turns_and_counts_them(tmp_path: Path) -> None:
    import uuid

    desk = Destination()

    class Slow(Turns):
        held = threading.Event()

        def feed(self, records: Iterable[Record]) -> list[Any]:
            self.held.wait()
            return super().feed(records)

    with running(tmp_path, desk, assembler=Slow, buffer_max_bytes=200_000) as pipeline:
        pipeline.put(RunStarted(uuid.uuid4(), None, "chain", "c", 1, "open"))
        for n in range(1_000):
            say(pipeline, "c", str(n))
        Slow.held.set()
        until(lambda: not pipeline.stats().records_waiting)
        say(pipeline, "c", "after the flood")
        assert pipeline.flush(20.0)
        stats = pipeline.stats()
    # The one that was open, and perhaps one whose end was the first to be refused.
    assert stats.turns_dropped["buffer_full"] in (1, 2)
    assert stats.records_refused > 1_000
    assert stats.records == 2_003
    assert desk.texts["c"][-1] == "after the flood"
    assert stats.turns == stats.delivered == desk.total


class Fragile(Turns):
    """Fails on some records; what it had done before comes with the next ones, as of the real one."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[Any] = []

    def feed(self, records: Iterable[Record]) -> list[Any]:
        for record in records:
            made = super().feed([record])
            if any("fragile" in str(run.inputs) for run in made):
                raise ZeroDivisionError
            self.done += made
        done, self.done = self.done, []
        return done


def test_a_fault_in_the_assembler_costs_one_turn_and_is_counted(tmp_path: Path) -> None:
    desk = Destination()
    with running(tmp_path, desk, assembler=Fragile) as pipeline:
        for text in ("a", "fragile", "b"):
            say(pipeline, "c", text)
        pipeline.flush(20.0)
        assert desk.texts["c"] == ["a", "b"]
        assert pipeline.stats().faults == {"assembler.feed": 1}


def test_an_item_that_cannot_be_encoded_costs_only_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Picky(Destination):
        def encode(self, items: Any) -> list[Request]:
            if any("bad" in run.inputs for run in items):
                raise ValueError("secret text")
            return super().encode(items)

    desk = Picky()
    with running(tmp_path, desk, flush_interval=3600) as pipeline:
        for text in ("a", "bad", "b"):
            say(pipeline, "c", text)
        pipeline.flush(20.0)
        stats = pipeline.stats()
        assert stats.turns_dropped == {"encode": 1}
        assert (stats.turns, stats.delivered) == (3, 2)
    assert desk.texts["c"] == ["a", "b"]
    assert "secret" not in caplog.text
    assert sum("exporter.encode" in line for line in caplog.messages) == 1


def test_the_mask_sees_every_text_before_disk_and_wire(tmp_path: Path) -> None:
    desk = Destination()
    desk.answer = lambda request: DOWN

    def mask(text: str, path: str, kind: str) -> str:
        if "fail" in text:
            raise RuntimeError(text)
        return text.replace("secret", "***")

    class RealTurns(Turns):
        """Makes turns as the contract knows them, since the mask works on those."""

        def feed(self, records: Iterable[Record]) -> list[Any]:
            return [
                Turn(str(run.run_id), Conversation(run.name), messages=[ChatMessage("m", "user", run.inputs, run.at)])
                for run in super().feed(records)
            ]

    desk.encode = lambda turns: [  # type: ignore[method-assign]  # the kit's own encodes its records
        Request(turn.conversation.id, {"messages": [{"content": turn.messages[0].text}]}, 1, turn.run_id)
        for turn in turns
    ]
    with running(tmp_path, desk, mask=mask, assembler=RealTurns) as pipeline:
        say(pipeline, "c", "my secret")
        say(pipeline, "c", "fail secret")
        pipeline.flush(0.1)
        on_disk = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert b"secret" not in on_disk
        assert pipeline.stats().mask_failures == 1
        desk.answer = lambda request: DELIVERED
        pipeline.flush(20.0)
    assert desk.texts["c"] == ["my ***", "[masked: the mask failed]"]


def test_a_flush_from_inside_the_pipeline_does_not_wait_for_itself(tmp_path: Path) -> None:
    desk = Destination()
    results = []
    with running(tmp_path, desk) as pipeline:

        def answer(request: Request) -> Outcome:
            results.append(pipeline.flush(60.0))
            return DELIVERED

        desk.answer = answer
        say(pipeline, "c", "x")
        assert pipeline.flush(20.0).delivered == 1
    assert not results[0].timed_out


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_that_died_is_started_again(tmp_path: Path) -> None:
    desk = Destination()

    class Deadly(Turns):
        def feed(self, records: Iterable[Record]) -> list[Any]:
            done = super().feed(records)
            if any(run.inputs == "die" for run in done):
                raise SystemExit
            return done

    with running(tmp_path, desk, assembler=Deadly) as pipeline:
        say(pipeline, "c", "die")
        until(lambda: "gati-worker" not in ours())
        say(pipeline, "c", "live")
        assert pipeline.flush(20.0).delivered == 1


def test_a_forgotten_pipeline_is_freed(tmp_path: Path) -> None:
    pipeline = Pipeline(Turns, [Destination()], options=options(tmp_path), policy=QUICK)
    say(pipeline, "c", "x")
    pipeline.shutdown(20.0)
    gone = weakref.ref(pipeline)
    del pipeline
    gc.collect()
    assert gone() is None


def test_the_log_has_one_line_a_minute_of_each_kind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    desk = Destination()
    desk.answer = lambda request: Outcome(Verdict.RETRY, "503")
    with running(tmp_path, desk, patience=0) as pipeline:
        for n in range(50):
            say(pipeline, f"c{n}", "content")
        until(lambda: desk.attempts > 30)
    assert [line for line in caplog.messages if "503" in line] == [
        "desk could not be reached or is busy (503); retrying"
    ]
    assert "content" not in caplog.text


def test_the_spool_is_in_the_user_s_data_folder_unless_told_otherwise(tmp_path: Path) -> None:
    assert spool_folder(tmp_path) == tmp_path
    assert Path.home() in spool_folder(None).parents


@pytest.mark.skipif(os.name != "posix", reason="Windows takes no stack of any size")
def test_where_no_more_threads_can_be_started_a_flush_delivers_by_itself(tmp_path: Path) -> None:
    desk = Destination()
    with running(tmp_path, desk) as pipeline:
        with out_of_threads():
            for n in range(3):
                say(pipeline, f"c{n}", str(n))
            assert ours() == []
            assert pipeline.flush(20.0).delivered == 3
        say(pipeline, "c", "later")
        assert pipeline.flush(20.0).delivered == 1
    assert desk.total == 4


def test_an_engine_that_cannot_be_made_is_not_tried_with_every_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = threading.Semaphore(0)

    def broken() -> Any:
        tries.release()
        raise OSError("no")

    monkeypatch.setattr("gati.pipeline.internal_errors.RAISE", False)
    pipeline = Pipeline(broken, [], options=options(tmp_path))
    for _ in range(10):
        say(pipeline, "c1", "x")
        until(lambda: "gati-worker" not in ours())
    assert tries.acquire(timeout=20.0)
    assert not tries.acquire(blocking=False)
    assert pipeline.stats().records_waiting == 20


@pytest.mark.skipif(os.name != "posix", reason="Windows takes no stack of any size")
def test_a_program_that_is_merely_out_of_threads_never_waits_for_a_send(tmp_path: Path) -> None:
    desk = Destination()
    with running(tmp_path, desk) as pipeline:
        with out_of_threads():
            for n in range(3):
                say(pipeline, "c", str(n))
            assert (desk.attempts, pipeline.stats().records_waiting) == (0, 6)
        say(pipeline, "c", "3")  # there are threads again
        until(lambda: desk.total == 4)
    assert desk.texts == {"c": ["0", "1", "2", "3"]}


@pytest.mark.skipif(os.name != "posix", reason="Windows takes no stack of any size")
def test_a_pipeline_that_never_had_a_thread_delivers_when_it_is_shut_down(tmp_path: Path) -> None:
    desk = Destination()
    with running(tmp_path, desk) as pipeline, out_of_threads():
        say(pipeline, "c", "x")
        assert pipeline.shutdown(20.0).delivered == 1
    assert desk.texts == {"c": ["x"]}
