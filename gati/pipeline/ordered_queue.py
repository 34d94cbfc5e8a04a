"""Queued requests in order: a FIFO per ordering key (a conversation), with one request of each in flight at a time."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from typing import TYPE_CHECKING

from gati.pipeline.joining import followers_of, members_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gati.exporters.base import RequestLimits
    from gati.pipeline.queued_request import QueuedRequest

FOREVER = 3600.0
"""Timeout of a wait that a notification ends."""


class OrderedQueue:
    """A FIFO per ordering key. Not thread-safe: the outbox holds the lock."""

    def __init__(self) -> None:
        self.in_flight = 0
        """Number of calls; requests that are sent together are one."""
        self.join_limits: RequestLimits | None = None
        self.memory = 0
        self._by_key: dict[str, deque[QueuedRequest]] = {}
        self._ready: deque[str] = deque()
        self._delayed: list[tuple[float, int, str]] = []
        self._number = itertools.count()

    def __len__(self) -> int:
        return len(self._by_key)

    @property
    def ready(self) -> int:
        """Approximate number of keys whose first request may be sent now."""
        return len(self._ready)

    def add(self, queued: QueuedRequest) -> None:
        """Append a request to its key's FIFO."""
        self.memory += queued.memory
        queue = self._by_key.get(queued.ordering_key)
        if queue is None:
            self._by_key[queued.ordering_key] = deque([queued])
            self._ready.append(queued.ordering_key)
        else:
            queue.append(queued)

    def start_next(self, now: float) -> tuple[QueuedRequest | None, float]:
        """Mark the next request as in flight and return it; or None and the seconds until one is due."""
        while self._delayed and self._delayed[0][0] <= now:
            self._ready.append(heapq.heappop(self._delayed)[2])
        while self._ready:
            queue = self._by_key.get(self._ready.popleft())
            # A drop may have emptied the FIFO while its key was ready, and a key may be ready twice.
            if queue and not queue[0].in_flight:
                queued = queue[0]
                if len(queue) > 1 and self.join_limits is not None:
                    queued.joined = followers_of(queued, itertools.islice(queue, 1, None), self.join_limits)
                for member in members_of(queued):
                    member.in_flight = True
                    member.batch.in_flight += 1
                self.in_flight += 1
                return queued, 0.0
        return None, self._delayed[0][0] - now if self._delayed else FOREVER

    def finish_attempt(self, queued: QueuedRequest) -> None:
        """End an attempt. `remove`, `retry_now`, `retry_at` or `replace` must follow."""
        for member in members_of(queued):
            member.in_flight = False
            member.batch.in_flight -= 1
        queued.joined = ()
        self.in_flight -= 1

    def remove(self, queued: QueuedRequest) -> None:
        """Remove a request that was delivered or set aside; the next one of its key becomes ready."""
        queue = self._by_key[queued.ordering_key]
        queue.popleft()
        self.memory -= queued.memory
        if queue:
            self._ready.append(queued.ordering_key)
        else:
            del self._by_key[queued.ordering_key]

    def retry_now(self, queued: QueuedRequest) -> None:
        """Send the request again as soon as the circuit breaker allows."""
        self._ready.append(queued.ordering_key)

    def retry_at(self, queued: QueuedRequest, due: float) -> None:
        """Send the request again at a monotonic time."""
        heapq.heappush(self._delayed, (due, next(self._number), queued.ordering_key))

    def replace(self, queued: QueuedRequest, parts: Sequence[QueuedRequest], due: float | None = None) -> None:
        """Replace the first request of a key by its parts.

        They are sent at the monotonic time `due`; by default at once, before all other keys.
        """
        queue = self._by_key[queued.ordering_key]
        queue.popleft()
        queue.extendleft(reversed(parts))
        self.memory += sum(part.memory for part in parts) - queued.memory
        if due is None:
            self._ready.appendleft(queued.ordering_key)
        else:
            self.retry_at(queued, due)

    def skip_delays(self) -> None:
        """Make all delayed requests ready."""
        self._ready.extend(key for _, _, key in sorted(self._delayed))
        self._delayed.clear()

    def remove_turn(self, key: str, turn_id: str) -> list[QueuedRequest]:
        """Remove and return the requests of a turn, except one in flight: its answer decides."""
        return self.remove_where(key, lambda queued: queued.turn_id == turn_id)

    def remove_where(self, key: str, condition: Callable[[QueuedRequest], bool]) -> list[QueuedRequest]:
        """Remove and return the requests of a key for which the condition holds, except one in flight."""
        queue = self._by_key.get(key, deque())
        removed = [queued for queued in queue if not queued.in_flight and condition(queued)]
        if removed:
            gone = set(map(id, removed))
            kept = deque(queued for queued in queue if id(queued) not in gone)
            self.memory -= sum(queued.memory for queued in removed)
            if kept:
                self._by_key[key] = kept
            else:
                del self._by_key[key]
        return removed
