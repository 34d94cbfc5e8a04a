"""The journal of records: a file, mapped into memory, that has each record as soon as its callback returns.

The kernel keeps what was written to the mapping when the process is killed. The next process assembles from it what this
one had not stored; see `recovery`. `Buffer.put` appends to it without a system call and without a lock; only when
a segment is full, it calls `put_in_next`. The worker frees segments whose records it has stored.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gati.clock import epoch_offset_ns
from gati.pipeline._compat import runs_one_thread_at_a_time
from gati.pipeline.atomic_counter import AtomicCounter
from gati.pipeline.filesystem import filesystem_of
from gati.pipeline.owner_lock import close_lock_file, create_locked
from gati.pipeline.record_journal.format import (
    COPY,
    COPY_HEAD,
    ENTRY,
    ENTRY_MAGIC,
    HEAD_BYTES,
    SEGMENT,
    Checkpoint,
    Progress,
    checksum,
    pack_checkpoint,
    pack_head,
    pack_hole,
    pack_progress,
    pack_segment,
    read_entries,
)
from gati.pipeline.spool import JOURNALS
from gati.pipeline.spool_file import FileOrigin
from gati.trace.records import Gap
from gati.trace.stored_records import StreamedText, left_out, run_key, stored, stored_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gati.trace.record_codec import PackedRecord
    from gati.trace.records import FirstToken, Record

JOURNAL_SUFFIX = ".journal"

SEGMENTS = 8
MAX_JOURNAL_BYTES = 8 * 1024**2
MIN_JOURNAL_BYTES = 512 * 1024
"""Limits of a journal's size. In between it is an eighth of the buffer, and of the spool's quota."""

LOCAL_SYSTEMS = frozenset({"ext2", "ext3", "ext4", "xfs", "tmpfs", "overlay"})
"""File systems that write to allocated blocks in place. On others, such as btrfs, a write to the mapping can find the disk
full, which ends the process; and a server may be unreachable."""

_ZEROS = bytes(64 * 1024)


class JournalUnavailableError(Exception):
    """There can be no journal here. The message says why."""


class RecordQueue(Protocol):
    """The buffer whose records a journal keeps."""

    records: deque[PackedRecord | Record]
    count: int
    """Number of records that were queued since the start."""

    @property
    def taken(self) -> int:
        """Number of records that were taken."""
        ...


def journal_bytes(buffer_max_bytes: int, spool_max_bytes: int) -> int:
    """Return the size of a journal's segments together; 0 if the limits leave too little."""
    size = min(buffer_max_bytes // 8, spool_max_bytes // 8, MAX_JOURNAL_BYTES)
    return size if size >= MIN_JOURNAL_BYTES else 0


class RecordJournal:
    """The journal of this process.

    Attributes:
        position: where the next entry is written.
        end: end of the segment; 0 if there is none, so that the next record opens one.
        memory: the file.
    """

    __slots__ = (
        "_checkpoint", "_checkpoints", "_free", "_lock_fd", "_opened", "_paths", "_progress", "_progresses", "_segment_bytes",
        "_sequence", "_streams", "end", "files", "lost", "memory", "position",
    )  # fmt: skip

    def __init__(
        self, folders: Sequence[Path], size: int, description: dict[str, Any], files: FileOrigin | None = None
    ) -> None:
        """Create the file.

        Args:
            folders: the folders of the accounts for which records are made. Each has a link to the file.
            size: bytes of all segments.
            description: what the process that assembles the records has to know.
            files: the origin of this process's spool files, whose name the journal has.

        Raises:
            JournalUnavailableError: the file system is not suitable.
            OSError: the disk is full, or cannot be written.
        """
        self._segment_bytes = size // SEGMENTS
        self.position = self.end = 0
        self.lost = AtomicCounter()
        self._free = deque(range(SEGMENTS - 1, -1, -1))
        self._opened: deque[tuple[int, int, int]] = deque()
        """Sequence number, index and number of the records before, of each segment in use."""
        self._sequence = itertools.count(1)
        self._checkpoint = Checkpoint()
        self._checkpoints = 0
        self._progress = Progress()
        self._progresses = 0
        self.files = files or FileOrigin()
        self._streams: dict[bytes, tuple[FirstToken, int]] = {}
        self._paths: list[Path] = []
        self._lock_fd: int | None = None
        self.memory: Any = self._create([folder / JOURNALS for folder in folders], description)

    def _create(self, folders: list[Path], description: dict[str, Any]) -> mmap.mmap:
        size = self.size
        for folder in folders:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_system(folders[0])
        name = self.files.name
        part = folders[0] / f".{name}.part"
        fd = create_locked(part)
        try:
            os.posix_fallocate(fd, 0, size)
            memory = _map(part, size)
            memory[:HEAD_BYTES] = pack_head(SEGMENTS, self._segment_bytes, description)
            self._write_progress(memory, Progress(0, epoch_offset_ns()))
            for folder in folders:
                os.link(part, folder / f"{name}{JOURNAL_SUFFIX}")
                self._paths.append(folder / f"{name}{JOURNAL_SUFFIX}")
            self._lock_fd = fd
        except BaseException:
            close_lock_file(fd)
            self._unlink()
            raise
        finally:
            with contextlib.suppress(OSError):
                part.unlink()
        return memory

    # In callbacks

    def put_in_next(self, buffer: RecordQueue, data: bytes, record: PackedRecord | Record | None) -> bool:
        """Open a segment, write data to it, and put the record into the buffer.

        `record` is None for an entry that is not a record. If no segment is free, the data is counted as lost, and the result
        is False.
        """
        space = self._segment_bytes - SEGMENT.size - ENTRY.size
        if len(data) > space:
            self.lost.add()
            data = left_out(data)
        records, size, check = buffer.records, len(data), checksum(data)
        entry = ENTRY.pack(ENTRY_MAGIC, size, check)
        while True:
            # Without a call between reading and writing attributes, no other thread can run in between.
            at = self.position
            begin = at + ENTRY.size
            end = begin + size
            if end <= self.end:
                self.position = end
                self.memory[begin:end] = data
                self.memory[at:begin] = entry
                if record is not None:
                    buffer.count += 1
                    records.append(record)
                return True
            if not self._open_segment(buffer):
                break
        self.lost.add()
        if record is not None:
            if self.end:
                at, hole = pack_hole(buffer.count)
                self.memory[at : at + len(hole)] = hole
            self.end = 0  # the numbers of the records in a segment have no holes
            buffer.count += 1
            records.append(record)
        return False

    def _open_segment(self, buffer: RecordQueue) -> bool:
        """Open a segment; return False if none is free."""
        try:
            index = self._free.pop()
        except IndexError:
            return False
        begin, sequence = HEAD_BYTES + index * self._segment_bytes, next(self._sequence)
        first, end = begin + SEGMENT.size, begin + self._segment_bytes
        while True:
            number = buffer.count
            head, opened = pack_segment(sequence, number), (sequence, index, number)
            if buffer.count == number:
                self.memory[begin:first] = head
                self.position, self.end = first, end
                self._opened.append(opened)
                return True

    def gap(self, buffer: RecordQueue) -> None:
        """Note that records were refused after those that the buffer has taken."""
        self.put_in_next(buffer, b"G", None)

    # In the worker

    def adopt(self, buffer: RecordQueue) -> None:
        """Write the records that the buffer has taken before it had this journal. Called before any is taken from it."""
        records = [record for record in buffer.records.copy() if type(record) is not Gap]
        before = self._opened[0][2] if self._opened else len(records)
        for number, record in enumerate(records[: before - buffer.taken], buffer.taken + 1):
            self._copy(buffer, number, stored(record))

    def _copy(self, buffer: RecordQueue, number: int, data: bytes) -> bool:
        return self.put_in_next(buffer, COPY_HEAD.pack(bytes((COPY,)), number) + data, None)

    def watch(self, token: FirstToken, key: bytes) -> None:
        """Write the text of an answer that is being streamed, in each `save_streams`."""
        self._streams[key] = token, 0

    def save_streams(self, buffer: RecordQueue, is_open: Callable[[bytes], bool]) -> None:
        """Write what was streamed since the last call."""
        for key, (token, begin) in list(self._streams.items()):
            if not is_open(key):
                del self._streams[key]
            elif pieces := token.pieces[begin:]:
                self._streams[key] = token, begin + len(pieces)
                self.put_in_next(buffer, stored_text(StreamedText(token.run_id.int, begin, pieces)), None)

    def mark_stored(self, checkpoint: Checkpoint) -> None:
        """Note that what the first records complete is stored."""
        if self.files.last != self._progress.files:  # first: a file that seems older than it is, is sent first
            self._write_progress(self.memory, self._progress._replace(files=self.files.last))
        if checkpoint != self._checkpoint:
            self._checkpoint = checkpoint
            self._checkpoints += 1
            at, data = pack_checkpoint(checkpoint, self._checkpoints)
            self.memory[at : at + len(data)] = data

    def note_clock(self, offset: int) -> None:
        """Note what is added to the times of records from now on; see `Progress`. Called before they are assembled."""
        if offset > self._progress.clock:
            self._write_progress(self.memory, self._progress._replace(clock=offset))

    def _write_progress(self, memory: Any, progress: Progress) -> None:
        self._progress = progress
        self._progresses += 1
        at, data = pack_progress(progress, self._progresses)
        memory[at : at + len(data)] = data

    def free_segments(self, buffer: RecordQueue, is_open: Callable[[bytes], bool], *, has_open: bool) -> None:
        """Free the segments whose records are stored. Records of open turns are moved if too few segments are free.

        Args:
            buffer: the buffer of this journal.
            is_open: returns True if the turn of a run, given by its key, is open.
            has_open: whether any turn is open.
        """
        if len(self._free) > SEGMENTS // 2 and has_open:
            return
        opened = sorted(self._opened)
        for segment, (_, _, after) in itertools.pairwise(opened):
            if after > self._checkpoint.records:
                return
            _, index, before = segment
            kept = self._open_records(index, before, is_open) if has_open else []
            if sum(len(data) + COPY_HEAD.size + ENTRY.size for _, data in kept) > self._segment_bytes // 2:
                continue
            if not all(self._copy(buffer, number, data) for number, data in kept):
                return
            self._opened.remove(segment)
            self._clear(index)
            self._free.append(index)
            if has_open:
                return  # one in each round

    def _open_records(self, index: int, before: int, is_open: Callable[[bytes], bool]) -> list[tuple[int, bytes]]:
        begin = HEAD_BYTES + index * self._segment_bytes
        entries = read_entries(self.memory, before, begin + SEGMENT.size, begin + self._segment_bytes)
        return [(entry.number, entry.data) for entry in entries if (key := run_key(entry.data)) and is_open(key)]

    def _clear(self, index: int) -> None:
        """Overwrite a segment with zeros, in pieces, because other threads wait meanwhile."""
        begin = HEAD_BYTES + index * self._segment_bytes
        for at in range(begin, begin + self._segment_bytes, len(_ZEROS)):
            end = min(at + len(_ZEROS), begin + self._segment_bytes)
            self.memory[at:end] = _ZEROS[: end - at]

    @property
    def stored_records(self) -> int:
        """Number of the first records of which everything is stored; see `mark_stored`."""
        return self._checkpoint.records

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        return HEAD_BYTES + SEGMENTS * self._segment_bytes

    def close(self, *, remove: bool) -> None:
        """Release the file: remove it, or leave it to the next process. The buffer must not use the journal any more."""
        if remove:
            self._unlink()
        fd, self._lock_fd = self._lock_fd, None
        if fd is not None:
            close_lock_file(fd)

    def _unlink(self) -> None:
        for path in self._paths:
            with contextlib.suppress(OSError):
                path.unlink()

    def abandon(self) -> None:
        """Never write again. Called in a forked child: the file is the parent's."""
        self.position = self.end = 0
        self._free.clear()
        self.memory = None  # the mapping ends; the lock's descriptor is closed by a fork hook of `owner_lock`


def _map(path: Path, size: int) -> mmap.mmap:
    """Map a file. The mapping keeps a descriptor, which children inherit: it must not be the one that holds the lock."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return mmap.mmap(fd, size)
    finally:
        os.close(fd)


def check_system(folder: Path) -> None:
    """Raise JournalUnavailableError unless a mapped file in this folder is safe: its blocks stay allocated."""
    if not hasattr(os, "posix_fallocate"):
        raise JournalUnavailableError("this system cannot allocate files")
    if not runs_one_thread_at_a_time():
        raise JournalUnavailableError("this interpreter runs threads at the same time")
    name = filesystem_of(folder)
    if name not in LOCAL_SYSTEMS or not os.statvfs(folder).f_files:  # a container's layer on btrfs has no such number
        raise JournalUnavailableError(f"the file system is {name or 'unknown'}")


def describe_process(options: dict[str, Any], *, masked: bool, capture_content: bool) -> dict[str, Any]:
    """Return the description of a journal of this process."""
    return {
        "pid": os.getpid(),
        "masked": masked,
        "capture_content": capture_content,
        "options": options,
    }
