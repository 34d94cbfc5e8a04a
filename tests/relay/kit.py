"""What the tests of relays share: queues of both engines, relays in threads and processes, and checks at the server."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import orjson

from gati.exporters.base import PackedRequest, Request
from gati.exporters.greenflash.exporter import GreenflashExporter
from gati.pipeline.codec import pack
from gati.pipeline.retry import Policy
from gati.queues.address import QueueAddress
from gati.queues.log import TurnLog
from gati.queues.message import QueueMessage
from gati.relay.relay import Relay, RelayOptions
from gati.settings import load
from tests.brokers import KafkaBroker, PostgresServer
from tests.servers import LocalServer

PRODUCT = "6f1c1c8e-6b1e-4b8e-9b1e-0a4d3b0f7a11"
QUICK = Policy(first=0.02, cap=0.2, retry_after_cap=1.0, probe=0.2)
START_MS = 1_780_000_000_000
SESSION_SECONDS = 10.0
"""Longer than a busy machine may let a relay wait, which would give up its lanes then."""


def time_text(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC).isoformat()[:19]}.{ms % 1000:03d}Z"


def message_id(conversation: str, turn: int, part: str) -> str:
    return f"{conversation}-{turn:05d}-{part}"


def request(conversation: str, turn: int, at_ms: int | None = None, text: str = "Hello") -> Request:
    """A turn with a question and an answer."""
    at = START_MS + turn * 1_000 if at_ms is None else at_ms
    messages = [
        {
            "externalMessageId": message_id(conversation, turn, part),
            "messageType": kind,
            "content": text,
            "createdAt": time_text(at + number),
        }
        for number, (part, kind) in enumerate((("a", "user_message"), ("b", "assistant_message")))
    ]
    body = {
        "external_user_id": "user",
        "external_conversation_id": conversation,
        "product_id": PRODUCT,
        "messages": messages,
    }
    return Request(conversation, body, len(messages), f"{conversation}-{turn}")


def packed(item: Request) -> QueueMessage:
    """The message of a program: a relay can join its requests, unlike those of `queued`."""
    fields = orjson.dumps({name: value for name, value in item.body.items() if name != "messages"})[1:-1]
    messages = [orjson.dumps(message) for message in item.body["messages"]]
    return queued(PackedRequest.of(item.ordering_key, item.turn_id, item.endpoint, "messages", fields, messages))


def rating(conversation: str, turn: int) -> Request:
    body = {
        "product_id": PRODUCT,
        "external_message_id": message_id(conversation, turn, "b"),
        "rating": 1,
        "rating_min": 0,
        "rating_max": 1,
    }
    return Request(f"ratings/{conversation}", body, 1, f"rating-{conversation}-{turn}", "ratings")


def queued(item: Request) -> QueueMessage:
    return QueueMessage(item.ordering_key, pack(item), item.endpoint, item.turn_id, item.items, PRODUCT, START_MS)


def turns(conversations: Iterable[str], count: int) -> list[QueueMessage]:
    """Turns of several conversations, one of each in turn."""
    return [queued(request(name, number)) for number in range(count) for name in conversations]


class Queue:
    """A queue of an engine: an empty database or a new topic.

    Attributes:
        url: Its address.
        broker: Its broker, which tests may kill and start.
    """

    url: str
    broker: PostgresServer | KafkaBroker

    def publish(self, messages: Sequence[QueueMessage]) -> None:
        """Append messages."""
        raise NotImplementedError

    def log(self, session_seconds: float = SESSION_SECONDS) -> TurnLog:
        """Return the reading side."""
        raise NotImplementedError


class PostgresQueue(Queue):
    def __init__(self, url: str, broker: PostgresServer | None = None) -> None:
        import psycopg

        from gati.queues.postgres_schema import ensure_schema

        self.url = url
        if broker is not None:
            self.broker = broker
        with psycopg.connect(url, autocommit=True) as connection:
            ensure_schema(connection)

    def publish(self, messages: Sequence[QueueMessage]) -> None:
        import psycopg

        from gati.queues.postgres_schema import INSERT

        rows = [(m.key, m.account, m.endpoint, m.turn, m.items, m.format, m.value) for m in messages]
        with psycopg.connect(self.url) as connection, connection.cursor() as cursor:
            cursor.executemany(INSERT, rows)

    def log(self, session_seconds: float = SESSION_SECONDS) -> TurnLog:
        from gati.queues.postgres_log import PostgresLog

        return PostgresLog(QueueAddress.parse(self.url), session_seconds)


class KafkaQueue(Queue):
    def __init__(self, url: str, broker: KafkaBroker | None = None) -> None:
        self.url = url
        if broker is not None:
            self.broker = broker

    def add_partitions(self, total: int) -> None:
        """Add partitions to the topic."""
        from confluent_kafka.admin import (  # type: ignore[attr-defined]  # documented as public
            AdminClient,
            NewPartitions,
        )

        address = QueueAddress.parse(self.url)
        admin = AdminClient({"bootstrap.servers": address.servers})
        for future in admin.create_partitions([NewPartitions(address.topic, total)]).values():
            future.result(30)

    def publish(self, messages: Sequence[QueueMessage]) -> None:
        from confluent_kafka import Producer

        address = QueueAddress.parse(self.url)
        producer = Producer({"bootstrap.servers": address.servers, "enable.idempotence": True})
        for message in messages:
            headers: Any = message.to_headers()
            producer.produce(address.topic, message.value, message.key.encode(), headers=headers)
            producer.poll(0)
        assert producer.flush(30) == 0

    def log(self, session_seconds: float = SESSION_SECONDS) -> TurnLog:
        from gati.queues.kafka_log import KafkaLog

        return KafkaLog(QueueAddress.parse(self.url), session_seconds)


@contextmanager
def relay_of(
    queue: Queue,
    server: LocalServer,
    session_seconds: float = SESSION_SECONDS,
    policy: Policy = QUICK,
    key: str | None = None,
    **options: Any,
) -> Iterator[Relay]:
    """Run a relay in a thread."""
    exporter = GreenflashExporter(load(api_key=key or server.api_key, base_url=server.url))
    relay = Relay(queue.log(session_seconds), exporter, RelayOptions(**{"connections": 4, **options}), policy)
    thread = threading.Thread(target=relay.run, name="relay", daemon=True)
    thread.start()
    try:
        yield relay
    finally:
        relay.stop()
        thread.join(30)
        assert not thread.is_alive()


def received_ids(server: LocalServer) -> dict[str, list[str]]:
    """Return the ids of the messages that the server received, in order, repetitions included, by conversation."""
    ids: dict[str, list[str]] = {}
    for body in server.bodies():
        received = ids.setdefault(body["externalConversationId"], [])
        received += [message["externalMessageId"] for message in body["messages"]]
    return ids


def repeated(server: LocalServer) -> int:
    """Return how many messages arrived again."""
    counts = Counter(id_ for ids in received_ids(server).values() for id_ in ids)
    return sum(counts.values()) - len(counts)


def missing(server: LocalServer, published: Iterable[QueueMessage]) -> set[str]:
    """Return the turns of which a message did not arrive."""
    arrived = {id_.rsplit("-", 1)[0] for ids in received_ids(server).values() for id_ in ids}
    return {f"{m.key}-{int(m.turn.rsplit('-', 1)[1]):05d}" for m in published if m.endpoint == "messages"} - arrived


def assert_in_order(server: LocalServer, conversations: Iterable[str] | None = None) -> None:
    """Fail unless the first arrivals of a conversation's messages are in order, and so are the stored times."""
    received = received_ids(server)
    names = list(received) if conversations is None else set(conversations)
    for conversation in names:
        ids = received[conversation]
        first = list(dict.fromkeys(ids))
        assert first == sorted(first), conversation
    for conversation in names:
        times = [message["createdAt"] for message in server.messages(conversation)]
        assert len(set(times)) == len(times), conversation
        assert times == sorted(times), conversation
