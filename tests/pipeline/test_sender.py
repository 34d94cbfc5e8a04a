"""The number of sender threads: as many as needed, all connections during a flush."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from gati.pipeline.outbox import Outbox
from gati.pipeline.worker import Worker
from tests.pipeline.kit import FakeExporter, record_turn, running, wait_until


def senders() -> int:
    return sum(thread.name.startswith("gati-sender") for thread in threading.enumerate())


def test_one_thread_suffices_for_a_fast_destination(tmp_path: Path) -> None:
    exporter = FakeExporter()
    with running(tmp_path, exporter, connections=8, flush_interval=1.0, spool_seconds=0.01) as pipeline:
        for n in range(60):
            record_turn(pipeline, f"c{n}", "x")
        wait_until(lambda: exporter.total == 60)
        assert exporter.most_in_flight == 1


def test_all_connections_are_used_only_during_a_flush(tmp_path: Path) -> None:
    exporter = FakeExporter()
    exporter.gate.clear()
    with running(tmp_path, exporter, connections=4, flush_interval=0.05) as pipeline:
        for n in range(20):
            record_turn(pipeline, f"c{n}", "x")
        waiting = threading.Thread(target=pipeline.flush, args=(20.0,))
        waiting.start()
        wait_until(lambda: len(exporter.in_flight) == 4)
        exporter.gate.set()
        waiting.join()
        assert exporter.total == 20
        for n in range(200):
            record_turn(pipeline, f"d{n}", "y")
        wait_until(lambda: exporter.total == 220)
        wait_until(lambda: senders() < 4)


def test_a_slow_send_does_not_delay_others(tmp_path: Path) -> None:
    exporter = FakeExporter()
    exporter.gate.clear()
    with running(tmp_path, exporter, connections=2, flush_interval=0.05) as pipeline:
        record_turn(pipeline, "stuck", "x")
        wait_until(lambda: exporter.in_flight == {"stuck"})
        record_turn(pipeline, "other", "y")
        wait_until(lambda: exporter.in_flight == {"stuck", "other"})
        exporter.gate.set()
        wait_until(lambda: exporter.total == 2)


def test_a_shutdown_waits_for_the_sender_that_resolved_the_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    resolve = Worker.resolve_flushes

    def resolve_and_block(worker: Worker) -> None:
        resolve(worker)
        if threading.current_thread().name.startswith("gati-sender"):
            go.wait(20.0)

    monkeypatch.setattr(Worker, "resolve_flushes", resolve_and_block)
    monkeypatch.setattr("gati.pipeline.engine.JOIN_SECONDS", 20.0)
    with running(tmp_path, FakeExporter()) as pipeline:
        record_turn(pipeline, "c", "x")
        assert pipeline.flush(20.0).delivered == 1
        threading.Timer(0.1, go.set).start()
    assert senders() == 0


def test_a_shutdown_waits_for_a_sender_that_has_settled_its_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, first, settle = threading.Event(), threading.Lock(), Outbox.settle

    def settle_and_block(outbox: Outbox, queued: Any, outcome: Any, **more: Any) -> None:
        settle(outbox, queued, outcome, **more)
        if first.acquire(blocking=False):
            go.wait(20.0)

    monkeypatch.setattr(Outbox, "settle", settle_and_block)
    monkeypatch.setattr("gati.pipeline.engine.JOIN_SECONDS", 20.0)
    with running(tmp_path, FakeExporter()) as pipeline:
        for conversation in ("a", "b"):
            record_turn(pipeline, conversation, "x")
        assert pipeline.flush(20.0).delivered == 2
        threading.Timer(0.1, go.set).start()
    assert senders() == 0
