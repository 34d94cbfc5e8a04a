"""What the pipeline knows of a destination: encode a turn, send a request."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gati.events import Item


class Verdict(Enum):
    """What became of one attempt to send."""

    OK = "ok"
    RETRY = "retry"
    """Try the same request again later: a fault of the network or of the server."""
    REJECT = "reject"
    """The server refuses this content for good; it is set aside with the reason."""
    SPLIT = "split"
    """Too large, or one item in it is bad: try its halves (see `Exporter.split`)."""
    PAUSE = "pause"
    """The key is wrong or lacks a right: keep everything, try again now and then."""


class Outcome(NamedTuple):
    """A verdict with what the retry policy and the log need to know.

    Attributes:
        verdict: what to do next.
        reason: short and free of content and secrets; goes to log, counters and `rejected/`.
        retry_after: seconds that the server asked us to wait; None when it did not say.
    """

    verdict: Verdict
    reason: str = ""
    retry_after: float | None = None


DELIVERED = Outcome(Verdict.OK)


@dataclass(slots=True)
class Request:
    """One call of the destination's API, ready to be written to disk and sent.

    Attributes:
        ordering_key: requests with the same key are sent in order, one at a time (a conversation's id).
        body: plain JSON values only; the SDK's or the backend's arguments.
        items: how many messages or events the body holds; what `Stats` counts.
        turn_id: id of the root run; when a limit is reached, whole turns are dropped.
    """

    ordering_key: str
    body: dict[str, Any]
    items: int
    turn_id: str
    endpoint: str = field(default="messages")


class Exporter(Protocol):
    """A destination. `encode` is pure; `send` may block up to its timeout and never raises.

    One may also have a method `prepare`, called before the first `send` in a process while no
    fork can happen: what `send` would import is loaded there, since a child that is forked in the
    middle of another thread's import can never import that module.
    """

    name: str
    """Stands in the spool beside each request, so that the next process knows where it goes."""

    account: str
    """Fingerprint of address and key (no secret can be read from it): what one process
    spooled, only a process with the same account delivers."""

    durable: bool
    """True when `send` itself writes to this machine's disk, so that no spool is needed."""

    def encode(self, items: Sequence[Item]) -> list[Request]:
        """Turn finished items into requests; items of one conversation may share one."""
        ...

    def send(self, request: Request) -> Outcome:
        """Make one attempt. Called from background threads, one lane at a time."""
        ...

    def split(self, request: Request) -> tuple[Request, Request] | None:
        """Halves of a request that was too large or has a bad item; None if it has one item."""
        ...

    def after_fork(self) -> None:
        """Called in a forked child: replace connections, keep the inherited ones referenced."""
        ...

    def close(self) -> None:
        """Release connections. Called once, from the thread that shuts down."""
        ...
