"""The one retry policy of the whole stack: when to try again, and when to stop trying.

Two things can be wrong, and they are told apart by what else succeeds: the destination (then all
wait, and one request at a time finds out whether it is back), or a single request (then only its
lane waits, and after `max_failures_among_successes` failures among others' successes it is set aside).
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import NamedTuple

from gati.exporters.base import Outcome, Verdict

# The program's own `random` must not be touched, and forked children must not move in step.
_random = random.SystemRandom()


class Policy(NamedTuple):
    """Times in seconds. The defaults suit a service on the internet; tests shorten them."""

    first: float = 0.5
    """Upper end of the first wait; it doubles with each failure. Full jitter: each wait is
    anything between nothing and that."""

    cap: float = 30.0
    """Longest wait of our own choosing."""

    retry_after_cap: float = 300.0
    """Longest wait that a server can ask of us."""

    probe: float = 30.0
    """Wait between two attempts while the key is refused."""

    max_failures_among_successes: int = 20
    """Failures of one request, each while others succeeded, after which it is set aside."""

    def delay(self, failures: int, retry_after: float | None = None) -> float:
        """Seconds to wait after the given number of failures in a row."""
        own = _random.uniform(0, min(self.cap, self.first * 2 ** min(failures - 1, 30)))
        if retry_after is None or math.isnan(retry_after):
            return own
        asked = min(max(retry_after, 0.0), self.retry_after_cap)
        # Never earlier than asked; a little later, so that not all clients come at once.
        return asked + _random.uniform(0, min(1.0, 0.1 * asked))


@dataclass(slots=True)
class CircuitBreaker:
    """Whether a destination may be tried now. Not thread-safe: its owner has a lock."""

    policy: Policy = field(default_factory=Policy)
    failures: int = 0
    """Failures in a row, over all lanes."""
    blocked_until: float = 0.0
    """Monotonic time before which nothing is sent."""
    paused: str = ""
    """Why the key is refused; empty if it is not."""
    server_set_delay: bool = False
    """True if the server itself named the time."""

    @property
    def healthy(self) -> bool:
        """True if several requests may be under way at once."""
        return self.failures < 2 and not self.paused

    def record_success(self) -> bool:
        """Note a success; True if the destination was away before."""
        was_away = not self.healthy
        self.failures, self.blocked_until, self.paused, self.server_set_delay = 0, 0.0, "", False
        return was_away

    def record_failure(self, outcome: Outcome, now: float) -> None:
        """Note a RETRY or a PAUSE."""
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
        """Somebody waits (a flush, a shutdown): try now, unless the server named a time."""
        if not self.server_set_delay:
            self.blocked_until = 0.0
