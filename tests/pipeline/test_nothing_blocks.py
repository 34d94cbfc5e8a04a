"""A log handler, a mask, an exporter or a disk that hangs delays no flush, shutdown or fork beyond its deadline."""

from __future__ import annotations

import logging
import logging.handlers
import os
import subprocess
import sys
import threading
import time
import uuid
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gati.events import ChatMessage, Conversation, Turn
from gati.exporters.base import Outcome, Request, Verdict
from gati.pipeline import internal_errors, limited_exporter, limited_mask, time_limit
from gati.pipeline.limited_mask import LimitedMask
from gati.pipeline.mask import MARKER
from gati.pipeline.pipeline import Pipeline
from gati.pipeline.time_limit import CallTimeoutError, TimeLimit
from gati.trace.records import RunStarted
from tests.pipeline.kit import FakeAssembler, FakeExporter, options, record_turn, running, wait_until

HUNG = 3600.0


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Return an event that ends everything that hangs in a test."""
    event = threading.Event()
    yield event
    event.set()


def turn(text: str) -> Turn:
    return Turn("r", Conversation("c"), messages=[ChatMessage("m", "user", text, 1)])


def texts(masked: list[limited_mask.MaskedItem]) -> list[str]:
    return [one.item.messages[0].text for one in masked if isinstance(one.item, Turn)]


def test_a_log_handler_that_hangs_delays_neither_a_flush_nor_a_shutdown(
    tmp_path: Path, release: threading.Event
) -> None:
    class Hanging(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            release.wait(HUNG)

    handler, exporter = Hanging(), FakeExporter()
    exporter.answer = lambda request: Outcome(Verdict.PAUSE, "401")
    internal_errors.logger.addHandler(handler)
    try:
        with running(tmp_path, exporter, patience=1.0) as pipeline:
            record_turn(pipeline, "c", "x")
            assert pipeline.flush(1.0).spooled == 1
            assert pipeline.shutdown(1.0).spooled == 1
        assert not internal_errors.log.writer.drain(0.0)
        internal_errors.log.writer.let_go()
        assert handler.lock is not None
        assert handler.lock.acquire(blocking=False)  # `logging.shutdown` does not wait for it
    finally:
        internal_errors.logger.removeHandler(handler)
        release.set()


@pytest.mark.skipif(os.name != "posix", reason="Windows cannot tell whether a pipe is full")
def test_a_line_waits_until_a_full_pipe_is_read() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        pass
    os.set_blocking(writer, True)
    with os.fdopen(writer, "w") as stream, os.fdopen(reader, "rb") as unread:
        handler = logging.StreamHandler(stream)
        internal_errors.logger.addHandler(handler)
        try:
            internal_errors.log.emit("full", "the line")
            assert not internal_errors.log.writer.drain(0.1)
            assert handler.lock is not None
            assert handler.lock.acquire(blocking=False)
            handler.lock.release()
            unread.read1(1_000_000)
            assert internal_errors.log.writer.drain(20.0)
            assert b"the line" in unread.read1(1_000_000)
        finally:
            internal_errors.logger.removeHandler(handler)


def test_a_text_for_which_the_mask_hangs_is_replaced_and_the_others_are_masked(
    monkeypatch: pytest.MonkeyPatch, release: threading.Event
) -> None:
    monkeypatch.setattr(limited_mask, "MASK_SECONDS", 1.0)

    def mask(text: str, path: str, kind: str) -> str:
        if "slow" in text:
            release.wait(HUNG)
        return text.upper()

    masking = LimitedMask(mask)
    assert texts(masking.apply([turn("a"), turn("slow"), turn("b")])) == ["A", MARKER, "B"]
    calls = threading.active_count()
    assert texts(masking.apply([turn("slow"), turn("c")])) == [MARKER, "C"]
    assert threading.active_count() == calls  # it is not asked again


def test_a_mask_that_hangs_for_every_text_is_given_up(
    monkeypatch: pytest.MonkeyPatch, release: threading.Event
) -> None:
    monkeypatch.setattr(limited_mask, "MASK_SECONDS", 0.02)
    masking = LimitedMask(lambda text, path, kind: str(release.wait(HUNG)))
    masked = masking.apply([turn(f"text {n}") for n in range(20)])
    assert texts(masked) == [MARKER] * 20
    assert sum(one.failures for one in masked) == 20
    assert sum(thread.name == "gati-mask" for thread in threading.enumerate()) <= time_limit.MAX_HUNG_CALLS


def test_a_time_limit_returns_results_and_raises_what_the_function_raises() -> None:
    limit = TimeLimit("test")
    assert limit.call(lambda: 7, 20.0) == 7
    with pytest.raises(KeyError):
        limit.call(lambda: {}["x"], 20.0)


def test_a_function_is_called_again_after_one_of_its_calls_has_returned(release: threading.Event) -> None:
    limit = TimeLimit("test")
    for _ in range(time_limit.MAX_HUNG_CALLS + 2):
        with pytest.raises(CallTimeoutError):
            limit.call(lambda: release.wait(HUNG), 0.01)
    release.set()
    wait_until(lambda: all(thread.name != "gati-test" for thread in threading.enumerate()))
    assert limit.call(lambda: 1, 20.0) == 1


def test_an_exporter_whose_encode_hangs_does_not_hold_up_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: threading.Event
) -> None:
    monkeypatch.setattr(limited_exporter, "ENCODE_SECONDS", 0.05)

    class Hanging(FakeExporter):
        def encode(self, items: Any) -> list[Request]:
            release.wait(HUNG)
            return []

    hanging, healthy = Hanging("hanging"), FakeExporter("healthy")
    with running(tmp_path, hanging, healthy) as pipeline:
        record_turn(pipeline, "c", "x")
        result = pipeline.flush(20.0)
        assert (bool(result), result.turns_dropped, result.timed_out) == (False, 1, False)
        assert healthy.total == 1
        assert pipeline.stats().turns_dropped == {"encode": 1}


def test_a_shutdown_counts_what_a_hung_worker_leaves_behind(tmp_path: Path, release: threading.Event) -> None:
    class Hanging(FakeAssembler):
        def feed(self, records: Any) -> list[Any]:
            done = super().feed(list(records)[:1])
            release.wait(HUNG)
            return done

    with running(tmp_path, FakeExporter(), patience=0, assembler=Hanging) as pipeline:
        record_turn(pipeline, "c", "in the worker")
        wait_until(lambda: not pipeline.stats().records_waiting)
        for n in range(5):
            record_turn(pipeline, "c", str(n))
        result = pipeline.shutdown(0.1)
        assert (bool(result), result.timed_out) == (False, True)
        stats = pipeline.stats()
        assert stats.turns_dropped["shutdown"] >= 5
        assert (stats.records_waiting, stats.records_refused) == (0, 10)
        assert stats.balanced


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("method", ["close", "after_fork"])
def test_an_exporter_that_hangs_delays_neither_a_fork_nor_the_end_of_an_unused_pipeline(
    tmp_path: Path, release: threading.Event, method: str
) -> None:
    exporter = FakeExporter()
    exporter.__dict__[method] = lambda: release.wait(HUNG)
    with running(tmp_path, exporter, patience=0.1) as pipeline:
        child = os.fork()
        if child == 0:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        other = Pipeline(FakeAssembler, [exporter], options=options(tmp_path))
        other.retire(lambda: True)
        pipeline.finish(0.0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_an_exporter_is_notified_of_a_fork_before_its_next_call(tmp_path: Path) -> None:
    exporter, calls = FakeExporter(), list[str]()
    real = exporter.encode
    exporter.__dict__["after_fork"] = lambda: calls.append("after_fork")
    exporter.__dict__["encode"] = lambda items: (calls.append("encode"), real(items))[1]
    with running(tmp_path, exporter) as pipeline:
        record_turn(pipeline, "c", "parent")
        assert pipeline.flush(20.0)
        child = os.fork()
        if child == 0:
            calls.clear()
            record_turn(pipeline, "c", "child")
            delivered = pipeline.flush(20.0).delivered
            os._exit(calls.index("encode") * 10 + calls.count("after_fork") + 100 * (delivered != 1))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 11
        assert "after_fork" not in calls


def test_a_handler_that_passes_lines_to_one_that_hangs_does_not_keep_the_program_from_ending(
    release: threading.Event,
) -> None:
    entered = threading.Event()

    class Hanging(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            entered.set()
            release.wait(HUNG)

    target = Hanging()
    handler = logging.handlers.MemoryHandler(1, target=target)
    internal_errors.logger.addHandler(handler)
    try:
        internal_errors.log.emit("hanging", "the line")
        assert entered.wait(20.0)
        internal_errors.log.writer.let_go()
        logging.shutdown([weakref.ref(handler), weakref.ref(target)])
    finally:
        internal_errors.logger.removeHandler(handler)
        release.set()


def test_a_line_is_shortened_to_what_a_pipe_takes_at_once() -> None:
    lines = list[str]()

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler = Keeping()
    internal_errors.logger.addHandler(handler)
    try:
        internal_errors.log.emit("long", "%s", "ä" * 3000)
        assert internal_errors.log.writer.drain(20.0)
    finally:
        internal_errors.logger.removeHandler(handler)
    assert len(lines[0].encode()) < 4096
    assert lines[0].startswith("ääää")


def test_a_thread_of_the_program_may_have_any_name(tmp_path: Path) -> None:
    exporter, results = FakeExporter(), list[Any]()
    with running(tmp_path, exporter) as pipeline:
        record_turn(pipeline, "c", "x")
        thread = threading.Thread(target=lambda: results.append(pipeline.flush(20.0)), name="gati-users-own")
        thread.start()
        thread.join()
    assert results[0].delivered == 1


def test_a_shutdown_that_is_interrupted_goes_on_in_the_background(tmp_path: Path) -> None:
    exporter = FakeExporter()
    exporter.gate.clear()
    with running(tmp_path, exporter) as pipeline:
        record_turn(pipeline, "c", "x")
        pipeline.finish(20.0)  # as `shutdown`, without the wait
        exporter.gate.set()
        assert pipeline.shutdown(20.0).delivered == 1
        assert exporter.closed == 1


def test_a_retired_pipeline_ends_after_its_open_turns(tmp_path: Path) -> None:
    exporter, is_done = FakeExporter(), threading.Event()
    with running(tmp_path, exporter) as pipeline:
        run_id = uuid.uuid4()
        pipeline.put(RunStarted(run_id, None, "chain", "c", 1, "open"))
        pipeline.retire(is_done.is_set)
        wait_until(lambda: pipeline.stats().turns_open == 1)
        assert exporter.closed == 0
        from gati.trace.records import RunEnded

        pipeline.put(RunEnded(run_id, time.perf_counter_ns()))
        is_done.set()
        wait_until(lambda: exporter.closed)
    assert exporter.texts == {"c": ["open"]}


PROGRAM = """
import atexit, sys
from gati import observe
class AtTheEnd:
    def __del__(self, stats=observe.stats):
        print(type(stats()).__name__, flush=True)
observe.init(api_key="gf_x", base_url="http://127.0.0.1:9/v1", spool_dir=sys.argv[1], local=False, shutdown_timeout=0)
sys.modules["kept"] = kept = AtTheEnd()
atexit.register(lambda: print(observe.stats().balanced, flush=True))
"""


def test_stats_work_until_the_interpreters_end(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["True", "Stats"], done.stderr


UNRECORDED = """
import logging, threading
from gati.pipeline import internal_errors
entered = threading.Event()
class Hanging(logging.Handler):
    def emit(self, record):
        entered.set()
        threading.Event().wait()
logging.getLogger().addHandler(Hanging())
internal_errors.log.emit("kind", "a line of a program without init, for example about a prompt")
assert entered.wait(60)
"""


def test_a_log_handler_that_hangs_does_not_keep_a_program_without_init_from_ending() -> None:
    subprocess.run([sys.executable, "-c", UNRECORDED], check=True, timeout=120)
