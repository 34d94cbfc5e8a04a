from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gati.queues.log import LogRecord
from gati.queues.message import QueueMessage
from gati.queues.partition_progress import MAX_METADATA_BYTES, PartitionProgress


def record(position: int) -> LogRecord:
    return LogRecord(QueueMessage("c", b"", "messages", "t", 1), 0, position, f"turns/0/{position}")


@given(st.integers(0, 10**12), st.integers(1, 60), st.data())
def test_the_next_owner_reads_exactly_what_is_not_settled(start: int, count: int, data: st.DataObject):
    positions = range(start, start + count)
    settled = data.draw(st.sets(st.sampled_from(positions)))
    first = PartitionProgress()
    for position in positions:
        assert first.add(record(position))
    for position in settled:
        first.settle(position)
    offset, metadata = first.advance(), first.metadata(123)
    assert offset is not None
    assert offset == min(set(positions) - settled, default=start + count)
    second = PartitionProgress()
    assert second.resume(offset, metadata) == 123
    again = [position for position in range(offset, start + count) if second.add(record(position))]
    assert again == sorted(set(positions) - settled)
    for position in again:
        second.settle(position)
    assert second.advance() == start + count


def test_nothing_is_committed_before_something_is_known():
    assert PartitionProgress().advance() is None


def test_foreign_metadata_are_ignored():
    for metadata in (None, "", "x", "-1;2", "5;a-b,,9-", "5;1-99999999999"):
        progress = PartitionProgress()
        progress.resume(10, metadata)
        assert progress.add(record(10))


def test_metadata_stay_below_the_limit_and_begin_with_the_first_ones():
    progress = PartitionProgress()
    for position in range(5_000):
        progress.add(record(position))
    for position in range(1, 5_000, 2):
        progress.settle(position)
    text = progress.metadata(1)
    assert len(text) <= MAX_METADATA_BYTES
    assert text.startswith("1;1,3,5,")
