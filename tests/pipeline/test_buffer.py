from __future__ import annotations

import signal
import threading
import uuid

import pytest

from gati.pipeline.buffer import AtomicCounter, Buffer, estimate_size
from gati.trace.records import Gap, Message, ModelCall, Record, RunEnded, RunStarted


def record(text: str = "") -> RunEnded:
    return RunEnded(uuid.uuid4(), 1, text)


def taken(buffer: Buffer) -> list[Record]:
    records = []
    while (one := buffer.take()) is not None:
        records.append(one)
    return records


def test_records_come_out_in_order() -> None:
    buffer = Buffer(10**9)
    records = [record(str(n)) for n in range(10)]
    for one in records:
        buffer.put(one)
    assert taken(buffer) == records
    assert buffer.taken == 10
    assert buffer.bytes == 0


def test_a_full_buffer_refuses_until_half_of_it_is_taken() -> None:
    buffer = Buffer(10**9, max_records=10)
    for _ in range(15):
        buffer.put(record())
    assert (len(buffer), buffer.refused) == (10, 5)
    for _ in range(4):
        buffer.take()
    buffer.put(record())
    assert buffer.refused == 6
    buffer.take()
    buffer.put(record())
    assert buffer.refused == 6


def test_a_gap_stands_before_the_first_record_after_a_refusal_and_tells_how_many() -> None:
    buffer = Buffer(10**9, max_records=4)
    for _ in range(7):
        buffer.put(record())
    assert len(taken(buffer)) == 4
    late = record("late")
    buffer.put(late)
    assert taken(buffer) == [Gap(3), late]


def test_the_bound_counts_the_bytes_of_texts() -> None:
    buffer = Buffer(max_bytes=10_000_000)
    for _ in range(1_000):
        buffer.put(record("x" * 100_000))
    assert 90 < len(buffer) < 120
    assert buffer.refused == 1_000 - len(buffer)
    assert 9_000_000 < buffer.bytes < 12_000_000


def test_small_records_make_room_again() -> None:
    buffer = Buffer(max_bytes=10_000_000)
    for _ in range(200):
        buffer.put(record("x" * 100_000))
    taken(buffer)
    for _ in range(10_000):
        buffer.put(record())
        if len(buffer) > 90:
            taken(buffer)
    taken(buffer)
    assert buffer.refused < 200
    for _ in range(5_000):
        buffer.put(record())
    assert len(buffer) == 5_000


def test_a_filling_buffer_says_so_long_before_it_is_full() -> None:
    heard: list[int] = []
    buffer = Buffer(max_bytes=10_000_000, on_wakeup=lambda: heard.append(len(buffer)))
    buffer.idle = False
    for _ in range(60):
        buffer.put(record("x" * 100_000))
    assert heard[0] < 40
    assert buffer.refused == 0


def test_a_record_for_nobody_calls_somebody() -> None:
    heard: list[int] = []
    buffer = Buffer(10**9, on_wakeup=lambda: heard.append(len(buffer)))
    buffer.put(record())
    buffer.idle = False
    buffer.put(record())
    assert heard == [1]


def test_a_closed_buffer_refuses_even_when_all_was_taken() -> None:
    buffer = Buffer(10**9)
    buffer.put(record("in time"))
    buffer.close()
    buffer.put(record("late"))
    assert [one.output for one in taken(buffer) if isinstance(one, RunEnded)] == ["in time"]
    buffer.put(record("later"))
    assert (len(buffer), buffer.refused) == (0, 2)


def test_heavy_records_are_seen_wherever_in_a_turn_they_stand() -> None:
    for place in range(8):
        buffer = Buffer(max_bytes=10_000_000)
        for number in range(4_000):
            buffer.put(record("x" * 100_000 if number % 8 == place else ""))
        assert len(buffer) < 1_500


@pytest.mark.parametrize(
    "one",
    [
        RunEnded(uuid.uuid4(), 1, {"messages": ["x" * 50_000]}),
        RunStarted(uuid.uuid4(), None, "model", "m", 1, ModelCall((), (Message("human", "x" * 50_000),), 1)),
        RunStarted(uuid.uuid4(), None, "tool", "t", 1, {"a": {"b": ["x" * 500] * 100}}),
    ],
)
def test_the_weight_of_nested_texts_is_seen(one: Record) -> None:
    assert 45_000 < estimate_size(one) < 80_000


def test_threads_at_once_lose_no_count() -> None:
    buffer = Buffer(10**9, max_records=50)

    def put() -> None:
        for _ in range(5_000):
            buffer.put(record())

    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        taken(buffer)
    taken(buffer)
    assert buffer.taken + buffer.refused == 40_000
    assert buffer.refused > 0


def test_a_tally_can_be_read_while_others_count() -> None:
    tally = AtomicCounter()
    for _ in range(3):
        tally.add()
    assert [tally.read(), tally.read()] == [3, 3]
    tally.add()
    assert tally.read() == 4


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX timers")
def test_a_signal_handler_may_put_in_the_middle_of_a_put() -> None:
    buffer = Buffer(10**9, max_records=1_000)
    seen = 0

    def handler(*_: object) -> None:
        nonlocal seen
        seen += 1
        buffer.put(record("from the handler"))

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    count = 0
    try:
        while seen < 100:
            buffer.put(record())
            count += 1
            if count % 500 == 0:
                taken(buffer)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    taken(buffer)
    assert buffer.taken + buffer.refused == count + seen
