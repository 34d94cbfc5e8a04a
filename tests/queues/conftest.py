"""The same tests on both engines: fixture `queue`."""

from __future__ import annotations

import pytest

from tests.queues.brokered import KafkaQueue, PostgresQueue, Queue


@pytest.fixture(params=["kafka", "postgres"])
def queue(request: pytest.FixtureRequest) -> Queue:
    """An empty queue of this test on a real broker."""
    if request.param == "kafka":
        return KafkaQueue(request.getfixturevalue("kafka"))
    return PostgresQueue(request.getfixturevalue("postgres_server"), request.getfixturevalue("postgres"))


@pytest.fixture
def kafka_queue(request: pytest.FixtureRequest) -> KafkaQueue:
    """An empty queue of this test on Kafka."""
    return KafkaQueue(request.getfixturevalue("kafka"))
