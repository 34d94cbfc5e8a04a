from __future__ import annotations

import random
import threading

from gati.pipeline.stats import DeliveryCounters, FlushResult


def test_concurrent_snapshots_are_balanced() -> None:
    counters, stop = DeliveryCounters(), threading.Event()

    def live() -> None:
        while not stop.is_set():
            counters.add(3, "pending")
            counters.move(2, "pending", "delivered")
            counters.move(1, "pending", "dropped", "memory_full")

    threads = [threading.Thread(target=live) for _ in range(4)]
    for thread in threads:
        thread.start()
    readings = [counters.stats() for _ in range(2_000)]
    stop.set()
    for thread in threads:
        thread.join()
    assert all(reading.balanced for reading in readings)
    assert readings[-1].recorded > readings[0].recorded


def test_every_move_keeps_the_balance() -> None:
    counters, dice = DeliveryCounters(), random.Random(7)
    places = ["spooled", "pending", "delivered", "rejected", "dropped"]
    for _ in range(300):
        source = dice.choice(places[:2])
        counters.add(5, source, recovered=dice.random() < 0.5)
        counters.move(dice.randint(0, 5), source, dice.choice(places), "because")
        assert counters.stats().balanced


def test_a_flush_counts_from_the_previous_one() -> None:
    counters = DeliveryCounters()
    counters.add(5, "spooled")
    counters.move(3, "spooled", "delivered")
    first = counters.flush_result(turns_open=1, timed_out=False, paused=())
    assert (first.delivered, first.spooled, first.turns_open) == (3, 2, 1)
    counters.move(1, "spooled", "delivered")
    counters.move(1, "spooled", "rejected")
    second = counters.flush_result(turns_open=0, timed_out=False, paused=())
    assert (second.delivered, second.rejected, second.spooled) == (1, 1, 0)


def test_a_flush_result_is_true_only_if_nothing_is_left_or_lost() -> None:
    assert FlushResult(delivered=7)
    for left in ({"spooled": 1}, {"pending": 1}, {"rejected": 1}, {"dropped": 1}, {"timed_out": True}):
        assert not FlushResult(delivered=7, **left)
