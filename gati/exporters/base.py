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
        refused_items: With OK: number of items that the destination refused for good without naming them. They are
            counted as rejected, and not set aside.
        deduplicated: Number of items that the server had already.
    """

    verdict: Verdict
    reason: str = ""
    retry_after: float | None = None
    rest: Request | None = None
    key_refused: bool = False
    local_fault: bool = False
    refused_items: int = 0
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


class PackedRequest(Request):
    """A request whose items are JSON already, so that a request takes a few objects however many turns it holds.

    `body` is parsed at each access.

    Attributes:
        name: The list in the body that holds the items.
        fields: The other entries of the body, as JSON without the braces.
        content: The items as JSON, separated by commas; None if the request was made from a body.
        line: The line that `codec.pack` makes of it, if it is known.
        max_items: Items up to which following requests may join; 0 if none may.
        max_bytes: Size up to which they may join.
    """

    __slots__ = ("_body", "content", "fields", "line", "max_bytes", "max_items", "name")

    name: str
    fields: bytes
    content: bytearray | bytes | None
    line: bytes | None
    max_items: int
    max_bytes: int

    @classmethod
    def of(
        cls,
        ordering_key: str,
        turn_id: str,
        endpoint: str,
        name: str,
        fields: bytes,
        items: Sequence[bytes],
        max_items: int = 0,
        max_bytes: int = 0,
    ) -> PackedRequest:
        """Create a request from JSON."""
        request = cls(ordering_key, {}, len(items), turn_id, endpoint)
        request.name, request.fields, request.content = name, fields, bytearray(b",".join(items))
        request.max_items, request.max_bytes = max_items, max_bytes
        return request

    @property
    def body(self) -> dict[str, Any]:
        """The body, as a new dict."""
        if self.content is None:
            return self._body
        import orjson  # late: users import this module for its types

        body: dict[str, Any] = orjson.loads(b"{%b}" % self.body_json(self.fields))
        return body

    @body.setter
    def body(self, value: dict[str, Any]) -> None:
        self._body = value
        self.content = self.line = None
        self.max_items = 0

    @property
    def envelope(self) -> int | None:
        """A hash of what another request must have in common to join this one; None if none can."""
        return None if self.content is None or self.omissions else hash((self.endpoint, self.name, self.fields))

    def body_json(self, fields: bytes) -> bytes:
        """Return the body with these fields as JSON, without the braces."""
        comma = b',"' if fields else b'"'
        return b"".join((fields, comma, self.name.encode(), b'":[', self.content or b"", b"]"))

    def join(self, later: Request) -> bool:
        """Append the items of a later request to this one. Return False if that is not possible."""
        if (
            not self.max_items
            or not isinstance(later, PackedRequest)
            or not later.max_items
            or self.items + later.items > self.max_items
            or self.fields != later.fields
            or self.content is None
            or later.content is None
            or len(self.content) + 1 + len(later.content) + len(self.fields) + JSON_BYTES > self.max_bytes
        ):
            return False
        self.content = bytearray(self.content) if isinstance(self.content, bytes) else self.content
        self.content += b"," + later.content
        self.line = None
        self.items += later.items
        return True


JSON_BYTES = 16
"""Most bytes of a body besides its fields and items: `{,"messages":[]}`."""


class OpenRequests:
    """The latest request of each conversation, which following ones may join."""

    __slots__ = ("_by_key",)

    def __init__(self) -> None:
        self._by_key: dict[str, Request] = {}

    def add(self, request: Request) -> bool:
        """Join the request to the latest of its conversation; if that is not possible, it is the latest from now on.

        Returns:
            True if the request joined the other one.
        """
        opened = self._by_key.get(request.ordering_key)
        if isinstance(opened, PackedRequest) and opened.join(request):
            return True
        self._by_key[request.ordering_key] = request
        return False

    def clear(self) -> None:
        """Let no request join those that were added so far."""
        self._by_key.clear()


class RequestLimits(NamedTuple):
    """Limits of a request: number of items, and size in bytes."""

    items: int
    size: int


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

    With the attribute `join_limits`, a `RequestLimits`, queued requests that differ in their items only are sent together.

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
        """Replace connections in a forked child. Keep references to the inherited ones, so that they are not closed.

        Called in a background thread before the first other call, so a child that uses no exporter does not call it.
        """
        ...

    def close(self) -> None:
        """Release connections. Called once, at shutdown.

        If turns follow in an exit hook of the program, `encode`, `send` and `close` are called again. What `send` cannot
        deliver any more stays in the spool.
        """
        ...
