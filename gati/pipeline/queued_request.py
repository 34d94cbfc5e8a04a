"""A request that waits in an outbox, and the batch that it came with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gati.exporters.base import PackedRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gati.exporters.base import Request
    from gati.pipeline.journal import JournalEntry
    from gati.pipeline.spool_file import SpoolFile
    from gati.pipeline.stats import Place

REQUEST_OVERHEAD_BYTES = 400
"""Memory of a queued request in addition to its data."""


@dataclass(slots=True, eq=False)
class QueuedRequest:
    """A request that waits to be sent. `data` is its line as packed by `codec.pack`."""

    ordering_key: str
    turn_id: str
    items: int
    data: bytes
    batch: Batch
    attempts: int = 0
    failures_among_successes: int = 0
    """Failures of this request between which other requests of the outbox succeeded."""
    successes_seen: int = -1
    """Successes of the whole outbox when this request last failed."""
    in_flight: bool = False
    envelope: int | None = None
    """Requests with the same one may be sent together; None if this one may not."""
    joined: Sequence[QueuedRequest] = ()
    """The next requests of its key, which are sent with it, while it is in flight."""
    apart: bool = False
    """True if it is sent alone, because it may be the one that the destination refuses."""

    @property
    def memory(self) -> int:
        """Approximate size in bytes."""
        return len(self.data) + REQUEST_OVERHEAD_BYTES


@dataclass(slots=True, eq=False)
class Batch:
    """Requests that share an entry of the journal, or that are in memory only."""

    items: int
    size: int
    entry: JournalEntry | None = None
    reserved: SpoolFile | None = None
    """Name for the file of a batch that could not be written yet."""
    epoch: int | None = None
    """None if no flush waits for the batch."""
    requests: list[QueuedRequest] = field(default_factory=list)
    in_flight: int = 0
    intact: bool = True
    """False once a request of it was delivered or set aside, so that the entry holds more than what remains."""
    unsaved: list[QueuedRequest] = field(default_factory=list)
    """Rejected requests that could not be set aside yet: the entry is kept for them."""
    failed_reads: int = 0
    withdrawn: bool = False
    """True once others deliver what remains of it: a failed attempt is not repeated."""
    incomplete: bool = False
    """True once a request of it was left to others."""
    done: bool = False
    """True once nothing of it is to be delivered."""

    @property
    def place(self) -> Place:
        return "spooled" if self.entry else "pending"

    @property
    def memory(self) -> int:
        """Approximate size of `requests` in bytes."""
        return sum(queued.memory for queued in self.requests)

    def set_requests(self, lines: Iterable[tuple[Request, bytes]]) -> None:
        """Set `requests` from requests and their lines."""
        self.requests = [
            QueuedRequest(
                request.ordering_key,
                request.turn_id,
                request.items,
                line,
                self,
                envelope=request.envelope if isinstance(request, PackedRequest) else None,
            )
            for request, line in lines
        ]
