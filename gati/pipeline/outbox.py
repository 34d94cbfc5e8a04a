"""Queue of requests for one destination, shared by the worker and the senders.

It holds the lock, decides with the retry policy which request may be sent, and records the outcome. Nothing that can
take long runs under the lock: `JournalKeeper` does the operations on the journal.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from gati.exporters.base import Exporter, Outcome, Request, Verdict
from gati.pipeline import process_hooks
from gati.pipeline.codec import pack, unpack
from gati.pipeline.drop_callback import DropNotifier
from gati.pipeline.internal_errors import DISK, contain, guard, log
from gati.pipeline.joining import MAX_JOINT_FAILURES, members_of, send_apart
from gati.pipeline.journal_keeper import JournalKeeper
from gati.pipeline.ordered_queue import FOREVER
from gati.pipeline.queued_request import Batch, QueuedRequest
from gati.pipeline.quota_spool import QuotaSpool
from gati.pipeline.request_queue import Limits, RequestQueue, batch_requests
from gati.pipeline.retry import CircuitBreaker, Policy, RateBudget
from gati.pipeline.spool_keeper import SpoolKeeper

if TYPE_CHECKING:
    from gati.pipeline.journal import Journal, JournalEntry
    from gati.pipeline.record_journal.recovery import JournalRecovery
    from gati.pipeline.spool import Spool
    from gati.pipeline.stats import DeliveryCounters, Place


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
        self._is_over = False
        """True once it is closed and what is in memory only was counted as dropped."""
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
        self._accepted: Place = "published" if getattr(exporter, "publishes", False) else "delivered"
        self._successes = 0
        self._key = ""
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
        """Record the outcome of a request that `next` or `more` returned.

        Args:
            queued: the request.
            outcome: what became of it.
            failed_together: another request of the same call failed as well, which is one failure of the destination.
        """
        if queued.joined:
            self._settle_joined(queued, outcome)
            return
        halves = self._split(queued) if outcome.verdict is Verdict.SPLIT else None
        if outcome.verdict is Verdict.SPLIT and not halves:
            outcome = outcome._replace(verdict=Verdict.REJECT)
        rest = outcome.rest if outcome.verdict is Verdict.PARTIAL else None
        with self.changed:
            refusal = self._refusal(queued, outcome)
        refused = queued
        if rest is not None:
            refused = QueuedRequest(queued.ordering_key, rest.turn_id, rest.items, pack(rest), queued.batch)
        if refusal is not None:
            # Before its file is removed. The request is still in flight, so nobody else touches it.
            self._keeper.set_aside(refused, refusal)
        with self.changed:
            self._ordered.finish_attempt(queued)
            self._counters.count("requests")
            if outcome.verdict in (Verdict.RETRY, Verdict.PAUSE):
                self._record_failure(outcome, failed_together)
            else:
                self._record_answer(outcome)
            if rest is not None:
                self._count_delivered(queued, queued.items - rest.items)
            if refusal is not None:
                self._remove_rejected(queued, refused, refusal)
            else:
                self._move_on(queued, outcome, halves)
            if self._is_over:
                self._give_up(queued, outcome, rest, halves or ())
            finished = self._keeper.take_finished()
            self.changed.notify_all()
        self._keeper.clean_up(finished)
        self._mark_key(outcome)

    def _settle_joined(self, first: QueuedRequest, outcome: Outcome) -> None:
        """Record the outcome of requests that were sent together. If one may be the cause of a failure, each is sent alone."""
        members, verdict = members_of(first), outcome.verdict
        with self.changed:
            self._ordered.finish_attempt(first)
            self._counters.count("requests")
            if verdict is Verdict.OK:
                self._record_answer(outcome)
                for queued in members:
                    refused = min(outcome.refused_items, queued.items)
                    self._remove_accepted(queued, outcome._replace(refused_items=refused))
                    outcome = outcome._replace(refused_items=outcome.refused_items - refused)
            elif verdict in (Verdict.RETRY, Verdict.PAUSE):
                self._count_failure(first, outcome)
                self._record_failure(outcome, failed_together=False)
                if first.failures_among_successes >= MAX_JOINT_FAILURES:
                    send_apart(members)
                self._queue.withdraw_joined(members)
                self._retry_later(first, outcome)
            else:
                self._record_answer(outcome)
                send_apart(members)
                self._queue.withdraw_joined(members)
                self._ordered.retry_now(first)
            finished = self._keeper.take_finished()
            self.changed.notify_all()
        self._keeper.clean_up(finished)
        self._mark_key(outcome)

    def _move_on(self, queued: QueuedRequest, outcome: Outcome, halves: Sequence[Request] | None) -> None:
        """Remove a request from the queue, or decide when it is sent again, after it was attempted."""
        rest = outcome.rest if outcome.verdict is Verdict.PARTIAL else None
        if outcome.verdict is Verdict.OK:
            self._remove_accepted(queued, outcome)
        elif queued.batch.withdrawn:
            self._queue.withdraw_attempted(queued, queued.items if rest is None else rest.items)
        elif rest is not None:
            self._keep_rest(queued, rest, outcome)
        elif halves:
            self._queue.replace(queued, halves)
        else:
            self._retry_later(queued, outcome)

    def _retry_later(self, queued: QueuedRequest, outcome: Outcome) -> None:
        """Let a request that failed be sent again after a delay, or as soon as the circuit breaker allows."""
        if outcome.verdict is Verdict.PAUSE:
            self._ordered.retry_now(queued)
        else:
            delay = self.policy.delay(queued.attempts, outcome.retry_after)
            self._ordered.retry_at(queued, time.monotonic() + delay)

    def _give_up(
        self, queued: QueuedRequest, outcome: Outcome, rest: Request | None, halves: Sequence[Request]
    ) -> None:
        """Count what remains of a request that was in flight when the outbox was closed, if it is on no disk."""
        if queued.batch.entry is not None:
            return
        left = queued.items if outcome.verdict in (Verdict.RETRY, Verdict.PAUSE) else 0
        left += sum(part.items for part in ([rest] if rest is not None else halves))
        if left:
            self._counters.move(left, "pending", "dropped", "shutdown")
            self._drops.add("dropped", "shutdown", left, self.exporter.name, queued.data)

    def _refusal(self, queued: QueuedRequest, outcome: Outcome) -> str | None:
        """Count a failure of the request; return why it must be set aside, if so."""
        if outcome.verdict is Verdict.REJECT:
            return outcome.reason
        if outcome.verdict is Verdict.PARTIAL and outcome.rest is not None:
            return outcome.reason if outcome.rest.omissions >= self.policy.max_omissions else None
        if outcome.verdict is not Verdict.RETRY:
            return None
        self._count_failure(queued, outcome)
        queued.apart = queued.apart or queued.failures_among_successes > 0
        if queued.failures_among_successes < self.policy.max_failures_among_successes:
            return None
        return f"gave up after {queued.attempts} attempts: {outcome.reason}"

    def _count_failure(self, queued: QueuedRequest, outcome: Outcome) -> None:
        """Count a failure of a request, and whether others succeeded since the one before."""
        if outcome.verdict is Verdict.RETRY:
            queued.attempts += 1
            queued.failures_among_successes += 0 <= queued.successes_seen < self._successes
            queued.successes_seen = self._successes

    def _split(self, queued: QueuedRequest) -> Sequence[Request] | None:
        with guard("exporter.split"):
            return self.exporter.split(unpack(queued.data))
        return None

    def _record_failure(self, outcome: Outcome, failed_together: bool) -> None:
        name, reason = self.exporter.name, outcome.reason
        self._counters.count("retries")
        if failed_together:
            return
        was_paused = bool(self.breaker.paused)
        self.breaker.record_failure(outcome, time.monotonic())
        if outcome.local_fault:
            log.emit(DISK, "%s cannot be written (%s); messages are kept, and tried again", name, reason)
            return
        if outcome.verdict is Verdict.RETRY:
            log.emit(f"retry:{name}", "%s could not be reached or is busy (%s); retrying", name, reason)
            return
        log.emit(f"paused:{name}", "%s refuses the key (%s); messages are kept until the key works", name, reason)
        if not was_paused:
            self._drops.add("paused", self.breaker.paused, destination=name)

    def _record_answer(self, outcome: Outcome) -> None:
        """Close the circuit: the destination answered, even if it refused this request."""
        self.breaker.record_retry_after(outcome, time.monotonic())
        if self.breaker.record_success():
            log.emit(f"back:{self.exporter.name}", "%s is reachable again", self.exporter.name, level=logging.INFO)
            self._ordered.skip_delays()

    def _count_delivered(self, queued: QueuedRequest, items: int) -> None:
        self._successes += items > 0
        self._counters.move(items, queued.batch.place, self._accepted)

    def _keep_rest(self, queued: QueuedRequest, rest: Request, outcome: Outcome) -> None:
        """Send again what the destination did not list as accepted."""
        self._counters.count("retries")
        due = time.monotonic() + self.policy.delay(rest.omissions, outcome.retry_after)
        self._queue.replace(queued, [rest], delivered=queued.items - rest.items, due=due)

    def _remove_rejected(self, queued: QueuedRequest, refused: QueuedRequest, reason: str) -> None:
        """Remove a request of which the destination refused `refused`: the whole request, or the rest of it."""
        self._count_rejected(refused, refused.items, reason)
        self._queue.remove(queued)

    def _remove_accepted(self, queued: QueuedRequest, outcome: Outcome) -> None:
        """Remove a request that the destination accepted, except for some items that it did not name."""
        self._count_delivered(queued, queued.items - outcome.refused_items)
        if outcome.refused_items:
            self._count_rejected(queued, outcome.refused_items, outcome.reason)
        self._queue.remove(queued)

    def _count_rejected(self, refused: QueuedRequest, items: int, reason: str) -> None:
        name = self.exporter.name
        log.emit(f"rejected:{name}", "%s rejected %d messages: %s", name, items, reason)
        self._counters.move(items, refused.batch.place, "rejected")
        self._drops.add("rejected", reason, items, name, refused.data)

    def _mark_key(self, outcome: Outcome) -> None:
        """Record in the spool whether the key was ever accepted, once."""
        if outcome.verdict is Verdict.RETRY or self._key == "accepted":
            return
        state = "refused" if outcome.key_refused else "accepted"
        if state != self._key:
            self._key = state
            self._keeper.mark_key(accepted=state == "accepted")

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
                self._is_over = True
                self._queue.give_up_memory("shutdown")

    def on_finished(self, callback: Callable[[], None]) -> None:
        """Call a function after files were removed, when a flush may have ended."""
        self._keeper.on_finished = callback

    def abandon(self) -> None:
        """Detach from the spool, which belongs to the parent. Called in a forked child."""
        if self._spool is not None:
            self._spool.abandon()
