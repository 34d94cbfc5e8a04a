"""Decides when a relay may send: its share of a rate, the time since its last poll, and what the destination asked for."""

from __future__ import annotations

import time

from gati.pipeline.retry import RateBudget

GROWTH_PER_SECOND = 0.05
"""By how much a rate that was halved grows again, as a part of the full rate."""

_STALE_WAIT_SECONDS = 0.05

_FORGET_SECONDS = 5.0
"""Time over which the rate is measured."""


class RateShare(RateBudget):
    """The part of a rate that belongs to this relay. Relays share it as they share the lanes."""

    __slots__ = ("_checked_at", "_counted_since", "_fresh_until", "_limit", "_next_at", "_rate", "_sent", "_share")

    def __init__(self, rate: float | None = None) -> None:
        """`rate` is the number of requests per second of all relays together; None for no limit."""
        super().__init__()
        self._rate = rate
        self._share = 1.0
        self._limit: float | None = rate
        self._next_at = 0.0
        self._fresh_until = 0.0
        self._checked_at = time.monotonic()
        self._counted_since = time.monotonic()
        self._sent = 0

    @property
    def blocked_until(self) -> float:
        """See `RateBudget.blocked_until`."""
        now = time.monotonic()
        stale = now + _STALE_WAIT_SECONDS if now >= self._fresh_until else 0.0
        return max(self._until, self._next_at, stale)

    @property
    def limit(self) -> float | None:
        """Requests per second of this relay now; None for no limit."""
        return None if self._limit is None else self._limit * (self._share if self._rate else 1.0)

    def is_fresh(self) -> bool:
        """Return True if the relay surely owns its lanes: its last poll is recent."""
        return time.monotonic() < self._fresh_until

    def polled(self, at: float, session_seconds: float) -> None:
        """Note that a poll began at this monotonic time: sending is allowed for the length of a session."""
        self._fresh_until = at + session_seconds

    def share(self, owned: int, total: int) -> None:
        """Set the part of the rate by the lanes owned."""
        self._share = owned / total if total else 1.0
        self._grow()

    def spend(self, now: float) -> None:
        """See `RateBudget.spend`."""
        self._sent += 1
        if limit := self.limit:
            # A pause earns nothing beyond the next request, so no burst follows it.
            self._next_at = max(self._next_at, now - 1.0 / limit) + 1.0 / limit

    def too_many(self) -> None:
        """Halve the rate, because the destination answered 429."""
        now = time.monotonic()
        with self._lock:
            if now - self._checked_at < 1.0:
                return  # answers to requests that were sent at the same time
            self._checked_at = now
            measured = self._sent / max(0.2, now - self._counted_since)
            current = self._limit if self._limit is not None else measured
            self._limit = max(1.0, current / 2)

    def _grow(self) -> None:
        now = time.monotonic()
        with self._lock:
            if now - self._counted_since > _FORGET_SECONDS:
                self._sent, self._counted_since = 0, now
            if self._limit is None or now - self._checked_at < 1.0:
                return
            full = self._rate if self._rate is not None else self._limit
            grown = self._limit + full * GROWTH_PER_SECOND * min(2.0, now - self._checked_at)
            self._checked_at = now
            self._limit = grown if self._rate is None else min(self._rate, grown)
