"""Queue of requests for one destination, shared by the worker and the senders.

It holds the lock and decides with the retry policy which request may be sent; `Settlement` records the outcome. Nothing that
can take long runs under the lock: `JournalKeeper` does the operations on the journal.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from gati.exporters.base import Exporter, Outcome, Request
from gati.pipeline import process_hooks
from gati.pipeline.codec import pack
from gati.pipeline.drop_callback import DropNotifier
from gati.pipeline.internal_errors import contain
from gati.pipeline.journal_keeper import JournalKeeper
from gati.pipeline.ordered_queue import FOREVER
from gati.pipeline.queued_request import Batch, QueuedRequest
from gati.pipeline.quota_spool import QuotaSpool
from gati.pipeline.request_queue import Limits, RequestQueue, batch_requests
from gati.pipeline.retry import CircuitBreaker, Policy, RateBudget
from gati.pipeline.settlement import Settlement
from gati.pipeline.spool_keeper import SpoolKeeper

if TYPE_CHECKING:
    from gati.pipeline.journal import Journal, JournalEntry
    from gati.pipeline.record_journal.recovery import JournalRecovery
    from gati.pipeline.spool import Spool
    from gati.pipeline.stats import DeliveryCounters


class Outbox:
    """Thread-safe. `changed` is notified whenever a sender may have something to do."""

    def __init__(
        self,
        exporter: Exporter,
        counters: DeliveryCounters,
        spool: Spool | None,
        limits: Limits,
        policy: Policy | None = None,
        drops: DropNotifier | None = None,
        budget: RateBudget | None = None,
        journal: Journal | None = None,
        recovery: JournalRecovery | None = None,
    ) -> None:
        """`budget` may be shared with other outboxes that send to the same account.

        A `journal` holds the queued requests instead of a spool. With `recovery`, `adopt` takes over the records of
        exited processes as well.
        """
        self.exporter = exporter
        self.policy = policy or Policy()
        self.breaker = CircuitBreaker(self.policy, budget or RateBudget())
        self.changed = threading.Condition(threading.RLock())
        self.closed = False
        self.spools_only = process_hooks.import_interrupted()
        """True if this process cannot send: it only writes to disk, and another process delivers."""
        self._is_open = False
        self._counters = counters
        self._drops = drops or DropNotifier()
        self._spool = spool
        self._limits = limits
        self._queue = RequestQueue(counters, limits, exporter.name, self._drops)
        self._ordered = self._queue.ordered
        self._ordered.join_limits = getattr(exporter, "join_limits", None)
        if journal is not None:
            self._keeper = JournalKeeper(self.changed, self._queue, journal)
        else:
            accepts: Callable[[Request], bool] = getattr(exporter, "accepts", lambda request: True)
            disk = QuotaSpool(spool, limits.disk, accepts)
            self._keeper = keeper = SpoolKeeper(self.changed, self._queue, disk, limits)
            if recovery is not None:
                keeper.recover = lambda everything: disk.recover_journals(recovery, exporter, everything=everything)
        self._settlement = Settlement(
            exporter, self.changed, self._queue, self._keeper, self.breaker, self.policy, counters, self._drops
        )
        if spool is not None and self.spools_only:
            spool.locked = False

    # Incoming requests; called by the worker

    def accept(self, requests: Sequence[Request]) -> None:
        """Store requests, on disk if possible, and queue them by ordering key.

        Those that an internal error keeps from being queued are counted as dropped.
        """
        for lines in batch_requests(self._packed(requests), self._limits.batch_bytes):
            with contain("outbox.accept"):
                with self.changed:
                    kept = self._queue.without_dropped_turns(lines)
                if kept:
                    self._keeper.store(kept)

    def _packed(self, requests: Sequence[Request]) -> Iterator[tuple[Request, bytes]]:
        for request in requests:
            line = None
            with contain("outbox.accept"):
                try:
                    line = pack(request)
                finally:
                    if line is None:
                        self._queue.count_lost([(request, b"")])
            if line is not None:
                yield request, line

    def adopt(self, *, everything: bool = False) -> int:
        """Take over this account's files of processes that have exited; return the number of messages.

        Args:
            everything: include those of all other accounts of this exporter.
        """
        return 0 if self.closed or self.spools_only else self._keeper.adopt(everything=everything)

    def maintain(self, *, urgent: bool = False) -> int:
        """Adopt files if it is time, and do again what the disk refused; return the number of adopted messages.

        Args:
            urgent: a flush waits for it.
        """
        if self.closed or self.spools_only:
            return 0
        # A process whose key is refused leaves the files to others.
        return self._keeper.maintain(urgent=urgent, may_adopt=not self.breaker.paused)

    @property
    def next_maintenance(self) -> float:
        """Monotonic time of the next `maintain`."""
        return time.monotonic() + FOREVER if self.closed or self.spools_only else self._keeper.next_due()

    def restore_rejected(self, *, everything: bool = False) -> int:
        """Queue the requests that were set aside again; return the number of messages. See `adopt`."""
        return self._keeper.restore_rejected(everything=everything)

    @property
    def more_to_adopt(self) -> bool:
        """True if the last `adopt` left files of processes that have exited."""
        return self._keeper.more_to_adopt

    def withdraw(self, condition: Callable[[JournalEntry], bool]) -> None:
        """Leave the entries for which the condition holds to others.

        What is in flight stays until it is answered, and is not sent again. Belongs to the thread that adopts.
        """
        self._keeper.withdraw(condition)

    # Outgoing requests; called by senders

    def next(self, idle: float) -> QueuedRequest | None:
        """Wait for the next request that may be sent, and return it.

        Returns None after `idle` seconds without anything to send, or once closed.
        """
        until = time.monotonic() + idle
        while (found := self._next(until, idle)) is not None:
            if isinstance(found, QueuedRequest):
                return found
            self._keeper.load(found)
        return None

    def more(self, requests: int, size: int) -> list[QueuedRequest]:
        """Return further requests that may be sent now, without waiting. None has the ordering key of another in flight.

        Args:
            requests: the largest number of requests.
            size: the largest sum of their sizes, in bytes. The first one may be larger.
        """
        found: list[QueuedRequest] = []
        with self.changed:
            now = time.monotonic()
            while requests and size > 0 and self._is_open and not self.closed:
                if not self.breaker.healthy or now < self.breaker.blocked_until:
                    break
                queued, _ = self._ordered.start_next(now)
                if queued is None:
                    break
                found.append(queued)
                requests -= 1
                size -= len(queued.data)
        return found

    def _next(self, until: float, idle: float) -> QueuedRequest | Batch | None:
        """Wait for a request that may be sent or a batch that must be read."""
        with self.changed:
            while not self.closed and not self.spools_only:
                now = time.monotonic()
                found, wait = self._start_next(now)
                if found is not None:
                    return found
                waiting = self._is_open and bool(self._queue)
                if now >= until and (idle == 0 or not waiting):
                    return None
                self.changed.wait(max(0.001, wait if waiting else until - now))
        return None

    def _start_next(self, now: float) -> tuple[QueuedRequest | Batch | None, float]:
        if not self._is_open:
            return None, FOREVER
        if now < self.breaker.blocked_until:
            return None, self.breaker.blocked_until - now
        if self._ordered.in_flight and not self.breaker.healthy:
            return None, FOREVER
        read_at = self._keeper.read_at
        if now >= read_at and (batch := self._queue.next_to_read()) is not None:
            return batch, 0.0
        self._is_open = bool(self._queue)
        queued, wait = self._ordered.start_next(now)
        if queued is not None:
            self.breaker.budget.spend(now)
        return queued, min(wait, read_at - now) if now < read_at else wait

    def open(self) -> None:
        """Let senders take what is queued. The outbox closes again as soon as it is empty."""
        with self.changed:
            self._is_open = True
            self.changed.notify_all()

    def sendable(self) -> int:
        """Return how many requests could be in flight in addition to the current ones."""
        with self.changed:
            if self.closed or self.spools_only or not self._is_open or not self._queue:
                return 0
            # One sender waits even if nothing may be sent yet.
            free = max(1, self._ordered.ready) if self.breaker.healthy else 1
            return free if self.breaker.healthy else max(0, free - self._ordered.in_flight)

    @property
    def in_flight(self) -> int:
        """Number of requests that are being sent."""
        return self._ordered.in_flight

    def settle(self, queued: QueuedRequest, outcome: Outcome, *, failed_together: bool = False) -> None:
        """Record the outcome of a request that `next` or `more` returned; see `Settlement.settle`."""
        self._settlement.settle(queued, outcome, failed_together=failed_together)

    # Flush and shutdown

    def new_epoch(self) -> int:
        """Return the current epoch, which covers everything accepted so far, and begin the next."""
        with self.changed:
            return self._queue.new_epoch()

    def retry_now(self) -> None:
        """Skip all delays except one that the server asked for, because a flush waits."""
        with self.changed:
            self._keeper.read_at = 0.0
            self.breaker.retry_now()
            self._ordered.skip_delays()
            self.changed.notify_all()

    def is_settled(self, epoch: int) -> bool:
        """Return True if nothing up to the epoch is outstanding, or if nothing can be sent.

        That is so if the destination refuses the key or this machine prevents the delivery, and in a process that only
        writes to disk.
        """
        with self.changed:
            if self.spools_only or not self._queue.outstanding(epoch):
                return True
            if self._ordered.in_flight:
                return False
            blocked = time.monotonic() < self.breaker.blocked_until
            return self.breaker.obstructed or (bool(self.breaker.paused) and blocked)

    @property
    def holds_in_memory(self) -> bool:
        """True if requests that belong to a spool are in memory only, because the disk failed."""
        with self.changed:
            return self._spool is not None and bool(self._queue.in_memory())

    @property
    def disk_bytes(self) -> int:
        return self._queue.used_bytes

    @property
    def memory_bytes(self) -> int:
        return self._queue.memory

    def close(self) -> None:
        """Write what is in memory to disk if possible, and release the spool's files.

        What cannot be written is counted as dropped. Requests in flight may still be settled.
        """
        with self.changed:
            if self.closed:
                return
            self.closed = True
            self.changed.notify_all()
        try:
            self._keeper.close()
        finally:
            with self.changed:
                self._settlement.is_over = True
                self._queue.give_up_memory("shutdown")

    def on_finished(self, callback: Callable[[], None]) -> None:
        """Call a function after files were removed, when a flush may have ended."""
        self._keeper.on_finished = callback

    def abandon(self) -> None:
        """Detach from the spool, which belongs to the parent. Called in a forked child."""
        if self._spool is not None:
            self._spool.abandon()
