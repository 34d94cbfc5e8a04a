"""The reading side of a queue, the same for Kafka and PostgreSQL: records in lanes, each lane owned by one relay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from gati.queues.message import QueueMessage

RECORD_OVERHEAD_BYTES = 400
"""Memory of a record in addition to its value."""


@dataclass(slots=True, eq=False)
class LogRecord:
    """A queued request.

    Attributes:
        message: Key, value and headers.
        lane: Partition of Kafka, or lane of PostgreSQL.
        position: Offset in Kafka, or id in PostgreSQL. Positions of one key increase.
        origin: Where it is, for people: `topic/partition/offset` or `table/id`.
    """

    message: QueueMessage
    lane: int
    position: int
    origin: str

    @property
    def items(self) -> int:
        """Number of messages."""
        return self.message.items

    @property
    def size(self) -> int:
        """Approximate size in bytes."""
        return len(self.message.value) + RECORD_OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class Lag:
    """The backlog in the lanes of a relay: number of requests, and the age of the oldest in seconds."""

    turns: int = 0
    oldest_seconds: float = 0.0


class LogError(OSError):
    """The broker cannot be reached, or refuses an operation. The text contains no credentials."""


class LogListener(Protocol):
    """Callback of a log while it polls."""

    def assigned(self, lanes: Collection[int], floors: Mapping[int, int]) -> None:
        """Lanes are owned now. `floors` are the numbers that their former owners saved with `TurnLog.settle`."""
        ...

    def revoked(self, lanes: Collection[int]) -> None:
        """Lanes go to others. Returns when nothing of them is in flight, after settling what was delivered."""
        ...

    def lost(self, lanes: Collection[int]) -> None:
        """Lanes are owned by others already."""
        ...


class TurnLog(Protocol):
    """The queue as one relay reads it. All methods belong to one thread, except `bury`."""

    label: str
    """The address as shown to people, without credentials."""

    session_seconds: float
    """Time after the last poll at which the broker gives the lanes to others."""

    @property
    def lanes(self) -> frozenset[int]:
        """The lanes that this relay owns."""
        ...

    @property
    def total_lanes(self) -> int:
        """Number of lanes of the queue; 0 if it is not known yet."""
        ...

    def poll(self, timeout: float, paused: Collection[int], listener: LogListener) -> Sequence[LogRecord]:
        """Return new records of the owned lanes, except the paused ones, in order.

        Raises:
            LogError: the broker cannot be reached. Before that, `listener.lost` was called if lanes are lost.
        """
        ...

    def keep_alive(self) -> None:
        """Keep the lanes while `listener.revoked` waits. Raises LogError."""
        ...

    def settle(self, records: Sequence[LogRecord], floors: Mapping[int, int], *, wait: bool = False) -> None:
        """Mark records as done, and save a number for each of their lanes.

        Args:
            records: records that were delivered, dropped or buried.
            floors: by lane, the latest time of a delivered message in milliseconds.
            wait: return after the broker has stored it.

        Raises:
            LogError: the broker cannot be reached. The records are settled by a later call.
        """
        ...

    def bury(self, record: LogRecord, value: bytes, reason: str) -> None:
        """Store a request among the dead letters. Thread-safe. Raises LogError."""
        ...

    def lag(self) -> Lag:
        """Return what waits in the owned lanes. Raises LogError."""
        ...

    def reset(self, listener: LogListener) -> None:
        """Give up all lanes and begin again, because the session may be over."""
        ...

    def close(self) -> None:
        """Leave, so that others take over the lanes at once."""
        ...
