"""Queues of tests on real brokers, and what was published there."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from gati.pipeline.codec import unpack
from gati.queues.message import QueueMessage
from tests.brokers import KafkaBroker, PostgresServer

if TYPE_CHECKING:
    from confluent_kafka import Consumer, TopicPartition


class Queue:
    """A queue and its broker."""

    def __init__(self, address: str, broker: KafkaBroker | PostgresServer) -> None:
        self.address = address
        self.broker = broker

    def read(self) -> list[QueueMessage]:
        """Return all that was published, those with the same key in order."""
        raise NotImplementedError

    def bodies(self) -> Iterator[dict[str, Any]]:
        """Yield the published bodies of messages."""
        for message in self.read():
            request = unpack(message.value)
            assert request.ordering_key == message.key
            assert (request.items, request.turn_id, request.endpoint) == (message.items, message.turn, message.endpoint)
            if request.endpoint == "messages":
                yield request.body

    def user_texts(self) -> dict[str, list[str]]:
        """Return the texts of users by conversation, in order of their first publication. Every turn must be whole."""
        texts: dict[str, dict[str, str]] = defaultdict(dict)
        kinds: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for body in self.bodies():
            conversation = body["external_conversation_id"]
            for message in body["messages"]:
                kinds[conversation][message["messageType"]].add(message["externalMessageId"])
                if message["messageType"] == "user_message":
                    texts[conversation].setdefault(message["externalMessageId"], message["content"])
        for conversation, found in kinds.items():
            counts = {kind: len(ids) for kind, ids in found.items()}
            assert len(set(counts.values())) == 1, (conversation, counts)
        return {conversation: list(found.values()) for conversation, found in texts.items()}


class KafkaQueue(Queue):
    """A topic."""

    def __init__(self, broker: KafkaBroker, partitions: int = 4) -> None:
        super().__init__(broker.new_topic(partitions), broker)
        self.topic = self.address.rpartition("/")[2]
        self._servers = broker.address

    def read(self) -> list[QueueMessage]:
        """See `Queue.read`."""
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer({"bootstrap.servers": self._servers, "group.id": "tests", "enable.auto.commit": False})
        found = []
        try:
            for partition in consumer.list_topics(self.topic, timeout=30).topics[self.topic].partitions:
                low, high = _offsets(consumer, TopicPartition(self.topic, partition))
                consumer.assign([TopicPartition(self.topic, partition, low)])
                while low < high:
                    message = consumer.poll(30)
                    assert message is not None
                    assert message.error() is None, message.error()
                    offset = message.offset()
                    assert offset is not None
                    low = offset + 1
                    headers: Sequence[tuple[str, bytes | None]] = message.headers() or ()  # type: ignore[assignment]  # read as bytes
                    found.append(QueueMessage.from_headers(_bytes(message.key()), _bytes(message.value()), headers))
        finally:
            consumer.close()
        return found

    def set_max_bytes(self, size: int) -> None:
        """Set the topic's largest message."""
        from confluent_kafka.admin import (  # type: ignore[attr-defined]  # documented as public
            AdminClient,
            AlterConfigOpType,
            ConfigEntry,
            ConfigResource,
            ResourceType,
        )

        entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, self.topic, incremental_configs=[entry])
        admin = AdminClient({"bootstrap.servers": self._servers})
        for future in admin.incremental_alter_configs([resource]).values():
            future.result(30)


class PostgresQueue(Queue):
    """A database."""

    def __init__(self, server: PostgresServer, address: str) -> None:
        super().__init__(address, server)

    def read(self) -> list[QueueMessage]:
        """See `Queue.read`."""
        import psycopg

        columns = (
            "key, value, endpoint, turn, items, account, (extract(epoch FROM published_at) * 1000)::bigint, format"
        )
        with psycopg.connect(self.address) as connection:
            rows = connection.execute(f"SELECT {columns} FROM gati_turns ORDER BY id").fetchall()
        return [QueueMessage(*row) for row in rows]


def _offsets(consumer: Consumer, partition: TopicPartition) -> tuple[int, int]:
    """Return the first and the last offset. A broker that was paused has no partitions until its controller knows it again."""
    from confluent_kafka import KafkaException

    until = time.monotonic() + 30
    while True:
        try:
            low, high = consumer.get_watermark_offsets(partition, timeout=30)
            return low, high
        except KafkaException:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def _bytes(content: str | bytes | None) -> bytes | None:
    return content.encode() if isinstance(content, str) else content
