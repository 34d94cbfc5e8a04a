"""Rows of the failure table of docs/fleet.md that need no processes, on both engines."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from gati.queues.address import QueueAddress
from gati.relay.engines import open_admin
from gati.testing.server import fault_injection
from tests.brokers import ExternalKafka, KafkaBroker
from tests.pipeline.kit import wait_until
from tests.relay import kit
from tests.relay.kit import KafkaQueue, Queue, relay_of
from tests.servers import LocalServer

NAMES = [f"c{number}" for number in range(6)]


def has_arrived(server: LocalServer, conversation: str, turn: int) -> bool:
    return kit.message_id(conversation, turn, "b") in kit.received_ids(server).get(conversation, ())


def dead_turns(queue: Queue) -> list[str]:
    """Return the turns of the dead letters."""
    admin = open_admin(QueueAddress.parse(queue.url))
    try:
        return [letter.message.turn for letter in admin.dead_letters()]
    finally:
        admin.close()


def test_turns_that_wait_are_joined_and_the_guilty_one_alone_becomes_a_dead_letter(
    queue: Queue, greenflash: LocalServer
) -> None:
    turns = [kit.packed(kit.request(name, turn)) for turn in range(30) for name in NAMES]
    refused = kit.request("c1", 99)
    id_ = kit.message_id("c1", 9, "x")  # behind the messages of turn 9
    refused.body["messages"] = [{"externalMessageId": id_, "messageType": "user_message", "content": 5}]
    turns.insert(60, kit.packed(refused))
    queue.publish(turns)
    with relay_of(queue, greenflash) as relay:
        wait_until(lambda: relay.counts().delivered == 360)
        wait_until(lambda: not relay.counts().held)
        assert sum(relay.counts().dead.values()) == 1
    assert dead_turns(queue) == ["c1-99"]
    assert len(greenflash.requests) < 100, "180 turns and one more"
    assert max(len(body["messages"]) for body in greenflash.bodies()) <= 100
    kit.assert_in_order(greenflash)


def test_a_turn_that_keeps_failing_while_others_succeed_becomes_a_dead_letter(
    queue: Queue, greenflash: LocalServer
) -> None:
    def holds_the_turn(body: dict[str, Any], size: int) -> bool:
        return any(m["externalMessageId"].startswith("c1-00001-") for m in body.get("messages", ()))

    greenflash.faults.add(fault_injection.failing(500, times=None, applies=holds_the_turn))
    queue.publish([kit.packed(kit.request("c1", turn)) for turn in range(4)])
    with relay_of(queue, greenflash) as relay:
        for turn in range(200):
            queue.publish([kit.packed(kit.request("c2", turn))])
            wait_until(partial(has_arrived, greenflash, "c2", turn))
            if relay.counts().dead:
                break
        wait_until(lambda: not relay.counts().held)
        assert relay.counts().dead == {"gave up": 1}
        assert relay.counts().retries["500"] >= 20
    assert dead_turns(queue) == ["c1-1"]
    assert [m["externalMessageId"][:8] for m in greenflash.messages("c1")] == [
        f"c1-{turn:05d}" for turn in (0, 0, 2, 2, 3, 3)
    ]


def test_while_the_broker_is_away_relays_wait_and_then_go_on(queue: Queue, greenflash: LocalServer) -> None:
    if isinstance(queue.broker, ExternalKafka):
        pytest.skip("GATI_TEST_KAFKA is a broker that tests cannot stop")
    turns = [kit.packed(kit.request(name, turn)) for turn in range(4) for name in NAMES]
    queue.publish(turns[:12])
    with relay_of(queue, greenflash) as relay:
        wait_until(lambda: relay.counts().delivered == 24)
        wait_until(lambda: not relay.counts().held)
        queue.broker.kill()
        if isinstance(queue, kit.PostgresQueue):  # librdkafka tries again by itself, without an error
            wait_until(lambda: not relay.counts().lanes)
        queue.broker.start()
        queue.publish(turns[12:])
        wait_until(lambda: not kit.missing(greenflash, turns), 60)
        assert relay.counts().dead == {}
    kit.assert_in_order(greenflash)
    # What was delivered and not settled when the broker went away: at most all that had arrived before.
    assert kit.repeated(greenflash) <= 24


def test_partitions_may_be_added_while_conversations_are_open(greenflash: LocalServer, kafka: KafkaBroker) -> None:
    queue = KafkaQueue(kafka.new_topic(2) + "?topic.metadata.refresh.interval.ms=200")
    names = [f"c{number}" for number in range(12)]
    published = kit.turns(names, 4)
    queue.publish(published)
    with relay_of(queue, greenflash) as relay, relay_of(queue, greenflash):
        wait_until(lambda: len(kit.missing(greenflash, published)) < 40)
        queue.add_partitions(8)
        later = [kit.queued(kit.request(name, turn)) for turn in range(4, 8) for name in names]
        queue.publish(later)
        wait_until(lambda: relay.counts().total_lanes == 8, 60)
        wait_until(lambda: not kit.missing(greenflash, [*published, *later]), 60)
    for name in names:
        stored = sorted(greenflash.messages(name), key=lambda message: message["createdAt"])
        assert [message["externalMessageId"] for message in stored] == sorted(m["externalMessageId"] for m in stored)
