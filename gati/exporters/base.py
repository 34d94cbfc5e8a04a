"""The interface between the pipeline and a destination: encode turns as requests, send requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gati.events import Item


class Verdict(Enum):
    """The result of one attempt to send a request."""

    OK = "ok"
    RETRY = "retry"
    """Send the same request again later: the network or the server failed."""
    REJECT = "reject"
    """The server will never accept this content; it is set aside with the reason."""
    SPLIT = "split"
    """The request is too large or one of its items is invalid: send its halves (see `Exporter.split`)."""
    PARTIAL = "partial"
    """The server accepted some items only: `Outcome.rest` is a request with the others, to be sent again."""
    PAUSE = "pause"
    """The key is invalid or lacks a permission: keep everything and try again occasionally."""


class Outcome(NamedTuple):
    """A verdict with details for the retry policy and the log.

    Attributes:
        verdict: How to proceed.
        reason: Short text without content and secrets, for the log, counters and `rejected/`.
        retry_after: Seconds to wait as requested by the server; None if it requested nothing.
        rest: For PARTIAL only: the request without the items that the server accepted.
        key_refused: With PAUSE: the destination does not know the key (HTTP 401). If it never knew it, a process with
            a corrected key delivers what waits.
        local_fault: With RETRY: this machine prevents the delivery, for example by a folder that cannot be written. A
            flush does not wait until that changes.
        deduplicated: Number of items that the server had already.
    """

    verdict: Verdict
    reason: str = ""
    retry_after: float | None = None
    rest: Request | None = None
    key_refused: bool = False
    local_fault: bool = False
    deduplicated: int = 0


DELIVERED = Outcome(Verdict.OK)


@dataclass(slots=True)
class Request:
    """One call of the destination's API, ready to be spooled and sent.

    Attributes:
        ordering_key: Requests with the same key are sent in order, one at a time. Usually a conversation's id.
        body: Arguments of the SDK or the backend; JSON values only.
        items: Number of messages or events in the body. `Stats` counts these.
        turn_id: Id of the root run. When a limit is reached, the outbox drops whole turns.
        endpoint: Name of the API's resource, such as "messages" or "ratings".
        omissions: Number of successful responses that did not list these items. After some of them (see
            `pipeline.retry.Policy`) they are set aside.
    """

    ordering_key: str
    body: dict[str, Any]
    items: int
    turn_id: str
    endpoint: str = field(default="messages")
    omissions: int = 0


class SpoolIdentity(NamedTuple):
    """To whom the requests in a folder of the spool belong.

    Attributes:
        account: Names the folder, after the exporter's name.
        address: Fingerprint of the destination's address; empty if folders of other keys are never taken over.
        label: The address as shown to people, without credentials.
        product: The product that the folder belongs to; empty if it belongs to the key.
        former: Accounts whose folders also belong to this destination, such as the key's own one.
    """

    account: str
    address: str = ""
    label: str = ""
    product: str = ""
    former: tuple[str, ...] = ()


class RequestEncoder(Protocol):
    """Encodes items as requests: the part of `GreenflashEncoder` that destinations with the same requests use."""

    def encode(self, items: Sequence[Item]) -> list[Request]:
        """Convert finished items to requests."""
        ...

    def split(self, request: Request) -> tuple[Request, Request] | None:
        """Return both halves of a request; None if it cannot be split."""
        ...


class Exporter(Protocol):
    """A destination. `encode` is pure; `send` may block up to its timeout and never raises.

    An exporter may also define `prepare()`, which should import everything that `send` needs. It is called once per
    process before the first `send`, while forks are blocked: a child forked during an import in another thread can
    never import that module.

    It may define `send_many(requests)`, which makes one attempt for several requests, all of different ordering keys,
    and returns their outcomes in the same order. It is then called instead of `send`, from one thread, and takes whatever
    is ready while the previous call has run.

    With the attribute `publishes = True`, accepted messages count as published instead of delivered: something else
    delivers them.

    With the attribute `eager = True`, sending starts as soon as a turn is finished, whatever `flush_interval` is.
    It may define `accepts(request)`, which returns False for a request from a damaged file that `send` cannot send, and
    the attribute `spool_identity`, a `SpoolIdentity`, if its folder in the spool does not belong to `account`.
    """

    name: str
    """Unique name of the destination. Spooled requests are stored under it."""

    account: str
    """Fingerprint of address and key that reveals neither. Only a process with the same account delivers what another
    process has spooled."""

    durable: bool
    """True if requests need no spool, because nothing can keep `send` from storing them."""

    def encode(self, items: Sequence[Item]) -> list[Request]:
        """Convert finished items to requests. Items of one conversation may share a request."""
        ...

    def send(self, request: Request) -> Outcome:
        """Make one attempt. Called from background threads; never concurrently for the same ordering key."""
        ...

    def split(self, request: Request) -> tuple[Request, Request] | None:
        """Return both halves of a request; None if it cannot be split."""
        ...

    def after_fork(self) -> None:
        """Replace connections in a forked child. Keep references to the inherited ones, so that they are not closed."""
        ...

    def close(self) -> None:
        """Release connections. Called once, at shutdown."""
        ...
