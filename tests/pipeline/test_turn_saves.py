"""Waiting for the spool at the end of a turn: only in processes that may end without exit hooks, and briefly."""

from __future__ import annotations

import asyncio
import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from gati._context import mark_own_thread
from gati.pipeline import child_process, process_hooks, turn_saves
from gati.pipeline.turn_saves import TurnSaves


class Saves(list[float]):
    """Records the longest waits that were asked for."""

    def __call__(self, seconds: float, load_until: float) -> None:
        self.append(seconds)


@pytest.fixture
def in_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_saves, "may_skip_exit_hooks", lambda: True)


def saver(save: Any, *, has_spool: bool = True) -> TurnSaves:
    turns = TurnSaves(save, has_spool=has_spool)
    turns.decide()
    return turns


def test_an_ordinary_process_never_waits() -> None:
    turns = saver(pytest.fail)
    turns.save()
    assert not turns.active
    assert not child_process.may_skip_exit_hooks()


def test_without_a_spool_there_is_nothing_to_wait_for(in_a_job: None) -> None:
    saver(pytest.fail, has_spool=False).save()


def test_a_turn_waits_at_most_50_ms_for_the_disk(in_a_job: None) -> None:
    waits = Saves()
    saver(waits).save()
    assert waits == [0.05]


def test_gatis_own_threads_do_not_wait(in_a_job: None) -> None:
    import contextvars

    def run() -> None:
        mark_own_thread()
        saver(pytest.fail).save()

    contextvars.copy_context().run(run)


def test_a_running_event_loop_is_not_blocked_but_its_end_waits(in_a_job: None) -> None:
    waits = Saves()
    turns = saver(waits)

    async def work() -> list[float]:
        turns.save()
        turns.save()
        await asyncio.sleep(0)
        return list(waits)

    assert asyncio.run(work()) == []
    assert waits == [0.05]
    asyncio.run(work())
    assert waits == [0.05, 0.05]


def test_a_loop_that_is_never_shut_down_is_forgotten_with_the_next(in_a_job: None) -> None:
    waits = Saves()
    turns = saver(waits)

    async def work() -> None:
        turns.save()

    first = asyncio.new_event_loop()
    first.run_until_complete(work())
    first.close()
    asyncio.run(work())
    assert waits == [0.05]


def test_an_asynchronous_job_of_rq_waits_when_its_task_has_ended(
    in_a_job: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rq", SimpleNamespace())  # type: ignore[arg-type]  # any module
    monkeypatch.setenv("RQ_JOB_ID", "1")
    waits = Saves()
    turns = saver(waits)

    async def work() -> list[float]:
        turns.save()
        return list(waits)

    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(work()) == []
    assert waits == [0.05]
    loop.close()


def test_children_are_recognized_without_importing_their_library(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {
        "multiprocessing.process": SimpleNamespace(parent_process=lambda: object()),
        "billiard.process": SimpleNamespace(current_process=lambda: SimpleNamespace(daemon=True)),
    }
    for name, module in modules.items():
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, module)  # type: ignore[arg-type]  # any module
            assert child_process.may_skip_exit_hooks(), name
    monkeypatch.setenv("RQ_JOB_ID", "1")
    assert child_process.is_rq_job() == ("rq" in sys.modules)


def test_a_forked_process_waits_unless_its_server_runs_exit_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_hooks, "_is_forked", True)
    monkeypatch.delitem(sys.modules, "gunicorn.workers.base", raising=False)
    assert child_process.may_skip_exit_hooks()
    monkeypatch.setitem(sys.modules, "gunicorn.workers.base", SimpleNamespace())  # type: ignore[arg-type]  # any module
    assert not child_process.may_skip_exit_hooks()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_knows_that_it_was_forked_and_its_parent_counts() -> None:
    before = process_hooks.forks()
    child = os.fork()
    if child == 0:
        os._exit(0 if process_hooks.is_forked() and process_hooks.forks() == 0 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert process_hooks.forks() == before + 1
    assert not process_hooks.is_forked()
