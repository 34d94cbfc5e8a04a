"""The queue in Kafka as commands see it. See `admin.QueueAdmin`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from gati.queues.admin import DeadLetter, QueueStatus
from gati.queues.kafka import LIBRARY_LOG, client_options
from gati.queues.kafka_dead import KEY_HEADER, DeadLetterProducer
from gati.queues.kafka_log import REQUEST_SECONDS, group_of
from gati.queues.log import LogError
from gati.queues.message import QueueMessage

if TYPE_CHECKING:
    from gati.queues.address import QueueAddress


T = TypeVar("T")

_STARTING = frozenset({KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.COORDINATOR_NOT_AVAILABLE})


class KafkaAdmin:
    """Clients are made at the first use."""

    def __init__(self, address: QueueAddress) -> None:
        self._address = address
        self._producer = DeadLetterProducer(address)
        self._options = client_options(address)
        self._made: Consumer | None = None

    def exists(self) -> bool:
        """See `QueueAdmin.exists`."""
        try:
            return bool(self._partitions(self._address.topic))
        except KafkaException as error:
            raise LogError(f"Kafka: {error.args[0].name()}") from error

    def status(self) -> QueueStatus:
        """See `QueueAdmin.status`."""
        try:
            ends = self._ends(self._address.topic)
            if not ends:
                return QueueStatus(0, None, 0, 0)
            committed = _when_ready(lambda: self._committed(ends))
            starts = {partition: begin for partition, (begin, _) in ends.items()}
            turns = sum(end - max(committed.get(p, 0), starts[p]) for p, (_, end) in ends.items())
            relays = _when_ready(self._relays)
            oldest = self._oldest_seconds(committed, ends) if turns else None
        except KafkaException as error:
            raise LogError(f"Kafka: {error.args[0].name()}") from error
        return QueueStatus(turns, oldest, sum(1 for _ in self.dead_letters()), len(ends), relays)

    def _committed(self, lanes: Iterable[int]) -> dict[int, int]:
        # Not by AdminClient.list_consumer_group_offsets, which ends the process while the group's coordinator starts. This
        # consumer does not join the group.
        own = {"group.id": group_of(self._address), "enable.auto.commit": False}
        consumer = Consumer({**self._options, **own}, logger=LIBRARY_LOG)
        try:
            wanted = [TopicPartition(self._address.topic, lane) for lane in lanes]
            found = consumer.committed(wanted, timeout=REQUEST_SECONDS)
            return {partition.partition: partition.offset for partition in found if partition.offset >= 0}
        finally:
            consumer.close()

    def _relays(self) -> list[dict[str, Any]]:
        admin, group = AdminClient(self._options, logger=LIBRARY_LOG), group_of(self._address)
        described = admin.describe_consumer_groups([group], request_timeout=REQUEST_SECONDS)[group].result()
        return [
            {
                "relay": f"{member.host}/{member.member_id[-8:]}",
                "lanes": len(member.assignment.topic_partitions if member.assignment else []),
                "state": described.state.name.lower(),
            }
            for member in described.members
        ]

    def _ends(self, topic: str) -> dict[int, tuple[int, int]]:
        """Return the first and the next offset of each partition of a topic."""
        consumer = self._consumer()
        return {
            number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=REQUEST_SECONDS)
            for number in self._partitions(topic)
        }

    def _partitions(self, topic: str) -> list[int]:
        return list(self._consumer().list_topics(topic, timeout=REQUEST_SECONDS).topics[topic].partitions)

    def _oldest_seconds(self, committed: dict[int, int], ends: dict[int, tuple[int, int]]) -> float | None:
        waiting = [
            TopicPartition(self._address.topic, number, max(committed.get(number, 0), begin))
            for number, (begin, end) in ends.items()
            if max(committed.get(number, 0), begin) < end
        ]
        times = [
            int(message.published_ms)
            for message in (self._read_one(partition) for partition in waiting)
            if message is not None
        ]
        return max(0.0, time.time() - min(times) / 1000) if times else None

    def _read_one(self, partition: TopicPartition) -> QueueMessage | None:
        consumer = self._consumer()
        consumer.assign([partition])
        message = consumer.poll(REQUEST_SECONDS)
        if message is None or message.error() is not None:
            return None
        headers: Any = message.headers()
        return QueueMessage.from_headers(None, None, headers)

    def dead_letters(self) -> Iterator[DeadLetter]:
        """See `QueueAdmin.dead_letters`. Reads the topic from its beginning to its end."""
        topic = self._address.dead_topic
        try:
            ends = {number: span for number, span in self._ends(topic).items() if span[0] < span[1]}
            letters = self._read_all(topic, ends)
        except KafkaException as error:
            raise LogError(f"Kafka: {error.args[0].name()}") from error
        yield from sorted(letters, key=lambda letter: letter.message.dead_ms)

    def _read_all(self, topic: str, ends: dict[int, tuple[int, int]]) -> list[DeadLetter]:
        consumer = self._consumer()
        consumer.assign([TopicPartition(topic, number, begin) for number, (begin, _) in ends.items()])
        found: dict[str, DeadLetter] = {}
        until = time.monotonic() + REQUEST_SECONDS
        while any(consumer.position([TopicPartition(topic, n)])[0].offset < end for n, (_, end) in ends.items()):
            if time.monotonic() > until:
                raise LogError("Kafka: no answer")
            for message in consumer.consume(500, 0.2):
                until = time.monotonic() + REQUEST_SECONDS
                if message.error() is not None:
                    continue
                origin = (message.key() or b"").decode(errors="replace")
                found.pop(origin, None)
                if message.value() is not None:
                    found[origin] = DeadLetter(origin, _dead_message(message))
        return list(found.values())

    def replay(self, letters: Sequence[DeadLetter]) -> None:
        """See `QueueAdmin.replay`."""
        self._producer.replay(letter.message for letter in letters)
        self.drop(letters)

    def drop(self, letters: Sequence[DeadLetter]) -> None:
        """See `QueueAdmin.drop`."""
        self._producer.erase(letter.id for letter in letters)

    def close(self) -> None:
        """See `QueueAdmin.close`."""
        self._producer.close()
        if self._made is not None:
            self._made.close()

    def _consumer(self) -> Consumer:
        if self._made is None:
            own = {"group.id": "gati-admin", "enable.auto.commit": False, "auto.offset.reset": "earliest"}
            self._made = Consumer({**self._options, **own}, logger=LIBRARY_LOG)
        return self._made


def _when_ready(operation: Callable[[], T]) -> T:
    """Return the result of an operation, which is tried again while the group's coordinator starts."""
    until = time.monotonic() + REQUEST_SECONDS
    while True:
        try:
            return operation()
        except KafkaException as error:
            if error.args[0].code() not in _STARTING or time.monotonic() > until:
                raise
            time.sleep(0.2)


def _dead_message(message: Any) -> QueueMessage:
    headers = message.headers()
    key = next((value for name, value in headers or () if name == KEY_HEADER), b"")
    return replace(QueueMessage.from_headers(None, message.value(), headers), key=(key or b"").decode(errors="replace"))
