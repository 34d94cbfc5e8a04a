from __future__ import annotations

import signal
import threading
import uuid

import pytest

from gati.pipeline.atomic_counter import AtomicCounter
from gati.pipeline.buffer import Buffer
from gati.trace.deferred_media import DeferredMedia
from gati.trace.record_codec import pack_record, size_of
from gati.trace.records import Gap, Message, ModelCall, Record, RunEnded, RunStarted


def record(text: str = "") -> RunEnded:
    return RunEnded(uuid.uuid4(), 1, text)


def take_all(buffer: Buffer) -> list[Record]:
    records = []
    while (item := buffer.take()) is not None:
        records.append(item)
    return records


def test_records_come_out_in_order() -> None:
    buffer = Buffer(10**9)
    records = [record(str(n)) for n in range(10)]
    for item in records:
        buffer.put(item)
    assert take_all(buffer) == records
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


def test_the_first_record_after_refused_ones_follows_a_gap_with_their_number() -> None:
    buffer = Buffer(10**9, max_records=4)
    for _ in range(7):
        buffer.put(record())
    assert len([buffer.take() for _ in range(4)]) == 4
    late = record("late")
    buffer.put(late)
    assert take_all(buffer) == [Gap(3), late]


def test_refused_records_are_a_gap_even_if_no_record_follows() -> None:
    buffer = Buffer(10**9, max_records=4)
    for _ in range(7):
        buffer.put(record())
    assert take_all(buffer)[4:] == [Gap(3)]
    assert take_all(buffer) == []


def test_the_turns_that_were_refused_from_their_start_are_counted() -> None:
    buffer = Buffer(10**9, max_records=1)
    parent = uuid.uuid4()
    buffer.put(record())
    buffer.put(RunStarted(parent, None, "chain", "root", 1))
    buffer.put(RunStarted(uuid.uuid4(), parent, "chain", "below", 1))
    buffer.put(RunStarted(uuid.uuid4(), None, "prompt", "no turn", 1))
    assert (buffer.refused, buffer.refused_turns) == (3, 1)


def test_records_after_the_close_are_refused_without_a_gap() -> None:
    buffer = Buffer(10**9)
    buffer.put(kept := record())
    buffer.close()
    buffer.put(record())
    assert take_all(buffer) == [kept]
    assert buffer.refused == 1


def test_the_limit_counts_the_bytes_of_texts() -> None:
    buffer = Buffer(max_bytes=10_000_000)
    for _ in range(1_000):
        buffer.put(record("x" * 100_000))
    assert 90 < len(buffer) < 120
    assert buffer.refused == 1_000 - len(buffer)
    assert 9_000_000 < buffer.bytes < 12_000_000


def test_small_records_raise_the_capacity_again() -> None:
    buffer = Buffer(max_bytes=10_000_000)
    for _ in range(200):
        buffer.put(record("x" * 100_000))
    take_all(buffer)
    for _ in range(10_000):
        buffer.put(record())
        if len(buffer) > 90:
            take_all(buffer)
    take_all(buffer)
    assert buffer.refused < 200
    for _ in range(5_000):
        buffer.put(record())
    assert len(buffer) == 5_000


def test_a_filling_buffer_wakes_the_worker_long_before_it_is_full() -> None:
    wakeups: list[int] = []
    buffer = Buffer(max_bytes=10_000_000, on_wakeup=lambda: wakeups.append(len(buffer)))
    buffer.idle = False
    for _ in range(60):
        buffer.put(record("x" * 100_000))
    assert wakeups[0] < 40
    assert buffer.refused == 0


def test_a_record_wakes_an_idle_worker_only() -> None:
    wakeups: list[int] = []
    buffer = Buffer(10**9, on_wakeup=lambda: wakeups.append(len(buffer)))
    buffer.put(record())
    buffer.idle = False
    buffer.put(record())
    assert wakeups == [1]


def test_a_closed_buffer_refuses_records_even_when_empty() -> None:
    buffer = Buffer(10**9)
    buffer.put(record("in time"))
    buffer.close()
    buffer.put(record("late"))
    assert [item.output for item in take_all(buffer) if isinstance(item, RunEnded)] == ["in time"]
    buffer.put(record("later"))
    assert (len(buffer), buffer.refused) == (0, 2)


def test_large_records_are_noticed_at_every_position_in_a_turn() -> None:
    for place in range(8):
        buffer = Buffer(max_bytes=10_000_000)
        for number in range(4_000):
            buffer.put(record("x" * 100_000 if number % 8 == place else ""))
        assert len(buffer) < 1_500


@pytest.mark.parametrize(
    "record",
    [
        RunEnded(uuid.uuid4(), 1, {"messages": ["x" * 50_000]}),
        RunStarted(uuid.uuid4(), None, "model", "m", 1, ModelCall((), (Message("human", "x" * 50_000),), 1)),
        RunStarted(uuid.uuid4(), None, "tool", "t", 1, {"a": {"b": ["x" * 500] * 100}}),
    ],
)
def test_the_size_of_nested_texts_counts(record: Record) -> None:
    for form in (record, pack_record(record)):
        assert 45_000 < size_of(form) < 80_000


def test_the_size_of_the_buffer_is_the_sum_of_the_lengths_of_its_records() -> None:
    packed = [pack_record(record("x" * size)) for size in (0, 10, 50_000)]
    packed.append(pack_record(RunEnded(uuid.uuid4(), 1, [DeferredMedia("y" * 1_000_000)])))
    lengths = [len(item) if isinstance(item, bytes) else size_of(item) for item in packed]
    buffer = Buffer(10**9)
    for number, item in enumerate(packed, 1):
        buffer.put(item)
        assert buffer.bytes == sum(lengths[:number])
    assert lengths[-1] > 1_000_000
    for number in range(1, len(packed) + 1):
        buffer.take()
        assert buffer.bytes == sum(lengths[number:])


def test_the_buffer_refuses_records_as_soon_as_their_lengths_reach_the_limit() -> None:
    item = pack_record(record("x" * 1_000))
    buffer = Buffer(10 * size_of(item))
    for _ in range(12):
        buffer.put(item)
    assert (len(buffer), buffer.refused) == (10, 2)


def test_concurrent_threads_lose_no_count() -> None:
    buffer = Buffer(10**9, max_records=50)

    def put() -> None:
        for _ in range(5_000):
            buffer.put(pack_record(record("x" * 100)))

    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        take_all(buffer)
    take_all(buffer)
    assert buffer.taken + buffer.refused == 40_000
    assert buffer.bytes == 0
    assert buffer.refused > 0


def test_reading_an_atomic_counter_does_not_change_its_value() -> None:
    counter = AtomicCounter()
    for _ in range(3):
        counter.add()
    assert [counter.read(), counter.read()] == [3, 3]
    counter.add()
    assert counter.read() == 4


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX timers")
def test_a_signal_handler_may_call_put_during_put() -> None:
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
                take_all(buffer)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    take_all(buffer)
    assert buffer.taken + buffer.refused == count + seen
