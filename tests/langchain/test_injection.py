"""Attaching the handler to every run of the process, and detaching it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.callbacks import BaseCallbackHandler, CallbackManager
from langchain_core.tracers import context

from gati import observe
from gati.langchain import injection
from gati.langchain.callback import handler


@pytest.fixture(autouse=True)
def _off_again() -> Iterator[None]:
    yield
    injection.switch_off()


def attached() -> int:
    """Return how many times the handler is attached to a new run."""
    return CallbackManager.configure().handlers.count(handler)


def test_the_handler_is_attached_to_all_runs_until_switched_off():
    assert attached() == 0
    injection.switch_on()
    assert attached() == 1
    injection.switch_off()
    assert attached() == 0


def test_switching_on_again_does_not_register_another_hook():
    injection.switch_on()
    hooks = len(context._configure_hooks)
    for _ in range(3):
        injection.switch_off()
        injection.switch_on()
    assert len(context._configure_hooks) == hooks
    assert attached() == 1


def test_the_handler_is_attached_once_if_it_is_also_passed():
    injection.switch_on()
    for given in ([handler], [BaseCallbackHandler(), handler]):
        assert CallbackManager.configure(inheritable_callbacks=given).handlers.count(handler) == 1
        assert CallbackManager.configure(local_callbacks=given).handlers.count(handler) == 1


def test_the_handler_reaches_threads_and_loops_that_already_run():
    gate, counts = threading.Event(), list[int]()

    def older() -> None:
        gate.wait(10)
        counts.append(attached())

    thread = threading.Thread(target=older)
    thread.start()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: None).result()
        injection.switch_on()
        gate.set()
        thread.join(10)
        counts.append(pool.submit(attached).result())

    async def in_loop() -> int:
        return attached()

    counts.append(asyncio.run(in_loop()))
    assert counts == [1, 1, 1]


def test_a_pause_applies_to_its_context_only():
    injection.switch_on()
    with observe.paused():
        assert attached() == 0
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(attached).result() == 1
    assert attached() == 1
