"""The destination of programs with a queue: requests are published, and `gati relay` delivers them."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Protocol

from gati.exporters.base import Outcome, Request, SpoolIdentity, Verdict
from gati.pipeline.codec import pack
from gati.queues.message import QueueMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gati.events import Item
    from gati.exporters.base import RequestEncoder
    from gati.queues.address import QueueAddress

MAX_BYTES = 950_000
"""Largest body of a request. With key and headers it stays below 1,000,000 bytes, Kafka's usual limit."""


class Publisher(Protocol):
    """A connection to a queue. Used by one thread at a time; no method raises."""

    def prepare(self) -> None:
        """Import the client library."""
        ...

    def publish(self, messages: Sequence[QueueMessage]) -> list[Outcome]:
        """Publish messages with different keys, and wait until each is acknowledged or has failed."""
        ...

    def after_fork(self) -> None:
        """Use a new connection in a forked child, and leave the inherited one alone."""
        ...

    def close(self) -> None:
        """Close the connection for good."""
        ...


class QueueExporter:
    """Publish the requests that Greenflash would receive. See `exporters.base.Exporter`.

    `eager`: what only this process has is lost with its container, so publishing begins as soon as a turn is finished.

    Args:
        address: The queue.
        product: The Greenflash product of the program; None if it names none.
        make_encoder: Creates an encoder of items as Greenflash requests of at most `MAX_BYTES`.
        publisher: Publishes them.
    """

    name = "queue"
    durable = False
    eager = True
    publishes = True

    def __init__(
        self,
        address: QueueAddress,
        product: str | None,
        make_encoder: Callable[[], RequestEncoder],
        publisher: Publisher,
    ) -> None:
        self.account = hashlib.sha256("\0".join(("queue", address.label, product or "")).encode()).hexdigest()[:16]
        self.spool_identity = SpoolIdentity(self.account, label=address.label, product=product or "")
        self._product = product or ""
        self.new_encoder = make_encoder
        """See `exporters.greenflash.exporter.GreenflashExporter`."""
        self._encoder = make_encoder()
        self._publisher = publisher

    def encode(self, items: Sequence[Item]) -> list[Request]:
        """Return the requests that Greenflash would receive."""
        return self._encoder.encode(items)

    def split(self, request: Request) -> tuple[Request, Request] | None:
        """Return both halves of a request that is too large for the queue; None if it cannot be split."""
        return self._encoder.split(request)

    def accepts(self, request: Request) -> bool:
        """Return False for a request from a damaged spool file. A relay checks more."""
        return bool(request.body) and request.items > 0

    def send(self, request: Request) -> Outcome:
        """Publish a request and wait for the acknowledgement."""
        return self.send_many([request])[0]

    def send_many(self, requests: Sequence[Request]) -> list[Outcome]:
        """Publish requests with different ordering keys, and wait for the acknowledgements."""
        now = time.time_ns() // 1_000_000
        messages = [self._message(request, now) for request in requests]
        try:
            outcomes = self._publisher.publish(messages)
        except Exception as error:  # noqa: BLE001 - whatever happened, send must not raise
            return [Outcome(Verdict.RETRY, f"unexpected {type(error).__name__}")] * len(requests)
        return [_fit(outcome, request) for outcome, request in zip(outcomes, requests, strict=True)]

    def prepare(self) -> None:
        """Import the client library."""
        self._publisher.prepare()

    def after_fork(self) -> None:
        """Use a new connection in a forked child."""
        self._publisher.after_fork()

    def close(self) -> None:
        """Close the connection."""
        self._publisher.close()

    def _message(self, request: Request, now_ms: int) -> QueueMessage:
        return QueueMessage(
            request.ordering_key, pack(request), request.endpoint, request.turn_id, request.items, self._product, now_ms
        )


def _fit(outcome: Outcome, request: Request) -> Outcome:
    """Return REJECT instead of SPLIT for a request that cannot be split."""
    if outcome.verdict is Verdict.SPLIT and request.items < 2:
        return outcome._replace(verdict=Verdict.REJECT)
    return outcome


def make_publisher(address: QueueAddress, timeout: float) -> Publisher:
    """Return the publisher for an address. Connects with the first message.

    Args:
        address: The queue.
        timeout: Seconds after which an attempt has failed.
    """
    if address.engine == "kafka":
        from gati.queues.kafka import KafkaPublisher  # late: each engine needs a package of its own

        return KafkaPublisher(address, timeout)
    from gati.queues.postgres import PostgresPublisher

    return PostgresPublisher(address, timeout)
