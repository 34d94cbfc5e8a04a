"""Requests in order: one queue for each conversation, one request of a queue under way at a time."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gati.pipeline.spool import SpoolFile
    from gati.pipeline.stats import Place

REQUEST_OVERHEAD_BYTES = 400
"""What a request in memory costs beside its bytes."""

FOREVER = 3600.0
"""A wait that only news ends."""


@dataclass(slots=True, eq=False)
class QueuedRequest:
    """One request on its way. `data` is what `codec.pack` made of it."""

    ordering_key: str
    turn_id: str
    items: int
    data: bytes
    batch: Batch
    attempts: int = 0
    failures_among_successes: int = 0
    successes_seen: int = -1
    """Successes of the whole outbox when this one last failed."""
    in_flight: bool = False

    @property
    def memory(self) -> int:
        """Bytes that it holds, roughly."""
        return len(self.data) + REQUEST_OVERHEAD_BYTES


@dataclass(slots=True, eq=False)
class Batch:
    """Requests that share a file, or, without one, only a place in memory."""

    items: int
    size: int
    file: SpoolFile | None = None
    epoch: int = 0
    requests: list[QueuedRequest] = field(default_factory=list)
    in_flight: int = 0
    intact: bool = True
    """False once something of it was delivered or set aside, so that its file says too much."""

    @property
    def place(self) -> Place:
        return "spooled" if self.file else "pending"


class OrderedQueue:
    """Not thread-safe: the outbox has the lock."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.memory = 0
        self._by_key: dict[str, deque[QueuedRequest]] = {}
        self._ready: deque[str] = deque()
        self._delayed: list[tuple[float, int, str]] = []
        self._number = itertools.count()

    def __len__(self) -> int:
        return len(self._by_key)

    @property
    def ready(self) -> int:
        """OrderedQueue whose first request may go, roughly."""
        return len(self._ready)

    def add(self, queued: QueuedRequest) -> None:
        """Put a request at the end of its queue."""
        self.memory += queued.memory
        queue = self._by_key.get(queued.ordering_key)
        if queue is None:
            self._by_key[queued.ordering_key] = deque([queued])
            self._ready.append(queued.ordering_key)
        else:
            queue.append(queued)

    def start_next(self, now: float) -> tuple[QueuedRequest | None, float]:
        """The next request to send, now under way; or None and the seconds until there may be one."""
        while self._delayed and self._delayed[0][0] <= now:
            self._ready.append(heapq.heappop(self._delayed)[2])
        while self._ready:
            queue = self._by_key.get(self._ready.popleft())
            # A queue may have been emptied by a drop while it stood here, or stand here twice.
            if queue and not queue[0].in_flight:
                queued = queue[0]
                queued.in_flight = True
                queued.batch.in_flight += 1
                self.in_flight += 1
                return queued, 0.0
        return None, self._delayed[0][0] - now if self._delayed else FOREVER

    def finish_attempt(self, queued: QueuedRequest) -> None:
        """There is an answer; one of the four methods below must follow."""
        queued.in_flight = False
        queued.batch.in_flight -= 1
        self.in_flight -= 1

    def remove(self, queued: QueuedRequest) -> None:
        """Delivered or set aside: the queue goes on with what follows."""
        queue = self._by_key[queued.ordering_key]
        queue.popleft()
        self.memory -= queued.memory
        if queue:
            self._ready.append(queued.ordering_key)
        else:
            del self._by_key[queued.ordering_key]

    def retry_now(self, queued: QueuedRequest) -> None:
        """To be tried again as soon as the destination may be tried."""
        self._ready.append(queued.ordering_key)

    def retry_at(self, queued: QueuedRequest, due: float) -> None:
        """To be tried again at a monotonic time."""
        heapq.heappush(self._delayed, (due, next(self._number), queued.ordering_key))

    def replace(self, queued: QueuedRequest, parts: Sequence[QueuedRequest]) -> None:
        """Its parts stand where it stood, and go at once."""
        queue = self._by_key[queued.ordering_key]
        queue.popleft()
        queue.extendleft(reversed(parts))
        self.memory += sum(part.memory for part in parts) - queued.memory
        self._ready.appendleft(queued.ordering_key)

    def skip_delays(self) -> None:
        """All that wait for a time need not wait any more."""
        self._ready.extend(queue for _, _, queue in sorted(self._delayed))
        self._delayed.clear()

    def remove_turn(self, key: str, turn_id: str) -> list[QueuedRequest]:
        """Take out what waits of a turn, except what is under way: its answer decides."""
        queue = self._by_key.get(key)
        if queue is None:
            return []
        taken = [queued for queued in queue if queued.turn_id == turn_id and not queued.in_flight]
        for queued in taken:
            queue.remove(queued)
            self.memory -= queued.memory
        if not queue:
            del self._by_key[key]
        return taken
