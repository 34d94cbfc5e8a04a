"""The file operations of one outbox. None of them runs while the outbox's lock is held: a disk may hang."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gati.pipeline.internal_errors import guard
from gati.pipeline.ordered_queue import Batch, QueuedRequest
from gati.pipeline.quota_spool import is_out_of_resources
from gati.pipeline.request_queue import log_limit

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from gati.pipeline.quota_spool import Lines, QuotaSpool
    from gati.pipeline.request_queue import Limits, RequestQueue

SCAN_SECONDS = 30.0
"""Interval at which the spool is searched for files of processes that have exited."""

NEXT_SCAN_SECONDS = 5.0
"""Time until the next search if the last one left files."""

TRY_SECONDS = 1.0
"""Interval at which what is in memory only is written to disk, if the disk works and has space."""

MAX_BACKLOG = 2_000
"""Files that wait for delivery, above which no further ones are taken over."""

FIRST_READ_RETRY_SECONDS = 0.25
MAX_READ_RETRY_SECONDS = 5.0

MAX_UNSAVED = 1_000
"""Rejected requests that wait in memory for a disk that works again."""


class SpoolKeeper:
    """Write, read, adopt and remove files for the queue of an outbox.

    `store`, `adopt` and `maintain` belong to one thread, the worker.
    """

    def __init__(self, lock: threading.Condition, queue: RequestQueue, disk: QuotaSpool, limits: Limits) -> None:
        self.disk = disk
        self.on_finished: Callable[[], None] = lambda: None
        """Called after files were removed, so that a flush may have ended."""
        self.read_at = 0.0
        """Monotonic time before which no file is read."""
        self._lock = lock
        self._queue = queue
        self._limits = limits
        self._next_scan = self._next_try = 0.0
        self._failed_reads = 0
        self._unsaved: list[tuple[QueuedRequest, str]] = []
        self._unremoved: list[Batch] = []

    # Incoming requests

    def store(self, lines: Lines) -> None:
        """Write requests to disk if possible, and queue them. After an error on the way they are counted as dropped."""
        is_counted = False
        try:
            batch = Batch(sum(request.items for request, _ in lines), sum(len(line) + 1 for _, line in lines))
            batch.reserved = self.disk.reserve(batch.items)
            refused, fits = self._make_disk_space(batch.size)
            if not refused and fits:
                batch.file = self.disk.write([line for _, line in lines], batch.items, batch.reserved)
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
        if not batch.requests and batch.file:
            try:
                requests = self.disk.read(batch.file) or []
            except OSError:
                with self._lock:
                    self._queue.keep(batch)
                return False
        with self._lock:
            self._queue.drop(batch, requests, "spool_full")
            finished = self.take_finished()
        self.clean_up(finished)
        return True

    # Outgoing requests

    def load(self, batch: Batch) -> None:
        """Read the file of a batch that `RequestQueue.next_to_read` returned."""
        assert batch.file
        error, requests = None, None
        try:
            requests = self.disk.read(batch.file)
        except OSError as failure:
            error = failure
        with self._lock:
            if error is None:
                self._failed_reads, self.read_at = 0, 0.0
                self._queue.read_done(batch, requests)
            else:
                wait = min(MAX_READ_RETRY_SECONDS, FIRST_READ_RETRY_SECONDS * 2 ** min(self._failed_reads, 10))
                self._failed_reads += 1
                self.read_at = time.monotonic() + wait
                self._queue.read_failed(batch, again=is_out_of_resources(error))
            finished = self.take_finished()
            self._lock.notify_all()
        self.clean_up(finished)

    def take_finished(self) -> list[Batch]:
        """Return the batches whose files `clean_up` must remove. Called with the lock."""
        finished, self._queue.finished = self._queue.finished, []
        return finished

    def clean_up(self, finished: list[Batch]) -> None:
        """Remove the files of finished batches. A flush waits until this is done."""
        if not finished:
            return
        for batch in finished:
            if not self._remove(batch):
                self._unremoved.append(batch)
        with self._lock:
            for batch in finished:
                self._queue.forget(batch)
            self._lock.notify_all()
        with guard("flush"):
            self.on_finished()

    def _remove(self, batch: Batch) -> bool:
        return batch.file is None or (not batch.unsaved and self.disk.remove(batch.file))

    def set_aside(self, queued: QueuedRequest, reason: str) -> None:
        """Keep a rejected request with its reason. If the disk fails, its file stays until that is done."""
        if not self.disk.set_aside(queued.data, reason) and len(self._unsaved) < MAX_UNSAVED:
            queued.batch.unsaved.append(queued)
            self._unsaved.append((queued, reason))

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
        if time.monotonic() >= self._next_scan:
            self._restore_folder()
            if may_adopt:
                adopted = self.adopt()
            else:
                self._next_scan = time.monotonic() + SCAN_SECONDS
                self.disk.end_adopting()
        if self.disk.configured and (urgent or self.disk.usable):
            self._next_try = time.monotonic() + TRY_SECONDS
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
        files = self.disk.adopt(everything=everything)
        if self.disk.more_to_adopt:
            self._next_scan = now + NEXT_SCAN_SECONDS
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

    def _do_again(self) -> None:
        unsaved, self._unsaved = self._unsaved, []
        for queued, reason in unsaved:
            queued.batch.unsaved.remove(queued)
            self.set_aside(queued, reason)
            if queued.batch.done and not queued.batch.unsaved:
                self._unremoved.append(queued.batch)
        unremoved, self._unremoved = self._unremoved, []
        self._unremoved += [batch for batch in unremoved if not self._remove(batch)]

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
            assert batch.file
            missing = not self.disk.exists(batch.file)
            if not missing and (missing_only or batch.intact):
                continue
            with self._lock:
                kept = [*batch.requests, *batch.unsaved]
            if not kept:
                continue
            file = self.disk.rewrite(batch.file, [q.data for q in kept], sum(q.items for q in kept))
            with self._lock:
                if file is not None:
                    self._queue.used_bytes += 0 if batch.done else file.size - batch.file.size
                    batch.file = file
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
