"""Sends the contents of a local store to Greenflash through an outbox.

Users and organizations go first, then messages, then ratings and product events. Requests of one conversation are
sent in order of arrival, so parents precede their children. The outbox needs no spool: what it has not delivered is
still in the store.

The store keeps the position of each account, by kind of item. A position only covers items that were delivered or
rejected, so an interrupted push continues where it stopped. Messages, users and product events may be sent again
after an interruption, and Greenflash recognizes them by their ids. A rating has no id, so its position is saved
before the next one is sent.
"""

from __future__ import annotations

import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from gati.exporters.base import Exporter, Outcome, Request, Verdict
from gati.pipeline.outbox import Outbox
from gati.pipeline.request_queue import Limits
from gati.pipeline.retry import Policy
from gati.pipeline.sender import Sender
from gati.pipeline.stats import DeliveryCounters
from gati.push_requests import (
    APPENDED,
    UPSERTED,
    count_pending,
    group_messages,
    next_actions,
    next_messages,
    request_id,
    save_position,
    stored_action_request,
    stored_messages_request,
)
from gati.store.store import Store

_MAX_QUEUED_BYTES = 8 * 1024**2
"""Encoded requests in the outbox; reading continues once there are fewer."""

_LAST_ANSWERS_SECONDS = 5.0
"""How long a push that stops waits for responses to requests already sent."""


@dataclass
class PushResult:
    """The outcome of a push. Pushing again continues where this push stopped.

    Attributes:
        delivered: Messages and actions that Greenflash accepted.
        rejected: Messages and actions that Greenflash rejected permanently, by reason.
        left: Messages and actions to be sent by the next push.
        stopped: Why the push stopped early; empty if it completed.
    """

    delivered: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    left: int = 0
    stopped: str = ""


Progress = Callable[[int, int], None]
"""Called with the number of items done and the total."""


def pending(store: Store, exporter: Exporter) -> int:
    """Return the number of messages and actions that a push to this account would send."""
    with store.connections.snapshot() as db:
        return count_pending(db, exporter.account)


def push_store(
    store: Store,
    exporter: Exporter,
    *,
    product_id: str | None = None,
    on_progress: Progress | None = None,
    attempts: int = 8,
    connections: int = 4,
    policy: Policy | None = None,
) -> PushResult:
    """Send everything that was not pushed to the exporter's account before.

    Args:
        store: The local store.
        exporter: The destination, usually the Greenflash exporter. Positions are kept per `exporter.account`.
        product_id: Product of conversations without one.
        on_progress: Called when items were delivered or rejected.
        attempts: Consecutive failed attempts after which the push stops, because the server is unavailable.
        connections: Requests sent at once.
        policy: Delays between attempts.
    """
    push = _Push(store, exporter, product_id, on_progress, attempts, connections, policy or Policy())
    result = push.run()
    result.left = pending(store, exporter)
    return result


class _StopError(Exception):
    """The push cannot continue now."""


class _TrackedExporter:
    """Forwards requests to the exporter and tracks which of the current window are settled: delivered or rejected.

    Sends nothing more after a PAUSE, after too many failures in a row, or after an exception.
    """

    durable = False

    def __init__(self, exporter: Exporter, attempts: int, max_omissions: int, save: Callable[[str, int], None]) -> None:
        self.name, self.account = exporter.name, exporter.account
        self.encode, self.split, self.after_fork = exporter.encode, exporter.split, exporter.after_fork
        self.close, self.prepare = exporter.close, getattr(exporter, "prepare", lambda: None)
        self.result = PushResult()
        self.error: Exception | None = None
        self.kind = ""
        self._exporter, self._attempts, self._save = exporter, attempts, save
        self._max_omissions = max_omissions
        self._changed = threading.Condition()
        self._under_way = 0
        self._finished = False
        self._failures = 0
        self._last_failure = 0.0
        self._end = 0
        self._positions: dict[str, int] = {}
        self._items: Counter[str] = Counter()

    def start_window(self, kind: str, end: int, expected: Iterable[tuple[str, int, int]]) -> None:
        """Expect requests, each given by `request_id`, position of its first item, and number of items."""
        self.kind, self._end = kind, end
        for key, position, items in expected:
            self._positions[key], self._items[key] = position, items

    @property
    def unsettled(self) -> bool:
        """True while requests of the window are not settled."""
        with self._changed:
            return bool(self._positions)

    @property
    def position(self) -> int:
        """The latest position such that all items up to it are settled."""
        with self._changed:
            return min(self._positions.values()) - 1 if self._positions else self._end

    def raise_if_stopped(self) -> None:
        """Raise the exception that occurred in a sender thread, or `_StopError` if the push must stop."""
        if self.error is not None:
            raise self.error
        if self.result.stopped:
            raise _StopError

    @property
    def done(self) -> int:
        """Number of items delivered or rejected."""
        with self._changed:
            return self.result.delivered + sum(self.result.rejected.values())

    def finish(self, seconds: float) -> None:
        """Send nothing more, and wait for the responses to requests already sent."""
        with self._changed:
            self._finished = True
            self._changed.wait_for(lambda: not self._under_way, seconds)

    def send(self, request: Request) -> Outcome:
        """Make one attempt and record its outcome. Called by sender threads."""
        with self._changed:
            if self._finished or self.result.stopped or self.error is not None:
                return Outcome(Verdict.RETRY, "the push has stopped")
            self._under_way += 1
        started = time.monotonic()
        outcome = Outcome(Verdict.RETRY, "the push has stopped")
        try:
            outcome = self._exporter.send(request)
            if outcome.verdict is Verdict.SPLIT and self.split(request) is None:
                outcome = outcome._replace(verdict=Verdict.REJECT)
            self._record(request, outcome, started)
            if request.endpoint == "ratings" and outcome.verdict in (Verdict.OK, Verdict.REJECT):
                self._save("ratings", self.position)
        except Exception as error:  # noqa: BLE001 - raised again in the thread that runs the push
            self.error = error
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()
        return outcome

    def _record(self, request: Request, outcome: Outcome, started: float) -> None:
        with self._changed:
            if outcome.verdict in (Verdict.OK, Verdict.REJECT):
                if outcome.verdict is Verdict.OK:
                    self.result.delivered += request.items
                else:
                    self.result.rejected[outcome.reason] += request.items
                self._settle(request, request.items)
            elif outcome.verdict is Verdict.PARTIAL and outcome.rest is not None:
                self._record_partial(request, outcome, outcome.rest)
            elif outcome.verdict is Verdict.PAUSE:
                self.result.stopped = outcome.reason or "the key is refused"
            elif outcome.verdict is Verdict.RETRY:
                # Attempts that failed at the same time count once.
                if started >= self._last_failure:
                    self._failures, self._last_failure = self._failures + 1, time.monotonic()
                if self._failures >= self._attempts:
                    self.result.stopped = outcome.reason or "no answer"
                return
            self._failures = 0

    def _record_partial(self, request: Request, outcome: Outcome, rest: Request) -> None:
        """Record a response that lists some of the messages only. The outbox gives up the others as the policy says."""
        delivered = request.items - rest.items
        self.result.delivered += delivered
        self._settle(request, delivered)
        if rest.omissions >= self._max_omissions:
            self.result.rejected[outcome.reason] += rest.items
            self._settle(request, rest.items)

    def _settle(self, request: Request, items: int) -> None:
        self._items[request.turn_id] -= items
        if self._items[request.turn_id] <= 0:
            del self._items[request.turn_id], self._positions[request.turn_id]


class _Push:
    def __init__(
        self,
        store: Store,
        exporter: Exporter,
        product_id: str | None,
        on_progress: Progress | None,
        attempts: int,
        connections: int,
        policy: Policy,
    ) -> None:
        self._store, self._product_id, self._on_progress = store, product_id, on_progress
        self._account = exporter.account
        self._tracker = _TrackedExporter(exporter, attempts, policy.max_omissions, self._save)
        # The outbox must neither drop nor set aside anything: the push limits the queue, and stops instead.
        policy = policy._replace(max_failures_among_successes=sys.maxsize)
        self._outbox = Outbox(self._tracker, DeliveryCounters(), None, Limits(memory=sys.maxsize), policy)
        self._settled = threading.Event()
        self._sender = Sender(self._outbox, connections, self._settled.set)
        self._total = pending(store, exporter)
        self._done = 0

    def run(self) -> PushResult:
        try:
            for endpoint in UPSERTED:
                self._push_actions(endpoint)
            self._push_messages()
            for endpoint in APPENDED:
                self._push_actions(endpoint)
        except _StopError:
            pass
        finally:
            self._outbox.close()
            self._tracker.finish(_LAST_ANSWERS_SECONDS)
            self._sender.join(time.monotonic() + _LAST_ANSWERS_SECONDS)
            if self._tracker.kind:
                self._save(self._tracker.kind, self._tracker.position)
        if self._tracker.error is not None:
            raise self._tracker.error
        return self._tracker.result

    def _push_messages(self) -> None:
        while True:
            with self._store.connections.snapshot() as db:
                rows = next_messages(db, self._account)
            if not rows:
                return
            groups = group_messages(rows)
            self._push_window("messages", groups, "id", lambda group: stored_messages_request(group, self._product_id))

    def _push_actions(self, endpoint: str) -> None:
        while True:
            with self._store.connections.snapshot() as db:
                rows = next_actions(db, self._account, endpoint)
            if not rows:
                return
            groups = [[row] for row in rows]
            self._push_window(
                endpoint, groups, "place", lambda group: stored_action_request(endpoint, group[0], self._product_id)
            )

    def _push_window(
        self,
        kind: str,
        groups: Sequence[list[sqlite3.Row]],
        order: str,
        encode: Callable[[list[sqlite3.Row]], Request],
    ) -> None:
        """Send one request for each group of rows, and save the position when all are delivered or rejected."""
        end = max(row[order] for group in groups for row in group)
        expected = ((request_id(group), group[0][order], len(group)) for group in groups)
        self._tracker.start_window(kind, end, expected)
        for group in groups:
            self._outbox.accept([encode(group)])
            self._start_sending()
            while self._outbox.memory_bytes > _MAX_QUEUED_BYTES:
                self._wait()
        while self._tracker.unsettled:
            self._wait()
        self._save(kind, self._tracker.position)
        self._report()

    def _start_sending(self) -> None:
        self._tracker.raise_if_stopped()
        self._outbox.open()
        self._sender.wake(urgent=True)

    def _wait(self) -> None:
        """Wait until requests were settled. Raises `_StopError`."""
        self._start_sending()
        self._settled.wait(0.2)
        self._settled.clear()
        self._report()

    def _report(self) -> None:
        done = self._tracker.done
        if self._on_progress is not None and done > self._done:
            self._done = done
            self._on_progress(done, max(self._total, done))

    def _save(self, kind: str, position: int) -> None:
        with self._store.connections.writing() as db:
            save_position(db, self._account, kind, position)
