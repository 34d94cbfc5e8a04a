"""The journal has each record before its callback returns, and keeps those that are not stored."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gati.pipeline.buffer import Buffer
from gati.pipeline.owner_lock import close_lock_file, open_lock_file, try_lock
from gati.pipeline.record_journal import journal as record_journal
from gati.pipeline.record_journal.format import HEAD_BYTES, Checkpoint, read_head
from gati.pipeline.record_journal.journal import (
    MIN_JOURNAL_BYTES,
    SEGMENTS,
    JournalUnavailableError,
    RecordJournal,
    journal_bytes,
)
from gati.pipeline.record_journal.reader import unstored_records
from gati.trace.record_codec import RUN, head_of, key_at, pack_record
from gati.trace.records import FirstToken, RunEnded, RunStarted
from gati.trace.stored_records import StreamedText, restored

pytestmark = pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="there are no journals")

SEGMENT_BYTES = MIN_JOURNAL_BYTES // SEGMENTS


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[RecordJournal]:
    journal = RecordJournal([tmp_path], MIN_JOURNAL_BYTES, {"a": 1})
    yield journal
    journal.close(remove=True)


@pytest.fixture
def buffer(journal: RecordJournal) -> Buffer:
    buffer = Buffer(10**9)
    buffer.journal = journal
    return buffer


def start(text: str = "", parent: uuid.UUID | None = None) -> RunStarted:
    return RunStarted(uuid.uuid4(), parent, "chain", "c", 1, text)


def put(buffer: Buffer, *records: Any) -> None:
    for record in records:
        buffer.put(pack_record(record))


def take(buffer: Buffer) -> None:
    while buffer.take() is not None:
        pass


def unstored(journal: RecordJournal) -> list[Any]:
    """Return what another process would read now."""
    data = bytes(journal.memory)
    found = unstored_records(data, read_head(data))
    return [restored(record, 0) for record in (*found.stored, *found.new)]


def never(run: bytes) -> bool:
    return False


def test_the_journal_has_every_record_in_order(journal: RecordJournal, buffer: Buffer) -> None:
    records: list[Any] = []
    for number in range(500):
        root = start(f"{number}" * 20)
        records += [root, start("child", root.run_id), RunEnded(root.run_id, 2, "x" * (number % 150))]
    put(buffer, *records)
    assert unstored(journal) == records
    assert journal.lost.read() == 0


def test_records_of_all_kinds_and_sizes_are_in_the_journal(journal: RecordJournal, buffer: Buffer) -> None:
    root = start()
    records = [root, *(RunEnded(root.run_id, 2, "x" * size) for size in (0, 1_000, 5_000, SEGMENT_BYTES // 2))]
    put(buffer, *records)
    assert unstored(journal) == records


def test_what_is_stored_is_not_read_again(journal: RecordJournal, buffer: Buffer) -> None:
    done, begun = start("done"), start("begun")
    put(buffer, done, RunEnded(done.run_id, 2), begun)
    take(buffer)
    journal.mark_stored(Checkpoint(buffer.taken))
    assert unstored(journal) == [begun]
    put(buffer, end := RunEnded(begun.run_id, 2), later := start("later"))
    assert unstored(journal) == [begun, end, later]


def test_a_turn_of_which_a_record_was_refused_is_not_read(journal: RecordJournal) -> None:
    buffer = Buffer(10**9, max_records=3)
    buffer.journal = journal
    done, torn, later = start("done"), start("torn"), start("later")
    put(buffer, done, RunEnded(done.run_id, 2), torn, RunEnded(torn.run_id, 2))
    take(buffer)
    put(buffer, later)
    assert [record.run_id for record in unstored(journal)] == [done.run_id, done.run_id, later.run_id]


def test_segments_are_used_again_once_their_records_are_stored(journal: RecordJournal, buffer: Buffer) -> None:
    for _ in range(5 * SEGMENTS):
        root = start("x" * (SEGMENT_BYTES // 3))
        put(buffer, root, RunEnded(root.run_id, 2, "y" * (SEGMENT_BYTES // 3)))
        take(buffer)
        journal.mark_stored(Checkpoint(buffer.taken))
        journal.free_segments(buffer, never, has_open=False)
    put(buffer, last := start("last"))
    assert unstored(journal) == [last]
    assert journal.lost.read() == 0


def test_the_records_of_a_long_turn_are_kept_while_others_come_and_go(journal: RecordJournal, buffer: Buffer) -> None:
    slow = start("slow")
    child = start("child", slow.run_id)
    put(buffer, slow)
    keys = {key_at(head_of(pack_record(record)), RUN) for record in (slow, child)}
    for number in range(10 * SEGMENTS):
        root = start("x" * (SEGMENT_BYTES // 3))
        put(buffer, root, RunEnded(root.run_id, 2, "y" * (SEGMENT_BYTES // 3)))
        if number == 5 * SEGMENTS:
            put(buffer, child)
        take(buffer)
        journal.mark_stored(Checkpoint(buffer.taken))
        journal.free_segments(buffer, keys.__contains__, has_open=True)
    assert unstored(journal) == [slow, child]
    put(buffer, end := RunEnded(slow.run_id, 2))
    assert unstored(journal) == [slow, child, end]
    assert journal.lost.read() == 0


def test_a_full_journal_counts_what_it_cannot_keep_and_drops_the_turns(journal: RecordJournal, buffer: Buffer) -> None:
    whole, torn = start("whole"), start("torn")
    put(buffer, whole, end := RunEnded(whole.run_id, 2), torn)
    for _ in range(3 * SEGMENTS):
        put(buffer, start("x" * (SEGMENT_BYTES // 2)))
    put(buffer, RunEnded(torn.run_id, 2))
    assert journal.lost.read() > SEGMENTS
    assert len(buffer) == 4 + 3 * SEGMENTS
    take(buffer)
    assert unstored(journal)[:2] == [whole, end]
    assert torn not in unstored(journal)
    journal.mark_stored(Checkpoint(buffer.taken))
    journal.free_segments(buffer, never, has_open=False)
    put(buffer, later := start("later"))
    assert unstored(journal) == [later]


def test_a_record_larger_than_a_segment_is_left_out_with_its_turn(journal: RecordJournal, buffer: Buffer) -> None:
    large, small = start("x" * SEGMENT_BYTES), start("small")
    put(buffer, large, RunEnded(large.run_id, 2), small)
    assert unstored(journal) == [small]
    assert journal.lost.read() == 1


def test_records_from_before_the_journal_come_first(journal: RecordJournal) -> None:
    buffer = Buffer(10**9)
    taken, early, late = start("taken"), start("early"), start("late")
    put(buffer, taken)
    take(buffer)
    put(buffer, early)
    buffer.journal = journal
    put(buffer, late)
    journal.adopt(buffer)
    journal.mark_stored(Checkpoint(1))
    assert unstored(journal) == [early, late]


def test_the_text_of_a_stream_is_kept_as_far_as_it_was_saved(journal: RecordJournal, buffer: Buffer) -> None:
    root = start()
    token = FirstToken(root.run_id, 1, pieces := [])
    put(buffer, root, token)
    journal.watch(token, key_at(head_of(token), RUN))
    for piece in "abc":
        pieces.append(piece)
        journal.save_streams(buffer, lambda run: True)
    pieces.append("d")
    journal.save_streams(buffer, never)
    run = root.run_id.int
    texts = [StreamedText(run, number, [piece]) for number, piece in enumerate("abc")]
    assert unstored(journal) == [root, FirstToken(root.run_id, 1, []), *texts]


def test_records_of_many_threads_are_complete_and_numbered_as_they_are_queued(journal: RecordJournal) -> None:
    buffer = Buffer(10**9)
    buffer.journal = journal
    roots = [[start(f"{thread} {number}") for number in range(200)] for thread in range(8)]

    def work(thread: int) -> None:
        put(buffer, *roots[thread])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queued = [restored(record, 0) for record in buffer.records if type(record) is bytes]
    assert unstored(journal) == queued
    assert len(queued) == buffer.count == 1_600


def test_the_file_belongs_to_this_user_only_and_is_locked(journal: RecordJournal, tmp_path: Path) -> None:
    (path,) = tmp_path.glob("journals/*.journal")
    status = path.stat()
    assert status.st_mode & 0o777 == 0o600
    assert status.st_blocks * 512 >= MIN_JOURNAL_BYTES, "the disk may become full later"
    fd = open_lock_file(path)
    try:
        assert not try_lock(fd)
        journal.close(remove=False)
        assert try_lock(fd)
    finally:
        close_lock_file(fd)
    journal.close(remove=True)
    assert not path.exists()


def test_each_account_has_a_link_to_the_file(tmp_path: Path) -> None:
    journal = RecordJournal([tmp_path / "a", tmp_path / "b"], MIN_JOURNAL_BYTES, {})
    first, second = (next((tmp_path / name / "journals").iterdir()) for name in "ab")
    assert first.samefile(second)
    journal.close(remove=True)
    assert not first.exists()
    assert not second.exists()


def test_a_full_disk_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, offset: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OSError, match="No space"):
        RecordJournal([tmp_path], MIN_JOURNAL_BYTES, {})
    assert list((tmp_path / "journals").iterdir()) == []


@pytest.mark.parametrize("system", ["nfs4", "btrfs", "fuse.sshfs", None])
def test_other_file_systems_have_no_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str | None
) -> None:
    monkeypatch.setattr(record_journal, "filesystem_of", lambda folder: system)
    with pytest.raises(JournalUnavailableError, match=system or "unknown"):
        RecordJournal([tmp_path], MIN_JOURNAL_BYTES, {})


def test_options_that_are_too_long_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too long"):
        RecordJournal([tmp_path], MIN_JOURNAL_BYTES, {"properties": "x" * HEAD_BYTES})
    assert list((tmp_path / "journals").iterdir()) == []


def test_the_size_follows_the_limits() -> None:
    assert journal_bytes(64 * 1024**2, 256 * 1024**2) == 8 * 1024**2
    assert journal_bytes(8 * 1024**2, 256 * 1024**2) == 1024**2
    assert journal_bytes(64 * 1024**2, 100_000) == 0


def test_a_child_does_not_write_to_the_journal_of_its_parent(journal: RecordJournal, buffer: Buffer) -> None:
    put(buffer, mine := start("mine"))
    child = os.fork()
    if child == 0:
        buffer.clear()
        put(buffer, start("child's"))
        os._exit(0)
    os.waitpid(child, 0)
    assert unstored(journal) == [mine]
