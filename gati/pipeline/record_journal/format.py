"""The file of a record journal: a head, and segments that are filled one after the other, in any order.

::

    head       magic, version, number and size of the segments, length and checksum of the description; two checkpoints;
               where records are missing because the journal was full; two times the last file and the latest clock;
               the description, as JSON
    segment    magic, sequence number, number of the records before it, checksum; then entries, then zeros
    entry      magic, length, checksum; then the data (see `stored_records`), or one of the letters below

The numbers of records are not stored: those of a segment are counted from the number in its head. What an entry says is
written before its head, so that a process that is killed at any instruction leaves no half of an entry. The checksum
covers the first and last bytes of long entries, because it is computed in a callback.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple
from zlib import crc32

JOURNAL_MAGIC = b"gatirecs"
JOURNAL_VERSION = 1

HEAD_BYTES = 16 * 1024
"""Size of a file's head."""

CHECKSUM_BYTES = 512
"""Of an entry that is longer than twice this, so many bytes at its beginning and at its end are part of the checksum."""

COPY, GAP = b"CG"
"""First byte of entries that are no records: a record that was moved, with its number, and a gap in the records."""

COPY_HEAD = struct.Struct("<cQ")
"""What precedes the data of a record that was moved: `COPY`, and the record's number."""

ENTRY = struct.Struct("<III")
SEGMENT = struct.Struct("<IIQI")
ENTRY_MAGIC, SEGMENT_MAGIC = 0xA71E9D5B, 0xA75E65B3

_head = struct.Struct("<8sIIIII")
_checkpoint = struct.Struct("<QQI")
_CHECKPOINTS = (64, 128)
_hole = struct.Struct("<QI")
_HOLE = 192
_progress = struct.Struct("<QqI")
_PROGRESS = (208, 232)
_DESCRIPTION = 256
_ENTRY_START = ENTRY_MAGIC.to_bytes(4, "little")
_MAX_SEGMENTS = 64
_MAX_FALSE_STARTS = 1_000


class UnreadableJournalError(ValueError):
    """A file is no journal, or damaged."""


class UnknownVersionError(UnreadableJournalError):
    """A journal was written by a later version of gati."""


class Checkpoint(NamedTuple):
    """What the process that wrote a journal had done.

    Attributes:
        records: of so many records, every turn that they complete is stored, and every other item.
        gap: number of the records before the last gap among them; 0 without one.
    """

    records: int = 0
    gap: int = 0


class Progress(NamedTuple):
    """How far the process that wrote a journal had come in other ways. Both only increase.

    Attributes:
        files: number of its last spool file when the checkpoint was written. Later files hold only turns that the journal
            has, too, and perhaps not all of them: a disk may have refused earlier ones.
        clock: largest value so far that was added to the times of records, to get nanoseconds since the epoch. No turn
            that is stored has a later time than by this clock, also if the system's clock was set back.
    """

    files: int = 0
    clock: int = 0


class JournalHead(NamedTuple):
    """The head of a journal."""

    segments: int
    segment_bytes: int
    description: dict[str, Any]
    checkpoint: Checkpoint = Checkpoint()
    progress: Progress | None = None
    """None in a journal of an earlier version."""
    hole: int | None = None
    """Number of the records before the last time that the journal was full; None if it never was."""

    @property
    def clock(self) -> int:
        """Add it to a record's time to get nanoseconds since the epoch."""
        if self.progress is not None:
            return self.progress.clock
        clock = self.description.get("clock")
        return clock if type(clock) is int else 0


class StoredEntry(NamedTuple):
    """An entry: a record and its number; or a gap, and the number of the records before it."""

    number: int
    data: bytes
    at: int = 0
    """Position of its first byte in the file."""
    length: int = 0
    """Its length in the file, where more may precede `data`."""


def checksum(data: bytes) -> int:
    """Return the checksum of an entry."""
    if len(data) <= 2 * CHECKSUM_BYTES:
        return crc32(data)
    return crc32(data[:CHECKSUM_BYTES], crc32(data[-CHECKSUM_BYTES:]))


def pack_head(segments: int, segment_bytes: int, description: dict[str, Any]) -> bytes:
    """Return the head of a new journal. Raises ValueError if the description is too long."""
    import orjson  # late: callbacks need the rest of this module

    text = orjson.dumps(description)
    if len(text) > HEAD_BYTES - _DESCRIPTION:
        raise ValueError("the options are too long")
    head = _head.pack(JOURNAL_MAGIC, JOURNAL_VERSION, segments, segment_bytes, len(text), crc32(text))
    return (head.ljust(_DESCRIPTION, b"\0") + text).ljust(HEAD_BYTES, b"\0")


def pack_checkpoint(checkpoint: Checkpoint, turn: int) -> tuple[int, bytes]:
    """Return where a checkpoint is written, and its bytes. One of the last two is whole, whenever the process ends."""
    data = _checkpoint.pack(*checkpoint, 0)[:-4]
    return _CHECKPOINTS[turn % 2], data + crc32(data).to_bytes(4, "little")


def pack_progress(progress: Progress, turn: int) -> tuple[int, bytes]:
    """Return where the progress is written, and its bytes; see `pack_checkpoint`."""
    data = _progress.pack(*progress, 0)[:-4]
    return _PROGRESS[turn % 2], data + crc32(data).to_bytes(4, "little")


def pack_hole(records: int) -> tuple[int, bytes]:
    """Return where the number of the records before a hole is written, and its bytes."""
    data = records.to_bytes(8, "little")
    return _HOLE, data + crc32(data).to_bytes(4, "little")


def pack_segment(sequence: int, records: int) -> bytes:
    """Return the head of a segment. `records` is the number of records before it."""
    head = SEGMENT.pack(SEGMENT_MAGIC, sequence, records, 0)[:-4]
    return head + crc32(head).to_bytes(4, "little")


def read_head(data: bytes) -> JournalHead:
    """Read the head of a journal.

    Raises:
        UnknownVersionError: a later version of gati wrote it.
        UnreadableJournalError: it is no journal.
    """
    if len(data) < HEAD_BYTES or data[:8] != JOURNAL_MAGIC:
        raise UnreadableJournalError("no journal")
    import orjson  # late: see above

    _, version, segments, segment_bytes, length, check = _head.unpack_from(data)
    if version != JOURNAL_VERSION:
        raise UnknownVersionError(f"version {version}")
    text = data[_DESCRIPTION : _DESCRIPTION + length]
    if crc32(text) != check or not 0 < segments <= _MAX_SEGMENTS or segment_bytes <= SEGMENT.size + ENTRY.size:
        raise UnreadableJournalError("damaged")
    try:
        description = orjson.loads(text)
    except ValueError:
        description = None
    if not isinstance(description, dict):
        raise UnreadableJournalError("damaged")
    found = [Checkpoint()]
    for at in _CHECKPOINTS:
        records, gap, check = _checkpoint.unpack_from(data, at)
        if crc32(data[at : at + _checkpoint.size - 4]) == check:
            found.append(Checkpoint(records, gap))
    hole, check = _hole.unpack_from(data, _HOLE)
    is_hole = crc32(data[_HOLE : _HOLE + _hole.size - 4]) == check
    return JournalHead(
        segments, segment_bytes, description, max(found), _read_progress(data), hole if is_hole else None
    )


def _read_progress(data: bytes) -> Progress | None:
    found = []
    for at in _PROGRESS:
        files, clock, check = _progress.unpack_from(data, at)
        if crc32(data[at : at + _progress.size - 4]) == check:
            found.append(Progress(files, clock))
    return max(found, default=None)


def read_segments(data: bytes, head: JournalHead) -> list[tuple[int, int, int, int]]:
    """Return sequence number, number of the records before, begin and end of the segments that are in use, in order."""
    found = []
    for index in range(head.segments):
        begin = HEAD_BYTES + index * head.segment_bytes
        end = begin + head.segment_bytes
        if end > len(data):
            break
        magic, sequence, records, check = SEGMENT.unpack_from(data, begin)
        if magic == SEGMENT_MAGIC and crc32(data[begin : begin + SEGMENT.size - 4]) == check:
            found.append((sequence, records, begin + SEGMENT.size, end))
    return sorted(found)


def read_entries(data: Any, before: int, at: int, end: int) -> Iterator[StoredEntry]:
    """Yield the entries between two positions. What is damaged is skipped, up to the next entry that is whole.

    Args:
        data: a file, as bytes or mapped into memory.
        before: number of the records before the first entry.
        at: position of the first entry.
        end: where to stop.
    """
    number, false_starts = before, 0
    while at + ENTRY.size <= end:
        magic, length, check = ENTRY.unpack_from(data, at)
        begin = at + ENTRY.size
        entry = data[begin : begin + length] if magic == ENTRY_MAGIC and length <= end - begin else b""
        if not entry or checksum(entry) != check:
            at = data.find(_ENTRY_START, at + 1, end)
            false_starts += 1
            if at < 0 or false_starts > _MAX_FALSE_STARTS:
                return
            continue
        if entry[0] == COPY and length > COPY_HEAD.size:
            yield StoredEntry(COPY_HEAD.unpack_from(entry)[1], entry[COPY_HEAD.size :], begin, length)
        else:
            number += entry[0] not in _NOT_COUNTED
            yield StoredEntry(number, entry, begin, length)
        at = begin + length


_NOT_COUNTED = frozenset((COPY, GAP, ord("S")))
