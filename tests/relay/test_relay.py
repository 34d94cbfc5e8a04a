"""The same acceptance suite on both engines: order, loss and repetition by ids at the strict server."""

from __future__ import annotations

from typing import Any

import pytest

from tests.pipeline.kit import wait_until
from tests.relay import kit
from tests.relay.kit import KafkaQueue, PostgresQueue, Queue, relay_of
from tests.servers import LocalServer


@pytest.fixture(params=["postgres", "kafka"])
def queue(request: pytest.FixtureRequest) -> Queue:
    broker: Any = request.getfixturevalue(request.param)
    return PostgresQueue(broker) if request.param == "postgres" else KafkaQueue(broker.new_topic())


def test_a_relay_delivers_every_turn_once_and_in_order(queue: Queue, greenflash: LocalServer):
    published = kit.turns([f"c{number}" for number in range(20)], 10)
    queue.publish(published)
    with relay_of(queue, greenflash) as relay:
        wait_until(lambda: relay.counts().delivered == 400)
    assert kit.missing(greenflash, published) == set()
    assert kit.repeated(greenflash) == 0
    kit.assert_in_order(greenflash)
