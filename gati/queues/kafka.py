"""Publishes to Kafka through librdkafka. The producer is created with the first message."""

from __future__ import annotations

import ctypes
import logging
import math
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from gati.clock import Clock
from gati.exporters.base import DELIVERED, Outcome, Verdict

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Producer

    from gati.queues.address import QueueAddress
    from gati.queues.message import QueueMessage

T = TypeVar("T")

CLIENT_MAX_BYTES = 1_000_000
"""Largest message that librdkafka accepts by default, as configured here."""

CHECK_SECONDS = 5.0
"""Time limit of the check of topic and limits at the first connection."""

_AUTHENTICATION_FAILED = -169
"""librdkafka's own code for it, `RD_KAFKA_RESP_ERR__AUTHENTICATION`."""

LIBRARY_LOG = logging.getLogger("gati.librdkafka")
"""Takes librdkafka's log lines, which would otherwise appear on the program's standard error."""
LIBRARY_LOG.addHandler(logging.NullHandler())
LIBRARY_LOG.propagate = False


class TopicInfo:
    """A topic, as its broker describes it.

    Attributes:
        partitions: Number of partitions; 0 if the topic does not exist.
        max_bytes: Largest message; None if the broker does not say, for example for lack of a permission.
    """

    def __init__(self, partitions: int, max_bytes: int | None) -> None:
        self.partitions = partitions
        self.max_bytes = max_bytes


class KafkaPublisher:
    """Publishes to one topic. See `queues.exporter.Publisher`.

    Args:
        address: The brokers and the topic.
        timeout: Seconds after which a message that is not acknowledged has failed.
        options: Properties of librdkafka that take precedence, for tests.
    """

    def __init__(self, address: QueueAddress, timeout: float, options: dict[str, Any] | None = None) -> None:
        self._address = address
        self._timeout = timeout
        self._options = options or {}
        self._producer: Producer | None = None
        self._max_bytes = CLIENT_MAX_BYTES
        self._last_error = ""
        self._closed = False

    def prepare(self) -> None:
        """Import the client library."""
        import confluent_kafka.admin  # noqa: F401  # an extra, imported late

    def publish(self, messages: Sequence[QueueMessage]) -> list[Outcome]:
        """Publish messages with different keys, and wait until each is acknowledged or has failed."""
        try:
            import confluent_kafka  # late: an extra
        except ImportError:
            return [Outcome(Verdict.RETRY, MISSING, local_fault=True)] * len(messages)
        try:
            return call_blocking(lambda: self._publish(messages))
        except confluent_kafka.KafkaException as error:
            return [self._outcome(error.args[0])] * len(messages)

    def after_fork(self) -> None:
        """Create another producer in a forked child. librdkafka's threads exist in the parent only."""
        if self._producer is not None:
            # Destroying it would wait for those threads, even at the interpreter's exit, so its memory leaks.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._producer))
        self._producer = None

    def close(self) -> None:
        """Let the producer go. Nothing waits in it, because `publish` waits."""
        self._closed = True
        self._producer = None

    def _publish(self, messages: Sequence[QueueMessage]) -> list[Outcome]:
        if self._closed:
            return [Outcome(Verdict.RETRY, "the exporter is closed")] * len(messages)
        until = Clock.monotonic() + self._timeout + 1.0
        if self._producer is None:
            self._producer = self._connect(until)
        producer = self._producer
        keys = [message.key.encode(errors="replace") for message in messages]
        outcomes: dict[bytes | None, Outcome] = {}

        def on_failure(error: KafkaError | None, message: Any) -> None:
            if error is not None:
                outcomes[message.key()] = self._outcome(error)

        for key, message in zip(keys, messages, strict=True):
            if len(message.value) > self._max_bytes:
                reason = f"larger than the broker's limit of {self._max_bytes} bytes"
                outcomes[key] = Outcome(Verdict.SPLIT, reason)
                continue
            headers: Any = message.to_headers()
            try:
                producer.produce(self._address.topic, message.value, key, on_delivery=on_failure, headers=headers)
            except BufferError:
                outcomes[key] = Outcome(Verdict.RETRY, "the producer's queue is full")
        # Sends at once what lingers, all messages for a broker together.
        rest = DELIVERED
        if producer.flush(max(0.0, until - Clock.monotonic())):
            rest = Outcome(Verdict.RETRY, self._reason("no acknowledgement"))
        return [outcomes.get(key, rest) for key in keys]

    def _connect(self, until: float) -> Producer:
        """Create the producer and check the topic. Raises `KafkaException`."""
        from confluent_kafka import Producer

        configuration = {"compression.type": "lz4", **client_options(self._address)} | {
            "enable.idempotence": True,
            "linger.ms": 20,  # `flush` ends it; with 0, the first message of a call would be sent alone
            "delivery.report.only.error": True,
            "delivery.timeout.ms": int(self._timeout * 1000),
            "request.timeout.ms": int(self._timeout * 1000),
            "message.max.bytes": CLIENT_MAX_BYTES,
            "error_cb": self._on_error,
        }
        producer = Producer(configuration | self._options, logger=LIBRARY_LOG)
        info = describe_topic(self._address, producer, min(CHECK_SECONDS, self._timeout), until)
        if info.max_bytes is not None:
            self._max_bytes = min(CLIENT_MAX_BYTES, info.max_bytes)
        return producer

    def _on_error(self, error: KafkaError) -> None:
        self._last_error = error.str()
        if error.fatal():  # this producer publishes nothing any more
            self._producer = None

    def _outcome(self, error: KafkaError) -> Outcome:
        """Return what a failure means for the message."""
        from confluent_kafka import KafkaError

        code = error.code()
        if error.fatal():
            self._producer = None
        if code in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE):
            return Outcome(Verdict.SPLIT, error.str())
        if code in (KafkaError.INVALID_RECORD, KafkaError.POLICY_VIOLATION):
            return Outcome(Verdict.REJECT, error.str())
        refused = (
            *(KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED),
            *(KafkaError.SASL_AUTHENTICATION_FAILED, _AUTHENTICATION_FAILED),
        )
        if code in refused:
            return Outcome(Verdict.PAUSE, error.str())
        return Outcome(Verdict.RETRY, self._reason(error.str()))

    def _reason(self, text: str) -> str:
        return f"{text} ({self._last_error})"[:200] if self._last_error else text[:200]


MISSING = "the package confluent-kafka is missing: pip install 'gati-greenflash[kafka]'"


def client_options(address: QueueAddress) -> dict[str, Any]:
    """Return the properties of librdkafka that every client of an address needs."""
    return {
        "bootstrap.servers": address.servers,
        "client.id": "gati",
        "log.connection.close": False,
        "reconnect.backoff.max.ms": 2000,
        **dict(address.options),
    }


def describe_topic(address: QueueAddress, client: Any, timeout: float, until: float = math.inf) -> TopicInfo:
    """Return the partitions of the topic and its largest message.

    Args:
        address: The brokers and the topic.
        client: A producer, consumer or admin client of theirs.
        timeout: Seconds for each of two requests.
        until: Monotonic time at which the second one ends.

    Raises:
        KafkaException: no broker answers, or the topic does not exist.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]  # documented as public

    topic = client.list_topics(address.topic, timeout=timeout).topics[address.topic]
    if topic.error is not None:
        raise KafkaException(topic.error)
    max_bytes = None
    timeout = max(0.1, min(timeout, until - Clock.monotonic()))
    try:
        admin = AdminClient(client_options(address), logger=LIBRARY_LOG)
        resource = ConfigResource(ResourceType.TOPIC, address.topic)
        for future in admin.describe_configs([resource], request_timeout=timeout).values():
            max_bytes = int(future.result(timeout)["max.message.bytes"].value)
    except (KafkaException, KeyError, TypeError, ValueError, TimeoutError):
        pass  # not every user may read it
    return TopicInfo(len(topic.partitions), max_bytes)


def check_topic(address: QueueAddress, timeout: float) -> TopicInfo:
    """Do the same as `describe_topic`, with a client of its own that creates no topic."""
    from confluent_kafka import Consumer

    options = {"group.id": "gati-doctor", "allow.auto.create.topics": False, "enable.auto.commit": False}
    consumer = Consumer(client_options(address) | options, logger=LIBRARY_LOG)
    try:
        return describe_topic(address, consumer, timeout)
    finally:
        consumer.close()


def call_blocking(function: Callable[[], T]) -> T:
    """Call a function that blocks inside of a C library, without blocking gevent's other greenlets."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("threading"):
        return function()
    import gevent  # late: it is loaded already

    result: T = gevent.get_hub().threadpool.apply(function)
    return result
