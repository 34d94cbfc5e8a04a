"""The file operations of one outbox. None of them runs while the outbox's lock is held: a disk may hang."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gati.pipeline import journal_keeper, process_hooks
from gati.pipeline.journal_keeper import JournalKeeper
from gati.pipeline.queued_request import Batch
from gati.pipeline.request_queue import log_limit
from gati.pipeline.spool_file import SpoolFile

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from gati.pipeline.journal import Lines
    from gati.pipeline.quota_spool import QuotaSpool
    from gati.pipeline.request_queue import Limits, RequestQueue

SCAN_SECONDS = 30.0
"""Interval at which the spool is searched for files of processes that have exited."""

NEXT_SCAN_SECONDS = 5.0
"""Time until the next search if the last one left files."""

MAX_BACKLOG = 2_000
"""Files that wait for delivery, above which no further ones are taken over."""


class SpoolKeeper(JournalKeeper):
    """Write, read, adopt and remove files for the queue of an outbox."""

    def __init__(self, lock: threading.Condition, queue: RequestQueue, disk: QuotaSpool, limits: Limits) -> None:
        super().__init__(lock, queue, disk)
        self.disk = disk
        self.recover: Callable[[bool], None] = lambda everything: None
        """Writes what journals of exited processes hold to files, which `adopt` finds."""
        self._limits = limits
        self._next_scan = 0.0

    @property
    def more_to_adopt(self) -> bool:  # type: ignore[override]  # read only
        return self.disk.more_to_adopt

    def mark_key(self, *, accepted: bool) -> None:
        """Record whether the destination has accepted the key."""
        self.disk.mark_key(accepted=accepted)

    # Incoming requests

    def store(self, lines: Lines) -> None:
        """Write requests to disk if possible, and queue them. After an error on the way they are counted as dropped."""
        is_counted = False
        try:
            batch = Batch(sum(request.items for request, _ in lines), sum(len(line) + 1 for _, line in lines))
            batch.reserved = self.disk.reserve(batch.items)
            refused, fits = self._make_disk_space(batch.size)
            if not refused and fits:
                batch.entry = self.disk.write([line for _, line in lines], batch.items, batch.reserved)
            with self._lock:
                is_counted = True
                self._queue.add(batch, lines, refused)
                finished = self.take_finished()
                self._lock.notify_all()
        finally:
            if not is_counted:
                self._queue.count_lost(lines)
        self.clean_up(finished)

    def _make_disk_space(self, size: int) -> tuple[str, bool]:
        """Drop the oldest batches until `size` bytes fit on disk.

        Returns the limit for which the new batch must be dropped, if any, and whether it fits on disk. A disk that
        cannot be used, or that other processes fill, does not count: then memory's limit applies.
        """
        while self.disk.usable and self.disk.could_hold(size):
            with self._lock:
                if self.disk.excess_bytes(size, self._queue.used_bytes) <= 0:
                    return "", True
                log_limit("spool_full")
                oldest = None if self._limits.drop_newest else self._queue.oldest_on_disk()
            if oldest is None:
                return "spool_full", False
            if not self._drop(oldest):
                break
        return "", False

    def _drop(self, batch: Batch) -> bool:
        """Drop a batch, which is read once more for its turns; return False if it cannot be read now."""
        requests: Lines = []
        if not batch.requests and batch.entry:
            try:
                requests = self._journal.read(batch.entry) or []
            except OSError:
                with self._lock:
                    self._queue.keep(batch)
                return False
        with self._lock:
            self._queue.drop(batch, requests, "spool_full")
            finished = self.take_finished()
        self.clean_up(finished)
        return True

    # Now and then

    def next_due(self) -> float:
        """Return the monotonic time of the next `maintain`."""
        if not self.disk.configured:
            return self._next_scan
        with self._lock:
            waits_for_disk = bool(self._unsaved or self._unremoved or self._queue.in_memory())
        return min(self._next_scan, max(self.disk.retry_at, self._next_try)) if waits_for_disk else self._next_scan

    def maintain(self, *, urgent: bool = False, may_adopt: bool = True) -> int:
        """Adopt files, and do again what failed before; return the number of adopted messages.

        Args:
            urgent: a flush waits, so try to write what is in memory only.
            may_adopt: False if this process could not deliver what it adopts.
        """
        adopted = 0
        has_more = self.disk.more_journals or process_hooks.forks() > 0  # children may have left files
        if time.monotonic() >= self._next_scan or (urgent and has_more):
            self._restore_folder()
            if may_adopt:
                adopted = self.adopt()
                while urgent and self.disk.more_journals:
                    adopted += self.adopt()
            else:
                self._next_scan = time.monotonic() + SCAN_SECONDS
                self.disk.end_adopting()
        if self.disk.configured and (urgent or self.disk.usable):
            self._next_try = time.monotonic() + journal_keeper.TRY_SECONDS
            self._do_again()
            self._save_memory(urgent=urgent)
        return adopted

    def adopt(self, *, everything: bool = False) -> int:
        """Take over this account's files of processes that have exited; return the number of messages."""
        now = time.monotonic()
        self._next_scan = now + SCAN_SECONDS
        with self._lock:
            self._queue.retry_unreadable()
            if self._queue.backlog >= MAX_BACKLOG:
                return 0
        self.recover(everything)
        files = self.disk.adopt(everything=everything)
        if self.disk.more_to_adopt:
            self._next_scan = now + (0.0 if self.disk.more_journals else NEXT_SCAN_SECONDS)
        with self._lock:
            messages = self._queue.add_adopted(files)
            self._lock.notify_all()
        return messages

    def restore_rejected(self, *, everything: bool) -> int:
        """Queue the requests in `rejected/` again; return the number of messages."""
        files = self.disk.restore_rejected(everything=everything)
        with self._lock:
            return self._queue.add_adopted(files)

    def _restore_folder(self) -> None:
        if self.disk.restore_folder():
            self._rewrite(missing_only=True)

    def _save_memory(self, *, urgent: bool) -> None:
        """Write to disk what is in memory only, because the disk failed before."""
        with self._lock:
            batches = self._queue.in_memory()
        for batch in batches:
            with self._lock:
                lines, items = [queued.data for queued in batch.requests], batch.items
                fits = self.disk.excess_bytes(sum(map(len, lines)) + len(lines), self._queue.used_bytes) <= 0
            if not fits or not lines or batch.reserved is None:
                continue
            file = self.disk.write(lines, items, batch.reserved, again=urgent)
            if file is None:
                return
            with self._lock:
                self._queue.saved(batch, file, items)
                finished = self.take_finished()
            self.clean_up(finished)

    def _rewrite(self, *, missing_only: bool = False) -> None:
        """Write the files of loaded batches again which hold more than what remains, or which are missing."""
        with self._lock:
            batches = self._queue.with_file()
        for batch in batches:
            assert isinstance(batch.entry, SpoolFile)
            missing = not self.disk.exists(batch.entry)
            if not missing and (missing_only or batch.intact):
                continue
            with self._lock:
                kept = [*batch.requests, *batch.unsaved]
            if not kept:
                continue
            file = self.disk.rewrite(batch.entry, [q.data for q in kept], sum(q.items for q in kept))
            with self._lock:
                if file is not None:
                    self._queue.used_bytes += 0 if batch.done else file.size - batch.entry.size
                    batch.entry = file
                    if batch.done and not batch.unsaved:
                        self._queue.finished.append(batch)
                finished = self.take_finished()
            self.clean_up(finished)

    def close(self) -> None:
        """Write what is still in memory, let files hold only what remains, and release them for the next process."""
        self._do_again()
        self._rewrite()
        self._save_memory(urgent=True)
        self.disk.close()
