"""Relays in processes of their own, which are killed, stopped for a while, and asked to end."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress

from gati.testing.server import fault_injection
from tests.pipeline.kit import wait_until
from tests.relay import kit
from tests.relay.kit import Queue
from tests.servers import LocalServer

KILLS = int(os.environ.get("GATI_FLEET_KILLS", "4"))
"""Kills of relays for each engine."""


def is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def test_relays_that_are_killed_lose_and_reorder_nothing(
    queue: Queue, greenflash: LocalServer, start_relay: Callable[[], int]
):
    greenflash.faults.add(fault_injection.slow(0.005, times=None))
    published = kit.turns([f"c{number}" for number in range(20)], 5 * KILLS)
    queue.publish(published)
    chance = random.Random(1)
    relays = [start_relay(), start_relay()]
    for _ in range(KILLS):
        before = len(greenflash.requests)
        wait_until(lambda before=before: len(greenflash.requests) > before + 10, 60)  # type: ignore[misc]  # bound now
        os.kill(relays.pop(chance.randrange(2)), signal.SIGKILL)
        relays.append(start_relay())
    wait_until(lambda: not kit.missing(greenflash, published), 120)
    kit.assert_in_order(greenflash)
    # What was in flight, and what was not settled within 200 ms, for each kill.
    assert kit.repeated(greenflash) <= KILLS * 2 * 60


def test_a_relay_that_was_stopped_and_continues_sends_nothing_that_others_own(
    queue: Queue, greenflash: LocalServer, start_relay: Callable[[], int]
):
    greenflash.faults.add(fault_injection.slow(0.005, times=None))
    published = kit.turns([f"c{number}" for number in range(20)], 20)
    queue.publish(published)
    stopped = start_relay()
    wait_until(lambda: len(greenflash.requests) > 20, 60)
    os.kill(stopped, signal.SIGSTOP)
    start_relay()
    wait_until(lambda: not kit.missing(greenflash, published), 60)
    repeated = kit.repeated(greenflash)
    assert repeated <= 2 * 60
    os.kill(stopped, signal.SIGCONT)
    more = kit.turns([f"d{number}" for number in range(20)], 2)
    queue.publish(more)
    wait_until(lambda: not kit.missing(greenflash, more), 60)
    kit.assert_in_order(greenflash)
    # Only what was being sent when it was stopped may arrive once more.
    assert kit.repeated(greenflash) <= repeated + 2 * 4


def test_a_relay_that_is_asked_to_end_repeats_nothing(
    queue: Queue, greenflash: LocalServer, start_relay: Callable[[], int]
):
    greenflash.faults.add(fault_injection.slow(0.02, times=None))
    published = kit.turns([f"c{number}" for number in range(10)], 10)
    queue.publish(published)
    first = start_relay()
    wait_until(lambda: len(greenflash.requests) > 20, 60)
    os.kill(first, signal.SIGTERM)
    wait_until(lambda: not is_alive(first), 30)
    assert kit.missing(greenflash, published)
    start_relay()
    wait_until(lambda: not kit.missing(greenflash, published), 60)
    kit.assert_in_order(greenflash)
    assert kit.repeated(greenflash) == 0
