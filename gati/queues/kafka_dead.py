"""Dead letters in Kafka: a compacted topic with the origin as key, so that one can be erased."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # not listed in its stub

from gati.queues.kafka import LIBRARY_LOG, client_options
from gati.queues.log import LogError
from gati.queues.message import QueueMessage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gati.queues.address import QueueAddress
    from gati.queues.log import LogRecord

ACKNOWLEDGE_SECONDS = 10.0
"""Time limit for a broker's acknowledgement."""

KEY_HEADER = "key"
"""The ordering key of a dead letter, whose own key is its origin."""


class DeadLetterProducer:
    """Writes dead letters, requests that are replayed, and tombstones. Thread-safe."""

    def __init__(self, address: QueueAddress) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._producer: Producer | None = None

    def bury(self, record: LogRecord, value: bytes, reason: str) -> None:
        """Store a request among the dead letters. Raises LogError."""
        m = record.message
        dead_ms = int(time.time() * 1000)
        dead = QueueMessage(
            m.key,
            value,
            m.endpoint,
            m.turn,
            m.items,
            m.account,
            m.published_ms,
            m.format,
            reason[:500],
            record.origin,
            dead_ms,
        )
        headers = [*dead.to_headers(), (KEY_HEADER, m.key.encode(errors="replace"))]
        self.send([(self._address.dead_topic, record.origin.encode(), value, headers)])

    def replay(self, messages: Iterable[QueueMessage]) -> None:
        """Publish requests again. Raises LogError."""
        self.send(
            (self._address.topic, m.key.encode(errors="replace"), m.value, _without_reason(m).to_headers())
            for m in messages
        )

    def erase(self, origins: Iterable[str]) -> None:
        """Write a tombstone for each dead letter, so that the broker removes it. Raises LogError."""
        self.send((self._address.dead_topic, origin.encode(), None, []) for origin in origins)

    def send(self, records: Iterable[tuple[str, bytes, bytes | None, Any]]) -> None:
        """Send records as topic, key, value and headers, and wait until the brokers have them. Raises LogError."""
        failed: list[str] = []

        def acknowledge(error: KafkaError | None, _: object) -> None:
            if error is not None:
                failed.append(error.name())

        with self._lock:
            try:
                producer = self._connected()
                for topic, key, value, headers in records:
                    producer.produce(topic, value, key, on_delivery=acknowledge, headers=headers)
                left = producer.flush(ACKNOWLEDGE_SECONDS)
            except (KafkaException, BufferError) as error:
                raise LogError(f"Kafka: {type(error).__name__}") from error
        if left or failed:
            raise LogError(f"Kafka: {failed[0] if failed else 'no acknowledgement'}")

    def _connected(self) -> Producer:
        if self._producer is None:
            options = client_options(self._address)
            create_dead_topic(AdminClient(options, logger=LIBRARY_LOG), self._address.dead_topic)
            self._producer = Producer(
                {
                    **options,
                    "acks": "all",
                    "enable.idempotence": True,
                    "compression.type": "zstd",
                    "delivery.timeout.ms": int(ACKNOWLEDGE_SECONDS * 1000),
                },
                logger=LIBRARY_LOG,
            )
        return self._producer

    def close(self) -> None:
        """Send the rest."""
        if self._producer is not None:
            self._producer.flush(1.0)


def create_dead_topic(admin: AdminClient, topic: str) -> None:
    """Create the topic if it is missing and the brokers allow it."""
    new = NewTopic(topic, num_partitions=1, replication_factor=-1, config={"cleanup.policy": "compact"})
    with contextlib.suppress(KafkaException):  # it exists, or somebody else has to create it
        admin.create_topics([new], request_timeout=ACKNOWLEDGE_SECONDS)[topic].result(ACKNOWLEDGE_SECONDS)


def _without_reason(message: QueueMessage) -> QueueMessage:
    m = message
    return QueueMessage(m.key, m.value, m.endpoint, m.turn, m.items, m.account, m.published_ms, m.format)
