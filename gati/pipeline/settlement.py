"""Decides what becomes of a request after an attempt to send it: it is done, set aside, or sent again.

Counters, log lines, the circuit breaker and the queue follow from the outcome here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gati.exporters.base import Exporter, Outcome, Request, Verdict
from gati.pipeline.codec import pack, unpack
from gati.pipeline.internal_errors import DISK, guard, log
from gati.pipeline.joining import MAX_JOINT_FAILURES, members_of, send_apart
from gati.pipeline.queued_request import QueuedRequest

if TYPE_CHECKING:
    from gati.pipeline.drop_callback import DropNotifier
    from gati.pipeline.journal_keeper import JournalKeeper
    from gati.pipeline.request_queue import RequestQueue
    from gati.pipeline.retry import CircuitBreaker, Policy
    from gati.pipeline.stats import DeliveryCounters, Place


class Settlement:
    """Settles the requests of one outbox, whose lock it takes.

    Attributes:
        is_over: True once the outbox is closed, and what was in memory only was counted as dropped.
    """

    def __init__(
        self,
        exporter: Exporter,
        changed: threading.Condition,
        queue: RequestQueue,
        keeper: JournalKeeper,
        breaker: CircuitBreaker,
        policy: Policy,
        counters: DeliveryCounters,
        drops: DropNotifier,
    ) -> None:
        self.is_over = False
        self._exporter = exporter
        self._changed = changed
        self._queue = queue
        self._ordered = queue.ordered
        self._keeper = keeper
        self._breaker = breaker
        self._policy = policy
        self._counters = counters
        self._drops = drops
        self._accepted: Place = "published" if getattr(exporter, "publishes", False) else "delivered"
        self._successes = 0
        self._key = ""

    def settle(self, queued: QueuedRequest, outcome: Outcome, *, failed_together: bool = False) -> None:
        """Record the outcome of a request. The lock must not be held.

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
        with self._changed:
            refusal = self._refusal(queued, outcome)
        refused = queued
        if rest is not None:
            refused = QueuedRequest(queued.ordering_key, rest.turn_id, rest.items, pack(rest), queued.batch)
        if refusal is not None:
            # Before its file is removed. The request is still in flight, so nobody else touches it.
            self._keeper.set_aside(refused, refusal)
        with self._changed:
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
            if self.is_over:
                self._give_up(queued, outcome, rest, halves or ())
            finished = self._keeper.take_finished()
            self._changed.notify_all()
        self._keeper.clean_up(finished)
        self._mark_key(outcome)

    def _settle_joined(self, first: QueuedRequest, outcome: Outcome) -> None:
        """Record the outcome of requests that were sent together. If one may be the cause of a failure, each is sent alone."""
        members, verdict = members_of(first), outcome.verdict
        with self._changed:
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
            self._changed.notify_all()
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
            delay = self._policy.delay(queued.attempts, outcome.retry_after)
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
            self._drops.add("dropped", "shutdown", left, self._exporter.name, queued.data)

    def _refusal(self, queued: QueuedRequest, outcome: Outcome) -> str | None:
        """Count a failure of the request; return why it must be set aside, if so."""
        if outcome.verdict is Verdict.REJECT:
            return outcome.reason
        if outcome.verdict is Verdict.PARTIAL and outcome.rest is not None:
            return outcome.reason if outcome.rest.omissions >= self._policy.max_omissions else None
        if outcome.verdict is not Verdict.RETRY:
            return None
        self._count_failure(queued, outcome)
        queued.apart = queued.apart or queued.failures_among_successes > 0
        if queued.failures_among_successes < self._policy.max_failures_among_successes:
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
            return self._exporter.split(unpack(queued.data))
        return None

    def _record_failure(self, outcome: Outcome, failed_together: bool) -> None:
        name, reason = self._exporter.name, outcome.reason
        self._counters.count("retries")
        if failed_together:
            return
        was_paused = bool(self._breaker.paused)
        self._breaker.record_failure(outcome, time.monotonic())
        if outcome.local_fault:
            log.emit(DISK, "%s cannot be written (%s); messages are kept, and tried again", name, reason)
            return
        if outcome.verdict is Verdict.RETRY:
            log.emit(f"retry:{name}", "%s could not be reached or is busy (%s); retrying", name, reason)
            return
        log.emit(f"paused:{name}", "%s refuses the key (%s); messages are kept until the key works", name, reason)
        if not was_paused:
            self._drops.add("paused", self._breaker.paused, destination=name)

    def _record_answer(self, outcome: Outcome) -> None:
        """Close the circuit: the destination answered, even if it refused this request."""
        self._breaker.record_retry_after(outcome, time.monotonic())
        if self._breaker.record_success():
            log.emit(f"back:{self._exporter.name}", "%s is reachable again", self._exporter.name, level=logging.INFO)
            self._ordered.skip_delays()

    def _count_delivered(self, queued: QueuedRequest, items: int) -> None:
        self._successes += items > 0
        self._counters.move(items, queued.batch.place, self._accepted)

    def _keep_rest(self, queued: QueuedRequest, rest: Request, outcome: Outcome) -> None:
        """Send again what the destination did not list as accepted."""
        self._counters.count("retries")
        due = time.monotonic() + self._policy.delay(rest.omissions, outcome.retry_after)
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
        name = self._exporter.name
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
