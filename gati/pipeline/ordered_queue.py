"""Requests in order: one lane for each conversation, one request of a lane under way at a time."""

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

PARCEL_BYTES = 400
"""What a request in memory costs beside its bytes."""

FOREVER = 3600.0
"""A wait that only news ends."""


@dataclass(slots=True, eq=False)
class Parcel:
    """One request on its way. `data` is what `codec.pack` made of it."""

    ordering_key: str
    turn_id: str
    items: int
    data: bytes
    batch: Batch
    attempts: int = 0
    strikes: int = 0
    wins: int = -1
    """Successes of the whole outbox when this one last failed."""
    under_way: bool = False

    @property
    def memory(self) -> int:
        """Bytes that it holds, roughly."""
        return len(self.data) + PARCEL_BYTES


@dataclass(slots=True, eq=False)
class Batch:
    """Requests that share a file, or, without one, only a place in memory."""

    items: int
    size: int
    file: SpoolFile | None = None
    epoch: int = 0
    parcels: list[Parcel] = field(default_factory=list)
    under_way: int = 0
    complete: bool = True
    """False once something of it was delivered or set aside, so that its file says too much."""

    @property
    def place(self) -> Place:
        return "spooled" if self.file else "pending"


class Lanes:
    """Not thread-safe: the outbox has the lock."""

    def __init__(self) -> None:
        self.under_way = 0
        self.memory = 0
        self._lanes: dict[str, deque[Parcel]] = {}
        self._ready: deque[str] = deque()
        self._later: list[tuple[float, int, str]] = []
        self._number = itertools.count()

    def __len__(self) -> int:
        return len(self._lanes)

    @property
    def ready(self) -> int:
        """Lanes whose first request may go, roughly."""
        return len(self._ready)

    def add(self, parcel: Parcel) -> None:
        """Put a request at the end of its lane."""
        self.memory += parcel.memory
        lane = self._lanes.get(parcel.ordering_key)
        if lane is None:
            self._lanes[parcel.ordering_key] = deque([parcel])
            self._ready.append(parcel.ordering_key)
        else:
            lane.append(parcel)

    def pick(self, now: float) -> tuple[Parcel | None, float]:
        """The next request to send, now under way; or None and the seconds until there may be one."""
        while self._later and self._later[0][0] <= now:
            self._ready.append(heapq.heappop(self._later)[2])
        while self._ready:
            lane = self._lanes.get(self._ready.popleft())
            # A lane may have been emptied by a drop while it stood here, or stand here twice.
            if lane and not lane[0].under_way:
                parcel = lane[0]
                parcel.under_way = True
                parcel.batch.under_way += 1
                self.under_way += 1
                return parcel, 0.0
        return None, self._later[0][0] - now if self._later else FOREVER

    def arrived(self, parcel: Parcel) -> None:
        """There is an answer; one of the four methods below must follow."""
        parcel.under_way = False
        parcel.batch.under_way -= 1
        self.under_way -= 1

    def done(self, parcel: Parcel) -> None:
        """Delivered or set aside: the lane goes on with what follows."""
        lane = self._lanes[parcel.ordering_key]
        lane.popleft()
        self.memory -= parcel.memory
        if lane:
            self._ready.append(parcel.ordering_key)
        else:
            del self._lanes[parcel.ordering_key]

    def again(self, parcel: Parcel) -> None:
        """To be tried again as soon as the destination may be tried."""
        self._ready.append(parcel.ordering_key)

    def later(self, parcel: Parcel, due: float) -> None:
        """To be tried again at a monotonic time."""
        heapq.heappush(self._later, (due, next(self._number), parcel.ordering_key))

    def replace(self, parcel: Parcel, parts: Sequence[Parcel]) -> None:
        """Its parts stand where it stood, and go at once."""
        lane = self._lanes[parcel.ordering_key]
        lane.popleft()
        lane.extendleft(reversed(parts))
        self.memory += sum(part.memory for part in parts) - parcel.memory
        self._ready.appendleft(parcel.ordering_key)

    def release(self) -> None:
        """All that wait for a time need not wait any more."""
        self._ready.extend(lane for _, _, lane in sorted(self._later))
        self._later.clear()

    def take_turn(self, name: str, turn: str) -> list[Parcel]:
        """Take out what waits of a turn, except what is under way: its answer decides."""
        lane = self._lanes.get(name)
        if lane is None:
            return []
        taken = [parcel for parcel in lane if parcel.turn_id == turn and not parcel.under_way]
        for parcel in taken:
            lane.remove(parcel)
            self.memory -= parcel.memory
        if not lane:
            del self._lanes[name]
        return taken
