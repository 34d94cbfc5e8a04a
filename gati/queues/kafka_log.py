"""Reads the queue in Kafka as a member of a consumer group: a lane is a partition.

Offsets are committed up to the first record that is not settled, so a record is never skipped. The commit's metadata
tell the next owner which later records are settled already, and the time of the partition's last delivered message.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from gati.queues.kafka import LIBRARY_LOG, client_options
from gati.queues.kafka_dead import DeadLetterProducer
from gati.queues.log import Lag, LogError, LogRecord
from gati.queues.message import QueueMessage
from gati.queues.partition_progress import PartitionProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from confluent_kafka import Message

    from gati.queues.address import QueueAddress
    from gati.queues.log import LogListener

FETCH = 500
"""Most records of one poll."""

REQUEST_SECONDS = 10.0
"""Time limit of a request to the brokers. It is shorter with a short session: a poll that takes as long as a session
looks as if this process had been stopped."""

REFRESH_SECONDS = 30
"""Time after which partitions that were added are read."""

BUFFER_KILOBYTES = 16_384
"""What librdkafka reads ahead, in addition to what the relay holds."""

_IGNORED = frozenset({-191, -195, -187})
"""librdkafka's own codes for the end of a partition, a broken connection, and brokers that cannot be reached."""


def group_of(address: QueueAddress) -> str:
    """Return the consumer group of the relays of a queue."""
    return f"{address.topic}.relay"


class KafkaLog:
    """The queue in Kafka, as one relay reads it. See `log.TurnLog`."""

    def __init__(self, address: QueueAddress, session_seconds: float = 15.0) -> None:
        self.label = address.label
        self.session_seconds = session_seconds
        self.total_lanes = 0
        self._address = address
        self._request_seconds = min(REQUEST_SECONDS, session_seconds / 3)
        self._dead = DeadLetterProducer(address)
        self._consumer: Consumer | None = None
        self._ignores_changes = self._must_count_lanes = False
        self._progress: dict[int, PartitionProgress] = {}
        self._floors: dict[int, int] = {}
        self._dirty: set[int] = set()
        self._uncommitted: set[int] = set()
        """Lanes whose last commit failed. Written by librdkafka's callback in `poll`."""
        self._paused: set[int] = set()

    @property
    def lanes(self) -> frozenset[int]:
        """See `TurnLog.lanes`."""
        return frozenset(self._progress)

    def poll(self, timeout: float, paused: Collection[int], listener: LogListener) -> Sequence[LogRecord]:
        """See `TurnLog.poll`. While brokers are away it returns nothing."""
        try:
            consumer = self._connected(listener)
            self._pause(consumer, set(paused) & self._progress.keys())
            first = consumer.poll(timeout)
            if self._must_count_lanes:
                self._count_lanes(consumer)
            messages = [] if first is None else [first, *consumer.consume(FETCH - 1, 0)]
        except KafkaException as error:
            raise _log_error(error) from error
        return [record for message in messages if (record := self._record(message)) is not None]

    def _record(self, message: Message) -> LogRecord | None:
        if (error := message.error()) is not None:
            if error.code() in _IGNORED:
                return None
            raise LogError(f"Kafka: {error.name()}")
        lane, position = message.partition(), message.offset()
        progress = self._progress.get(lane) if lane is not None else None
        if lane is None or position is None or progress is None or position in progress.open:
            return None
        raw: Any = message
        content = QueueMessage.from_headers(raw.key(), raw.value(), raw.headers())
        record = LogRecord(content, lane, position, f"{self._address.topic}/{lane}/{position}")
        if progress.add(record):
            return record
        self._dirty.add(lane)
        return None

    def _pause(self, consumer: Consumer, wanted: set[int]) -> None:
        paused = self._paused & self._progress.keys()
        if to_pause := wanted - paused:
            consumer.pause(self._partitions(to_pause))
        if to_resume := paused - wanted:
            consumer.resume(self._partitions(to_resume))
        self._paused = wanted

    def keep_alive(self) -> None:
        """See `TurnLog.keep_alive`. librdkafka sends heartbeats in its own thread."""

    def settle(self, records: Sequence[LogRecord], floors: Mapping[int, int], *, wait: bool = False) -> None:
        """See `TurnLog.settle`. Commits of lanes that others own now are left out."""
        for record in records:
            if progress := self._progress.get(record.lane):
                progress.settle(record.position)
        for lane, floor in floors.items():
            self._floors[lane] = max(floor, self._floors.get(lane, floor))
        touched = {record.lane for record in records} & self._progress.keys()
        self._dirty |= touched | self._uncommitted
        self._uncommitted = set()
        self._dirty &= self._progress.keys()
        if not self._dirty or self._consumer is None:
            return
        try:
            if wait:
                self._consumer.commit(offsets=self._offsets(), asynchronous=False)
            else:
                self._consumer.commit(offsets=self._offsets())
        except KafkaException as error:
            raise _log_error(error) from error
        self._dirty.clear()

    def _offsets(self) -> list[TopicPartition]:
        offsets = []
        for lane in self._dirty:
            progress = self._progress[lane]
            if (offset := progress.advance()) is not None:
                metadata = progress.metadata(self._floors.get(lane, 0))
                offsets.append(TopicPartition(self._address.topic, lane, offset, metadata=metadata))
        return offsets

    def bury(self, record: LogRecord, value: bytes, reason: str) -> None:
        """See `TurnLog.bury`."""
        self._dead.bury(record, value, reason)

    def lag(self) -> Lag:
        """See `TurnLog.lag`. Counts what the consumer knows of the partitions' ends."""
        consumer = self._consumer
        if consumer is None:
            return Lag()
        turns, oldest = 0, time.time() * 1000
        now = oldest
        for lane, progress in self._progress.items():
            try:
                _, end = consumer.get_watermark_offsets(TopicPartition(self._address.topic, lane), cached=True)
                (position,) = consumer.position([TopicPartition(self._address.topic, lane)])
            except KafkaException as error:
                raise _log_error(error) from error
            read = max(0, end - position.offset) if end >= 0 and position.offset >= 0 else 0
            turns += read + len(progress.open)
            first = next(iter(progress.open.values()), None)
            oldest = min(oldest, (first.message.published_ms if first else 0) or now)
        return Lag(turns, max(0.0, (now - oldest) / 1000))

    def reset(self, listener: LogListener) -> None:
        """See `TurnLog.reset`."""
        lanes = set(self._progress)
        self._forget(lanes)
        if lanes:
            listener.lost(lanes)
        self._leave()

    def close(self) -> None:
        """See `TurnLog.close`."""
        self._leave()
        self._dead.close()

    def _leave(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            self._ignores_changes = True
            with contextlib.suppress(KafkaException, RuntimeError):
                consumer.close()
            self._forget(set(self._progress))

    # The consumer group

    def _connected(self, listener: LogListener) -> Consumer:
        if self._consumer is None:
            consumer = Consumer(self._configuration(), logger=LIBRARY_LOG)
            self._ignores_changes = False
            consumer.subscribe(
                [self._address.topic],
                on_assign=lambda consumer, partitions: self._assigned(consumer, partitions, listener),
                on_revoke=lambda _, partitions: self._revoked(partitions, listener.revoked),
                on_lost=lambda _, partitions: self._revoked(partitions, listener.lost),
            )
            self._consumer = consumer
        return self._consumer

    def _configuration(self) -> dict[str, Any]:
        milliseconds = int(self.session_seconds * 1000)
        return {
            "topic.metadata.refresh.interval.ms": REFRESH_SECONDS * 1000,
            **client_options(self._address),
            "group.id": group_of(self._address),
            "partition.assignment.strategy": "cooperative-sticky",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": milliseconds,
            "heartbeat.interval.ms": max(100, milliseconds // 5),
            # Giving partitions away may take as long as a request.
            "max.poll.interval.ms": max(milliseconds, 120_000),
            "queued.max.messages.kbytes": BUFFER_KILOBYTES,
            "on_commit": self._on_commit,
        }

    def _assigned(self, consumer: Consumer, partitions: Iterable[TopicPartition], listener: LogListener) -> None:
        if self._ignores_changes:
            return
        given = list(partitions)
        lanes = {partition.partition for partition in given}
        self._must_count_lanes = True
        floors = {}
        self._progress |= {lane: PartitionProgress() for lane in lanes}
        with contextlib.suppress(KafkaException):
            for partition in consumer.committed(given, timeout=self._request_seconds):
                lane = partition.partition
                floors[lane] = self._floors[lane] = self._progress[lane].resume(partition.offset, partition.metadata)
        listener.assigned(lanes, floors)

    def _count_lanes(self, consumer: Consumer) -> None:
        """Ask for the number of partitions.

        Not in a callback: after this call in one, the next callback of the same poll would end the process, because
        confluent-kafka keeps one state of a blocking call per thread.
        """
        with contextlib.suppress(KafkaException):
            topics = consumer.list_topics(self._address.topic, timeout=self._request_seconds).topics
            self.total_lanes = len(topics[self._address.topic].partitions)
            self._must_count_lanes = False

    def _revoked(self, partitions: Iterable[TopicPartition], tell: Callable[[Collection[int]], None]) -> None:
        lanes = {partition.partition for partition in partitions}
        if not self._ignores_changes:
            with contextlib.suppress(LogError):
                tell(lanes)
        self._forget(lanes)

    def _forget(self, lanes: set[int]) -> None:
        for lane in lanes:
            self._progress.pop(lane, None)
            self._floors.pop(lane, None)
        self._dirty -= lanes
        self._paused -= lanes

    def _on_commit(self, error: KafkaError | None, partitions: Sequence[TopicPartition]) -> None:
        if error is not None:
            self._uncommitted |= {partition.partition for partition in partitions}

    def _partitions(self, lanes: Iterable[int]) -> list[TopicPartition]:
        return [TopicPartition(self._address.topic, lane) for lane in lanes]


def _log_error(error: KafkaException) -> LogError:
    cause = error.args[0] if error.args else None
    return LogError(f"Kafka: {cause.name() if isinstance(cause, KafkaError) else type(error).__name__}")
