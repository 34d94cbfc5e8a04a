"""Removes records from the journals of processes that were killed, because what they contain is to be deleted.

The bytes are overwritten where they are. Journals of running processes stay, as their spool files do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from gati.pipeline.owner_lock import close_lock_file, remove_dead
from gati.pipeline.record_journal.format import (
    ENTRY,
    ENTRY_MAGIC,
    HEAD_BYTES,
    JournalHead,
    StoredEntry,
    UnreadableJournalError,
    checksum,
    read_head,
)
from gati.pipeline.record_journal.journal import MAX_JOURNAL_BYTES
from gati.pipeline.record_journal.reader import turns_in
from gati.pipeline.record_journal.recovery import dead_journals
from gati.pipeline.unfinished_files import unfinished_journals
from gati.trace.stored_records import restored

MAX_ID = 255
"""Longest text that can be an id."""

_DEFAULTS = ("conversation_id", "user_id")


class TurnSelection(Protocol):
    """Decides which turns are removed."""

    def selects(self, texts: set[str], at_us: int) -> bool:
        """Return True to remove a turn.

        Args:
            texts: The short texts in its records, among them all ids.
            at_us: When it began, in microseconds since the epoch.
        """
        ...

    def mentions(self, data: bytes) -> bool:
        """Return True to remove a journal that cannot be read."""
        ...


def remove_from_journals(folder: Path, selection: TurnSelection, seen: set[int], *, count_only: bool = False) -> int:
    """Remove selected turns from the journals in an account's folder; return their number.

    Args:
        folder: The folder.
        selection: What is removed.
        seen: Files that are done: several accounts may have links to one. Is extended.
        count_only: Change nothing.

    Raises:
        OSError: The disk fails.
    """
    removed = 0
    if not count_only:
        remove_dead(unfinished_journals(folder))  # their heads hold options, such as the user's id
    for path, fd in dead_journals(folder):
        try:
            number = os.fstat(fd).st_ino
            if number not in seen:
                seen.add(number)
                removed += _remove(path, fd, selection, count_only)
        finally:
            close_lock_file(fd)
    return removed


def _remove(path: Path, fd: int, selection: TurnSelection, count_only: bool) -> int:
    data = os.pread(fd, HEAD_BYTES + MAX_JOURNAL_BYTES, 0)
    try:
        head = read_head(data)
    except UnreadableJournalError:  # also one of a later version
        if not selection.mentions(data):
            return 0
        if not count_only:
            path.unlink(missing_ok=True)
        return 1
    removed = 0
    for entries in turns_in(data, head):
        if _is_selected(entries, head, selection):
            removed += 1
            for entry in entries if not count_only else ():
                _overwrite(fd, entry)
    if removed and not count_only:
        os.fsync(fd)
    return removed


def _is_selected(entries: list[StoredEntry], head: JournalHead, selection: TurnSelection) -> bool:
    options = head.description.get("options")
    defaults = {str(options[name]) for name in _DEFAULTS if name in options} if isinstance(options, dict) else set()
    texts: set[str] = set()
    began: int | None = None
    for entry in entries:
        try:
            record = restored(entry.data, 0)
        except ValueError:
            continue
        texts |= set(_short_texts(record))
        if began is None:
            began = getattr(record, "at", None)
    at = ((began or 0) + head.clock) // 1000
    # Ids of the turn's own take the place of the defaults, but the two look the same here.
    return selection.selects(texts | defaults, at)


def _short_texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if len(value) <= MAX_ID:
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _short_texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _short_texts(item)
    elif (fields := getattr(value, "__dataclass_fields__", None)) is not None:
        for name in fields:
            yield from _short_texts(getattr(value, name, None))


def _overwrite(fd: int, entry: StoredEntry) -> None:
    """Replace an entry by one that says nothing, of the same length."""
    data = b"X" + bytes(entry.length - 1)
    os.pwrite(fd, ENTRY.pack(ENTRY_MAGIC, len(data), checksum(data)) + data, entry.at - ENTRY.size)
