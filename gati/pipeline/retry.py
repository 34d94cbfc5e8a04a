"""The retry policy, the only one of the whole stack: when to send again, and when to give up.

A failure has one of two causes, distinguished by the outcome of other requests. Either the destination is
down: then all requests wait, and one at a time probes it. Or a single request cannot succeed: then only
its ordering key waits, and it is set aside after `max_failures_among_successes` failures between which
other requests succeeded.
"""

from __future__ import annotations

import math
import random
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

    def delay(self, failures: int, retry_after: float | None = None) -> float:
        """Return the seconds to wait after this many consecutive failures."""
        own = _random.uniform(0, min(self.cap, self.first * 2 ** min(failures - 1, 30)))
        if retry_after is None or math.isnan(retry_after):
            return own
        asked = min(max(retry_after, 0.0), self.retry_after_cap)
        # Never earlier than the server asked; a little later, so that not all clients come at once.
        return asked + _random.uniform(0, min(1.0, 0.1 * asked))


@dataclass(slots=True)
class CircuitBreaker:
    """Decide whether a destination may be tried now. Not thread-safe: the outbox holds the lock."""

    policy: Policy = field(default_factory=Policy)
    failures: int = 0
    """Consecutive failures, over all ordering keys."""
    blocked_until: float = 0.0
    """Monotonic time before which nothing is sent."""
    paused: str = ""
    """Reason why the destination refuses the key; empty if it does not."""
    server_set_delay: bool = False
    """True if the server asked for the current delay."""

    @property
    def healthy(self) -> bool:
        """True if several requests may be in flight at once."""
        return self.failures < 2 and not self.paused

    def record_success(self) -> bool:
        """Reset after an answer; return True if the destination was not healthy before."""
        was_unhealthy = not self.healthy
        self.failures, self.blocked_until, self.paused, self.server_set_delay = 0, 0.0, "", False
        return was_unhealthy

    def record_failure(self, outcome: Outcome, now: float) -> None:
        """Record a RETRY or a PAUSE."""
        self.failures += 1
        if outcome.verdict is Verdict.PAUSE:
            self.paused = outcome.reason or "refused"
            self.blocked_until, self.server_set_delay = now + self.policy.probe, False
        elif outcome.retry_after is not None:
            self.blocked_until = max(self.blocked_until, now + self.policy.delay(self.failures, outcome.retry_after))
            self.server_set_delay = True
        elif self.failures >= 2 and not (self.server_set_delay and self.blocked_until > now):
            self.blocked_until, self.server_set_delay = now + self.policy.delay(self.failures - 1), False

    def retry_now(self) -> None:
        """Skip the delay for a flush or shutdown, unless the server asked for it."""
        if not self.server_set_delay:
            self.blocked_until = 0.0
