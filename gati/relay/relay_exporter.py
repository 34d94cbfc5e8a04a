"""Wraps a destination for a relay: times in order, a check that it still owns the conversation, and counts."""

from __future__ import annotations

import re
import threading
from collections import Counter
from typing import TYPE_CHECKING

from gati.exporters.base import Exporter, Outcome, Request, RequestLimits, Verdict

if TYPE_CHECKING:
    from gati.relay.conversation_times import ConversationTimes
    from gati.relay.rate_share import RateShare

_STATUS = re.compile(r"HTTP (\d{3})")

STALE = Outcome(Verdict.RETRY, "the relay has not polled in time")


class RelayExporter:
    """Forwards requests to another exporter. See `exporters.base.Exporter`."""

    durable = False
    eager = True

    def __init__(self, exporter: Exporter, times: ConversationTimes, rate: RateShare) -> None:
        self.name, self.account = exporter.name, exporter.account
        self.encode, self.split, self.after_fork = exporter.encode, exporter.split, exporter.after_fork
        self.close, self.prepare = exporter.close, getattr(exporter, "prepare", lambda: None)
        self.join_limits: RequestLimits | None = getattr(exporter, "request_limits", None)
        self.retries: Counter[str] = Counter()
        """Failed attempts by reason: the HTTP status, or `no answer`."""
        self.deduplicated = 0
        """Messages that the destination already had."""
        self._exporter, self._times, self._rate = exporter, times, rate
        self._lock = threading.Lock()

    def send(self, request: Request) -> Outcome:
        """Make one attempt. A relay that was stopped for longer than its session sends nothing: others own its lanes."""
        if not self._rate.is_fresh():
            return STALE
        request = self._times.restamp(request)
        outcome = self._exporter.send(request)
        if outcome.verdict in (Verdict.OK, Verdict.PARTIAL):
            self._times.delivered(request)
        with self._lock:
            self.deduplicated += outcome.deduplicated
            if outcome.verdict in (Verdict.RETRY, Verdict.PAUSE):
                status = _STATUS.match(outcome.reason)
                self.retries[status[1] if status else "no answer"] += 1
        if outcome.reason.startswith("HTTP 429"):
            self._rate.too_many()
        return outcome
