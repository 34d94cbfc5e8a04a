"""The retry policy, the only one of the whole stack: when to send again, and when to give up.

A failure has one of two causes, distinguished by the outcome of other requests. Either the destination is
down: then all requests wait, and one at a time probes it. Or a single request cannot succeed: then only
its ordering key waits, and it is set aside after `max_failures_among_successes` failures between which
other requests succeeded.
"""

from __future__ import annotations

import math
import random
import threading
from dataclasses import dataclass, field
from typing import NamedTuple

from gati.exporters.base import Outcome, Verdict

# Not the global `random`: its state belongs to the program, and forked children would wait in step.
_random = random.SystemRandom()


class Policy(NamedTuple):
    """Delays in seconds. The defaults suit a service on the internet; tests use shorter ones."""

    first: float = 0.5
    """Upper bound of the first delay; it doubles with each failure. Full jitter: each delay is
    chosen between 0 and the bound."""

    cap: float = 30.0
    """Longest delay that we choose."""

    retry_after_cap: float = 300.0
    """Longest delay that a server can ask for."""

    probe: float = 30.0
    """Delay between two attempts while the destination refuses the key."""

    max_failures_among_successes: int = 20
    """Failures of one request, each while others succeeded, after which it is set aside."""

    max_omissions: int = 3
    """Successful responses that do not list a message, after which it is set aside."""

    def delay(self, failures: int, retry_after: float | None = None) -> float:
        """Return the seconds to wait after this many consecutive failures."""
        own = _random.uniform(0, min(self.cap, self.first * 2 ** min(failures - 1, 30)))
        if retry_after is None or math.isnan(retry_after):
            return own
        asked = min(max(retry_after, 0.0), self.retry_after_cap)
        # Never earlier than the server asked; a little later, so that not all clients come at once.
        return asked + _random.uniform(0, min(1.0, 0.1 * asked))


class RateBudget:
    """The time before which a destination wants no requests, as it asked by `Retry-After`. Thread-safe.

    Outboxes that send to the same account may share one. No success and no flush shortens the wait. A subclass may also
    limit the rate.
    """

    __slots__ = ("_lock", "_until")

    def __init__(self) -> None:
        self._until = 0.0
        self._lock = threading.Lock()

    @property
    def blocked_until(self) -> float:
        """Monotonic time before which nothing is sent."""
        return self._until

    def spend(self, now: float) -> None:
        """Note that a request is sent at this monotonic time."""

    def block(self, until: float) -> None:
        """Send nothing before `until`, unless a later time was set already."""
        with self._lock:
            self._until = max(self._until, until)


@dataclass(slots=True)
class CircuitBreaker:
    """Decide whether a destination may be tried now. Not thread-safe: the outbox holds the lock."""

    policy: Policy = field(default_factory=Policy)
    budget: RateBudget = field(default_factory=RateBudget)
    failures: int = 0
    """Consecutive failures, over all ordering keys."""
    retry_at: float = 0.0
    """Monotonic time before which nothing is sent, chosen by the policy."""
    paused: str = ""
    """Reason why the destination refuses the key; empty if it does not."""
    obstructed: bool = False
    """True if this machine prevented the last attempt, and the one before failed too."""

    @property
    def healthy(self) -> bool:
        """True if several requests may be in flight at once."""
        return self.failures < 2 and not self.paused

    @property
    def blocked_until(self) -> float:
        """Monotonic time before which nothing is sent."""
        return max(self.retry_at, self.budget.blocked_until)

    def record_retry_after(self, outcome: Outcome, now: float) -> None:
        """Let all requests wait as long as a response asked for; failures do this by themselves."""
        if outcome.retry_after is not None and not math.isnan(outcome.retry_after):
            self.budget.block(now + self.policy.delay(1, outcome.retry_after))

    def record_success(self) -> bool:
        """Reset after an answer; return True if the destination was not healthy before."""
        was_unhealthy = not self.healthy
        self.failures, self.retry_at, self.paused, self.obstructed = 0, 0.0, "", False
        return was_unhealthy

    def record_failure(self, outcome: Outcome, now: float) -> None:
        """Record a RETRY or a PAUSE."""
        self.failures += 1
        self.obstructed = outcome.local_fault and self.failures >= 2
        self.record_retry_after(outcome, now)
        if outcome.verdict is Verdict.PAUSE:
            self.paused = outcome.reason or "refused"
            self.retry_at = now + self.policy.probe
        elif outcome.retry_after is None and self.failures >= 2:
            self.retry_at = now + self.policy.delay(self.failures - 1)

    def retry_now(self) -> None:
        """Skip the policy's delay for a flush or shutdown. A delay that the server asked for stays."""
        self.retry_at, self.obstructed = 0.0, False
