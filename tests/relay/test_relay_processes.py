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
from tests.relay.killed_programs import killed_programs
from tests.relay.kit import Queue
from tests.servers import LocalServer

KILLS = int(os.environ.get("GATI_FLEET_KILLS", "20"))
"""Kills of relays, and of programs, for each engine. Read here, because each test clears the variables of gati."""

AT_ONCE = 4
"""Relays that are killed at the same time. One is left."""


def is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def test_relays_and_programs_that_are_killed_lose_and_reorder_nothing(
    queue: Queue, greenflash: LocalServer, start_relay: Callable[[], int]
):
    greenflash.faults.add(fault_injection.slow(0.005, times=None))
    chance = random.Random(1)
    published = []
    relays = [start_relay() for _ in range(AT_ONCE + 1)]
    with killed_programs(queue.url, KILLS) as programs:
        for part in range(-(-KILLS // AT_ONCE)):
            published += (new := kit.turns([f"k{part}-{number}" for number in range(20)], 5))
            queue.publish(new)
            before = len(greenflash.requests)
            wait_until(lambda before=before: len(greenflash.requests) > before + 10, 60)  # type: ignore[misc]  # bound now
            chance.shuffle(relays)
            for pid in relays[1:]:
                os.kill(pid, signal.SIGKILL)
            relays[1:] = [start_relay() for _ in range(AT_ONCE)]
        programs.join()
    wait_until(lambda: not kit.missing(greenflash, published), 120)
    wait_until(lambda: all(program.has_arrived(greenflash) for program in programs.lives), 60)
    kit.assert_in_order(greenflash, [message.key for message in published])
    for program in programs.lives:
        program.assert_in_order(greenflash)
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
