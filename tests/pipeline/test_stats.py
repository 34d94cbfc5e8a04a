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
    for name in ("spooled", "pending", "rejected", "dropped", "turns_dropped", "records_refused", "faults"):
        assert not FlushResult(delivered=7, **{name: 1})
    assert not FlushResult(delivered=7, timed_out=True)


def test_every_change_of_turns_keeps_the_balance() -> None:
    counters = DeliveryCounters()
    counters.count_turns(begun=5, opened=3, assembled=1, assembler=1)
    counters.move_turns(1, "encoded")
    counters.count_turns(begun=2, opened=-1, assembled=3)
    counters.move_turns(1, "dropped", "mask")
    stats = counters.stats()
    assert stats.balanced
    assert (stats.turns_begun, stats.turns_open, stats.turns_waiting, stats.turns_encoded) == (7, 2, 2, 1)
    assert counters.abandon_turns(4, "shutdown") == 8
    counters.move_turns(2, "encoded")  # the worker goes on: these turns are counted already
    stats = counters.stats()
    assert stats.balanced
    assert stats.turns_dropped == {"assembler": 1, "mask": 1, "shutdown": 8}
