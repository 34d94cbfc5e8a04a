"""The operations of an outbox on its journal. None of them runs while the outbox's lock is held: they may take long."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gati.pipeline.internal_errors import guard
from gati.pipeline.ordered_queue import FOREVER
from gati.pipeline.queued_request import Batch, QueuedRequest
from gati.pipeline.quota_spool import is_out_of_resources

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from gati.pipeline.journal import Journal, JournalEntry, Lines
    from gati.pipeline.request_queue import RequestQueue

TRY_SECONDS = 1.0
"""Interval at which the journal is asked again to do what failed."""

FIRST_READ_RETRY_SECONDS = 0.25
MAX_READ_RETRY_SECONDS = 5.0

MAX_UNSAVED = 1_000
"""Rejected requests that wait in memory for a journal that works again."""


class JournalKeeper:
    """Adopt, read and remove entries of a journal for the queue of an outbox.

    `store`, `adopt` and `maintain` belong to one thread.
    """

    more_to_adopt = False
    """True if the last `adopt` left entries."""

    def __init__(self, lock: threading.Condition, queue: RequestQueue, journal: Journal) -> None:
        self.on_finished: Callable[[], None] = lambda: None
        """Called after entries were removed, so that a flush may have ended."""
        self.read_at = 0.0
        """Monotonic time before which no entry is read."""
        self._journal = journal
        self._lock = lock
        self._queue = queue
        self._next_try = 0.0
        self._failed_reads = 0
        self._unsaved: list[tuple[QueuedRequest, str]] = []
        self._unremoved: list[Batch] = []

    # Incoming requests

    def store(self, lines: Lines) -> None:
        """Queue requests in memory."""
        batch = Batch(sum(request.items for request, _ in lines), sum(len(line) + 1 for _, line in lines))
        with self._lock:
            self._queue.add(batch, lines)
            self._lock.notify_all()

    def adopt(self, *, everything: bool = False) -> int:
        """Take over entries; return the number of messages."""
        entries = self._journal.adopt(everything=everything)
        with self._lock:
            messages = self._queue.add_adopted(entries)
            self._lock.notify_all()
        return messages

    def restore_rejected(self, *, everything: bool) -> int:
        """Queue the requests that were set aside again; return the number of messages."""
        return 0

    # Outgoing requests

    def load(self, batch: Batch) -> None:
        """Read the entry of a batch that `RequestQueue.next_to_read` returned."""
        assert batch.entry
        error, requests = None, None
        try:
            requests = self._journal.read(batch.entry)
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
        """Return the batches whose entries `clean_up` must remove. Called with the lock."""
        finished, self._queue.finished = self._queue.finished, []
        return finished

    def clean_up(self, finished: list[Batch]) -> None:
        """Remove the entries of finished batches. A flush waits until this is done."""
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
        if batch.entry is not None and batch.incomplete:
            self._journal.withdraw(batch.entry)
            return True
        return batch.entry is None or (not batch.unsaved and self._journal.remove(batch.entry))

    def set_aside(self, queued: QueuedRequest, reason: str) -> None:
        """Keep a rejected request with its reason. If that fails, its entry stays until it is done."""
        is_kept = self._journal.set_aside(queued.data, reason, queued.batch.entry)
        if not is_kept and len(self._unsaved) < MAX_UNSAVED:
            queued.batch.unsaved.append(queued)
            self._unsaved.append((queued, reason))

    def mark_key(self, *, accepted: bool) -> None:
        """Record whether the destination has accepted the key."""

    def withdraw(self, condition: Callable[[JournalEntry], bool]) -> None:
        """Leave the entries for which the condition holds to others, as soon as no request of them is in flight."""
        unsaved = [queued for queued, _ in self._unsaved if queued.batch.entry and condition(queued.batch.entry)]
        for queued in unsaved:
            queued.batch.unsaved.remove(queued)
            queued.batch.incomplete = True
        self._unsaved = [(queued, reason) for queued, reason in self._unsaved if queued not in unsaved]
        with self._lock:
            self._queue.withdraw(condition)
            finished = self.take_finished()
            self._lock.notify_all()
        self.clean_up(finished)
        self._remove_again()

    # Now and then

    def next_due(self) -> float:
        """Return the monotonic time of the next `maintain`."""
        return self._next_try if self._unsaved or self._unremoved else time.monotonic() + FOREVER

    def maintain(self, *, urgent: bool = False, may_adopt: bool = True) -> int:
        """Do again what failed before; return the number of adopted messages."""
        if urgent or time.monotonic() >= self._next_try:
            self._next_try = time.monotonic() + TRY_SECONDS
            self._do_again()
        return 0

    def _do_again(self) -> None:
        unsaved, self._unsaved = self._unsaved, []
        for queued, reason in unsaved:
            queued.batch.unsaved.remove(queued)
            self.set_aside(queued, reason)
            if queued.batch.done and not queued.batch.unsaved and queued.batch not in self._unremoved:
                self._unremoved.append(queued.batch)
        self._remove_again()

    def _remove_again(self) -> None:
        unremoved, self._unremoved = self._unremoved, []
        self._unremoved += [batch for batch in unremoved if not self._remove(batch)]

    def close(self) -> None:
        """Leave what remains to others."""
        self._do_again()
        self._journal.close()
