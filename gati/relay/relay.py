"""Reads a queue and delivers it: polls the log, hands records to the outbox, and settles what was delivered.

Polling, settling and giving lanes back happen in one thread. Sender threads of the outbox make the requests.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

from gati.pipeline.internal_errors import log as messages
from gati.pipeline.outbox import Outbox
from gati.pipeline.request_queue import Limits
from gati.pipeline.sender import Sender
from gati.pipeline.stats import DeliveryCounters
from gati.queues.log import Lag, LogError
from gati.relay.conversation_times import ConversationTimes
from gati.relay.log_journal import MAX_BYTES, LogJournal
from gati.relay.rate_share import RateShare
from gati.relay.relay_exporter import RelayExporter

if TYPE_CHECKING:
    from gati.exporters.base import Exporter
    from gati.pipeline.retry import Policy
    from gati.queues.log import TurnLog

SETTLE_SECONDS = 0.2
"""Interval at which delivered records are settled, and the time whose requests a killed relay repeats."""

POLL_SECONDS = 0.1
"""Time that a poll waits for records."""

LAG_SECONDS = 5.0
"""Interval at which the lag is measured."""

MAX_WAIT_SECONDS = 5.0
"""Longest pause after the broker failed; the first is short, and each next one is twice as long."""


class RelayOptions(NamedTuple):
    """How a relay delivers.

    Attributes:
        connections: Requests at once.
        rate: Requests per second of all relays together; None for no limit.
        grace_seconds: How long a relay that stops, or gives lanes away, waits for answers.
    """

    connections: int = 16
    rate: float | None = None
    grace_seconds: float = 12.0


class RelayCounts(NamedTuple):
    """A snapshot of a relay. Counts are since its start; turns are requests, messages are their items."""

    delivered: int
    deduplicated: int
    restamped: int
    requests: int
    retries: Mapping[str, int]
    dead: Mapping[str, int]
    held: int
    in_flight: int
    lanes: int
    total_lanes: int
    lag: Lag
    rate_limit: float | None
    paused: str
    rebalances: int


class Relay:
    """One relay. `run` blocks until `stop` is called."""

    def __init__(
        self, log: TurnLog, exporter: Exporter, options: RelayOptions | None = None, policy: Policy | None = None
    ) -> None:
        self._options = options or RelayOptions()
        self._log = log
        self._times = ConversationTimes()
        self._rate = RateShare(self._options.rate)
        self._exporter = RelayExporter(exporter, self._times, self._rate)
        self._journal = LogJournal(log, self._times, getattr(exporter, "accepts", lambda request: True))
        self._counters = DeliveryCounters()
        # The journal limits what is held, so the outbox never drops anything.
        limits = Limits(memory=4 * MAX_BYTES, disk=4 * MAX_BYTES, loaded=2 * MAX_BYTES)
        self._outbox = Outbox(
            self._exporter, self._counters, None, limits, policy, budget=self._rate, journal=self._journal
        )
        self._sender = Sender(self._outbox, self._options.connections, lambda: None, eager=True)
        self._stopping = threading.Event()
        self._rebalances = 0
        self._lag = Lag()
        self._lag_at = self._settle_at = 0.0
        self._polled_at = time.monotonic()
        self._failures = 0

    def stop(self) -> None:
        """Let `run` finish what is in flight, settle it, and return. Safe in a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Deliver until `stop` is called."""
        try:
            while not self._stopping.is_set():
                try:
                    self._step()
                    self._failures = 0
                except LogError as error:
                    self._wait_after(error)
        finally:
            self._finish()

    def _step(self) -> None:
        now = time.monotonic()
        if now - self._polled_at >= self._log.session_seconds:
            # This process was stopped, and others may own its lanes by now.
            self._log.reset(self)
        self._polled_at = now
        paused = self._journal.paused(self._log.lanes)
        records = self._log.poll(0.0 if self._is_full(paused) else POLL_SECONDS, paused, self)
        self._rate.polled(now, self._log.session_seconds)
        self._rate.share(len(self._log.lanes), self._log.total_lanes)
        if records:
            self._journal.receive(records)
            self._outbox.adopt()
        if self._outbox.next_maintenance <= now:
            self._outbox.maintain()
        if self._journal.held():
            self._outbox.open()
            self._sender.wake()
        if self._is_full(paused):
            self._journal.wait_for_space(POLL_SECONDS)
        if now >= self._settle_at:
            self._settle()
            self._settle_at = now + SETTLE_SECONDS
        if now >= self._lag_at:
            self._lag_at = now + LAG_SECONDS
            self._lag = self._log.lag()

    def _is_full(self, paused: Collection[int]) -> bool:
        return bool(paused) and len(paused) >= len(self._log.lanes)

    def _settle(self, *, wait: bool = False) -> None:
        self._log.settle(self._journal.take_done(), self._times.take_changed(), wait=wait)

    def _wait_after(self, error: LogError) -> None:
        """Pause, longer after each failure in a row."""
        messages.emit("queue", "the queue cannot be used (%s); trying again", error)
        wait = min(MAX_WAIT_SECONDS, 0.1 * 2 ** min(self._failures, 10))
        self._failures += 1
        self._stopping.wait(wait)

    def _finish(self) -> None:
        """Send nothing more, wait for what is in flight, settle it and leave."""
        self._outbox.withdraw(lambda _: True)
        self._wait_released(self._log.lanes)
        with contextlib.suppress(LogError):
            self._settle(wait=True)
        self._outbox.close()
        self._sender.join(time.monotonic() + 1.0)
        self._log.close()
        self._exporter.close()

    def _wait_released(self, lanes: Collection[int]) -> None:
        until = time.monotonic() + self._options.grace_seconds
        while not self._journal.wait_released(lanes, min(1.0, self._log.session_seconds / 4)):
            if time.monotonic() >= until:
                return
            with contextlib.suppress(LogError):
                started = time.monotonic()
                self._log.keep_alive()
                self._polled_at = started
                self._rate.polled(started, self._log.session_seconds)

    # Called by the log while it polls

    def assigned(self, lanes: Collection[int], floors: Mapping[int, int]) -> None:
        """See `LogListener.assigned`."""
        self._rebalances += 1
        self._times.assigned(floors)

    def revoked(self, lanes: Collection[int]) -> None:
        """See `LogListener.revoked`."""
        self._rebalances += 1
        self._withdraw(lanes)
        self._wait_released(lanes)
        self._settle(wait=True)
        self._times.revoked(lanes)

    def lost(self, lanes: Collection[int]) -> None:
        """See `LogListener.lost`."""
        self._rebalances += 1
        self._withdraw(lanes)
        self._times.revoked(lanes)

    def _withdraw(self, lanes: Collection[int]) -> None:
        gone = frozenset(lanes)
        self._outbox.withdraw(lambda entry: getattr(entry, "lane", None) in gone)

    # Reports

    @property
    def is_healthy(self) -> bool:
        """True if the relay polls its queue."""
        return self._rate.is_fresh()

    def counts(self) -> RelayCounts:
        """Return a snapshot."""
        stats = self._counters.stats()
        return RelayCounts(
            delivered=stats.delivered,
            deduplicated=self._exporter.deduplicated,
            restamped=self._times.restamped,
            requests=stats.requests,
            retries=Counter(self._exporter.retries),
            dead=Counter(self._journal.dead),
            held=self._journal.held(),
            in_flight=self._outbox.in_flight,
            lanes=len(self._log.lanes),
            total_lanes=self._log.total_lanes,
            lag=self._lag,
            rate_limit=self._rate.limit,
            paused=self._outbox.breaker.paused,
            rebalances=self._rebalances,
        )
