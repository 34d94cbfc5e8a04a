"""How many threads carry requests: as many as it takes, all when somebody waits."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from gati.pipeline.outbox import Outbox
from gati.pipeline.worker import Worker
from tests.pipeline.kit import Destination, running, say, until


def senders() -> int:
    return sum(thread.name.startswith("gati-sender") for thread in threading.enumerate())


def test_one_thread_suffices_where_the_destination_is_quick(tmp_path: Path) -> None:
    desk = Destination()
    with running(tmp_path, desk, connections=8, flush_interval=1.0, spool_seconds=0.01) as pipeline:
        for n in range(60):
            say(pipeline, f"c{n}", "x")
        until(lambda: desk.total == 60)
        assert desk.most_under_way == 1


def test_all_connections_are_used_when_somebody_waits_and_given_up_afterwards(tmp_path: Path) -> None:
    desk = Destination()
    desk.gate.clear()
    with running(tmp_path, desk, connections=4, flush_interval=0.05) as pipeline:
        for n in range(20):
            say(pipeline, f"c{n}", "x")
        waiting = threading.Thread(target=pipeline.flush, args=(20.0,))
        waiting.start()
        until(lambda: len(desk.in_flight) == 4)
        desk.gate.set()
        waiting.join()
        assert desk.total == 20
        for n in range(200):
            say(pipeline, f"d{n}", "y")
        until(lambda: desk.total == 220)
        until(lambda: senders() < 4)


def test_who_is_held_up_for_long_does_not_hold_up_the_others(tmp_path: Path) -> None:
    desk = Destination()
    desk.gate.clear()
    with running(tmp_path, desk, connections=2, flush_interval=0.05) as pipeline:
        say(pipeline, "stuck", "x")
        until(lambda: desk.in_flight == {"stuck"})
        say(pipeline, "other", "y")
        until(lambda: desk.in_flight == {"stuck", "other"})
        desk.gate.set()
        until(lambda: desk.total == 2)


def test_a_shutdown_waits_for_the_sender_that_told_of_the_last_delivery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    settled = Worker.resolve_flushes

    def told_and_held_up(worker: Worker) -> None:
        settled(worker)
        if threading.current_thread().name.startswith("gati-sender"):
            go.wait(20.0)

    monkeypatch.setattr(Worker, "resolve_flushes", told_and_held_up)
    monkeypatch.setattr("gati.pipeline.engine.JOIN_SECONDS", 20.0)
    with running(tmp_path, Destination()) as pipeline:
        say(pipeline, "c", "x")
        assert pipeline.flush(20.0).delivered == 1
        threading.Timer(0.1, go.set).start()
    assert senders() == 0


def test_a_shutdown_waits_for_a_sender_that_has_settled_while_another_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, first, settle = threading.Event(), threading.Lock(), Outbox.settle

    def settled_and_held_up(outbox: Outbox, queued: Any, outcome: Any) -> None:
        settle(outbox, queued, outcome)
        if first.acquire(blocking=False):
            go.wait(20.0)

    monkeypatch.setattr(Outbox, "settle", settled_and_held_up)
    monkeypatch.setattr("gati.pipeline.engine.JOIN_SECONDS", 20.0)
    with running(tmp_path, Destination()) as pipeline:
        for lane in ("a", "b"):
            say(pipeline, lane, "x")
        assert pipeline.flush(20.0).delivered == 2
        threading.Timer(0.1, go.set).start()
    assert senders() == 0
