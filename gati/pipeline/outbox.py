"""Queue of requests for one destination, shared by the worker and the senders.

It holds the lock, decides with the retry policy which request may be sent, and records the outcome.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gati.exporters.base import Exporter, Outcome, Request, Verdict
from gati.pipeline.codec import unpack
from gati.pipeline.drop_callback import DropNotifier
from gati.pipeline.internal_errors import guard, log
from gati.pipeline.ordered_queue import FOREVER, Batch, QueuedRequest
from gati.pipeline.request_queue import Limits, Lines, RequestQueue, batch_requests
from gati.pipeline.retry import CircuitBreaker, Policy, RateBudget

if TYPE_CHECKING:
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
    ) -> None:
        """`budget` may be shared with other outboxes that send to the same account."""
        self.exporter = exporter
        self.policy = policy or Policy()
        self.breaker = CircuitBreaker(self.policy, budget or RateBudget())
        self.changed = threading.Condition(threading.RLock())
        self.closed = False
        self._is_open = False
        self._counters = counters
        self._drops = drops or DropNotifier()
        self._spool = spool
        self._queue = RequestQueue(counters, spool, limits, exporter.name, self._drops)
        self._ordered = self._queue.ordered
        self._successes = 0

    # Incoming requests; called by the worker

    def accept(self, requests: Sequence[Request]) -> None:
        """Store requests, on disk if possible, and queue them by ordering key."""
        for lines in batch_requests(requests):
            with self.changed:
                kept = self._queue.without_dropped_turns(lines)
            if kept:
                self._store(kept)

    def _store(self, lines: Lines) -> None:
        batch = Batch(sum(request.items for request, _ in lines), sum(len(line) + 1 for _, line in lines))
        with self.changed:
            refused = "" if self._queue.make_disk_space(batch.size) else "spool_full"
        if not refused and self._queue.spool.could_hold(batch.size):
            # Outside the lock: a slow disk may delay this thread, not the senders.
            batch.file = self._queue.spool.write([line for _, line in lines], batch.items)
        with self.changed:
            self._queue.add(batch, lines, refused)
            self.changed.notify_all()

    def adopt(self) -> int:
        """Take over this account's files of processes that have exited; return the number of messages."""
        with self.changed:
            adopted = self._queue.adopt()
            self.changed.notify_all()
        return adopted

    # Outgoing requests; called by senders

    def next(self, idle: float) -> QueuedRequest | None:
        """Wait for the next request that may be sent, and return it.

        Returns None after `idle` seconds without anything to send, or once closed.
        """
        until = time.monotonic() + idle
        with self.changed:
            while not self.closed:
                now = time.monotonic()
                queued, wait = self._start_next(now)
                if queued is not None:
                    return queued
                waiting = self._is_open and bool(self._queue)
                if now >= until and (idle == 0 or not waiting):
                    return None
                self.changed.wait(max(0.001, wait if waiting else until - now))
        return None

    def _start_next(self, now: float) -> tuple[QueuedRequest | None, float]:
        if not self._is_open:
            return None, FOREVER
        if now < self.breaker.blocked_until:
            return None, self.breaker.blocked_until - now
        if self._ordered.in_flight and not self.breaker.healthy:
            return None, FOREVER
        self._queue.load_from_disk()
        self._is_open = bool(self._ordered)
        return self._ordered.start_next(now)

    def open(self) -> None:
        """Let senders take what is queued. The outbox closes again as soon as it is empty."""
        with self.changed:
            self._is_open = True
            self.changed.notify_all()

    def sendable(self) -> int:
        """Return how many requests could be in flight in addition to the current ones."""
        with self.changed:
            if self.closed or not self._is_open or not self._queue:
                return 0
            # One sender waits even if nothing may be sent yet.
            free = max(1, self._ordered.ready) if self.breaker.healthy else 1
            return free if self.breaker.healthy else max(0, free - self._ordered.in_flight)

    def settle(self, queued: QueuedRequest, outcome: Outcome) -> None:
        """Record the outcome of a request that `next` returned."""
        with self.changed:
            self._ordered.finish_attempt(queued)
            self._counters.count("requests")
            verdict = outcome.verdict
            if verdict in (Verdict.RETRY, Verdict.PAUSE):
                self._retry(queued, outcome)
            else:
                self._record_answer(outcome)
                if verdict is Verdict.OK:
                    self._successes += 1
                    self._counters.move(queued.items, queued.batch.place, "delivered")
                    self._queue.remove(queued)
                elif verdict is Verdict.PARTIAL and outcome.rest is not None:
                    self._keep_rest(queued, outcome.rest, outcome)
                elif verdict is Verdict.REJECT or not self._split(queued):
                    self._set_aside(queued, outcome.reason)
            self.changed.notify_all()

    def _record_answer(self, outcome: Outcome) -> None:
        """Close the circuit: the destination answered, even if it refused this request."""
        self.breaker.record_retry_after(outcome, time.monotonic())
        if self.breaker.record_success():
            log.emit(f"back:{self.exporter.name}", "%s is reachable again", self.exporter.name, level=logging.INFO)
            self._ordered.skip_delays()

    def _retry(self, queued: QueuedRequest, outcome: Outcome) -> None:
        now, name, reason = time.monotonic(), self.exporter.name, outcome.reason
        self._counters.count("retries")
        was_paused = bool(self.breaker.paused)
        self.breaker.record_failure(outcome, now)
        if outcome.verdict is Verdict.PAUSE:
            log.emit(f"paused:{name}", "%s refuses the key (%s); messages are kept until the key works", name, reason)
            if not was_paused:
                self._drops.add("paused", self.breaker.paused, destination=name)
            self._ordered.retry_now(queued)
            return
        log.emit(f"retry:{name}", "%s could not be reached or is busy (%s); retrying", name, reason)
        queued.attempts += 1
        queued.failures_among_successes += 0 <= queued.successes_seen < self._successes
        queued.successes_seen = self._successes
        if queued.failures_among_successes >= self.policy.max_failures_among_successes:
            self._set_aside(queued, f"gave up after {queued.attempts} attempts: {reason}")
        else:
            self._ordered.retry_at(queued, now + self.policy.delay(queued.attempts, outcome.retry_after))

    def _keep_rest(self, queued: QueuedRequest, rest: Request, outcome: Outcome) -> None:
        """Count what was delivered of a request, and send the rest again or set it aside."""
        delivered = queued.items - rest.items
        self._successes += delivered > 0
        self._counters.move(delivered, queued.batch.place, "delivered")
        self._counters.count("retries")
        due = time.monotonic() + self.policy.delay(rest.omissions, outcome.retry_after)
        (part,) = self._queue.replace(queued, [rest], delivered=delivered, due=due)
        if rest.omissions >= self.policy.max_omissions:
            self._set_aside(part, outcome.reason)

    def _split(self, queued: QueuedRequest) -> bool:
        halves: Sequence[Request] | None = None
        with guard("exporter.split"):
            halves = self.exporter.split(unpack(queued.data))
        if not halves:
            return False
        self._queue.replace(queued, halves)
        return True

    def _set_aside(self, queued: QueuedRequest, reason: str) -> None:
        name = self.exporter.name
        log.emit(f"rejected:{name}", "%s rejected %d messages: %s", name, queued.items, reason)
        if not self.closed:
            self._queue.spool.set_aside(queued.data, reason)
        self._counters.move(queued.items, queued.batch.place, "rejected")
        self._drops.add("rejected", reason, queued.items, name, queued.data)
        self._queue.remove(queued)

    # Flush and shutdown

    def new_epoch(self) -> int:
        """Return the current epoch, which covers everything accepted so far, and begin the next."""
        with self.changed:
            return self._queue.new_epoch()

    def retry_now(self) -> None:
        """Skip all delays except one that the server asked for, because a flush waits."""
        with self.changed:
            self.breaker.retry_now()
            self._ordered.skip_delays()
            self.changed.notify_all()

    def is_settled(self, epoch: int) -> bool:
        """Return True if nothing up to the epoch is outstanding, or if the destination refuses the key."""
        with self.changed:
            if not self._queue.outstanding(epoch):
                return True
            blocked = time.monotonic() < self.breaker.blocked_until
            return bool(self.breaker.paused) and not self._ordered.in_flight and blocked

    @property
    def disk_bytes(self) -> int:
        return self._queue.spool.used_bytes

    @property
    def memory_bytes(self) -> int:
        return self._ordered.memory

    def close(self) -> None:
        """Release the spool's files. Requests in flight may still be settled."""
        with self.changed:
            if not self.closed:
                self.closed = True
                self._queue.close()
                self.changed.notify_all()

    def abandon(self) -> None:
        """Detach from the spool, which belongs to the parent. Called in a forked child."""
        if self._spool is not None:
            self._spool.abandon()
