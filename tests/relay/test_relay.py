"""The same acceptance suite on both engines: order, loss and repetition by ids at the strict server."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from gati.exporters.base import Request
from gati.queues.address import QueueAddress
from gati.relay import log_journal
from gati.relay.engines import open_admin
from gati.relay.relay import Relay
from gati.testing.server import fault_injection
from gati.testing.server.fault_injection import InjectedFault
from tests.pipeline.kit import wait_until
from tests.relay import kit
from tests.relay.kit import KafkaQueue, Queue, relay_of
from tests.servers import LocalServer, greenflash_server

CHURN_SECONDS = float(os.environ.get("GATI_FLEET_SECONDS", "0"))
"""How long relays join and leave. Read here, because each test clears the variables of gati."""


def names(count: int) -> list[str]:
    return [f"c{number}" for number in range(count)]


def test_a_relay_delivers_every_turn_once_and_in_order(queue: Queue, greenflash: LocalServer):
    published = kit.turns(names(20), 5)
    queue.publish(published)
    with relay_of(queue, greenflash) as relay:
        wait_until(lambda: relay.counts().delivered == 200)
    assert kit.missing(greenflash, published) == set()
    assert kit.repeated(greenflash) == 0
    kit.assert_in_order(greenflash)
    with relay_of(queue, greenflash) as another:
        queue.publish(last := kit.turns(["c0"], 6)[5:])
        wait_until(lambda: another.counts().delivered == 2)
    assert kit.missing(greenflash, [*published, *last]) == set()
    assert kit.repeated(greenflash) == 0, "a relay that was stopped had settled what it delivered"


def test_times_of_pods_with_different_clocks_are_put_in_order(queue: Queue, greenflash: LocalServer):
    late = [kit.queued(kit.request("c", turn, kit.START_MS + 100 * turn - 1_500 * (turn % 2))) for turn in range(6)]
    queue.publish(late[:3])
    with relay_of(queue, greenflash) as relay:
        wait_until(lambda: relay.counts().delivered == 6)
    queue.publish(late[3:])
    with relay_of(queue, greenflash) as successor:
        wait_until(lambda: successor.counts().delivered == 6)
    kit.assert_in_order(greenflash)
    assert relay.counts().restamped > 0
    assert successor.counts().restamped > 0, "the time of the lane survives a takeover"


def test_what_is_refused_and_what_is_unknown_become_dead_letters_and_the_lane_goes_on(
    queue: Queue, greenflash: LocalServer
):
    turns = kit.turns(["c"], 4)
    bad = replace(kit.request("c", 9), items=1)
    bad.body["messages"] = [{"externalMessageId": "x", "messageType": "user_message", "content": 5}]
    turns[1] = kit.queued(bad)
    turns[2] = replace(turns[2], format="99", value=b"\x00 a later version")
    queue.publish(turns)
    with relay_of(queue, greenflash) as relay:
        wait_until(lambda: relay.counts().delivered == 4)
        assert sum(relay.counts().dead.values()) == 2
        assert relay.counts().dead[log_journal.UNKNOWN_FORMAT] == 1
    admin = open_admin(QueueAddress.parse(queue.url))
    letters = list(admin.dead_letters())
    assert sorted(letter.message.reason.split(":")[0] for letter in letters) == ["HTTP 400", "unknown format"]
    assert {letter.message.key for letter in letters} == {"c"}
    assert {letter.message.value for letter in letters} == {turns[1].value, turns[2].value}
    admin.drop([letter for letter in letters if letter.message.format == "99"])
    (left,) = admin.dead_letters()
    admin.replay([left])
    assert list(admin.dead_letters()) == []
    assert admin.status().turns == 1
    assert admin.status().dead == 0
    admin.close()


def test_a_refused_key_pauses_and_makes_no_dead_letters(queue: Queue, greenflash: LocalServer):
    published = kit.turns(names(4), 2)
    queue.publish(published)
    with relay_of(queue, greenflash, key="gf_wrong") as relay:
        wait_until(lambda: relay.counts().paused)
        assert relay.counts().retries["401"] > 0
        assert relay.counts().dead == {}
    with relay_of(queue, greenflash) as relay:
        wait_until(lambda: relay.counts().delivered == 16)
    assert kit.repeated(greenflash) == 0


def test_a_rating_before_its_turn_waits_in_its_lane(queue: Queue, greenflash: LocalServer):
    def is_unknown(body: dict[str, Any], size: int) -> bool:
        return not greenflash.messages("c")

    error = b'{"error": "Message not found"}'
    headers = {"content-type": "application/json"}
    missing = InjectedFault("missing", 404, error, headers, times=None, path="/api/v1/ratings", applies=is_unknown)
    greenflash.faults.add(missing)
    queue.publish([kit.queued(kit.rating("c", 0)), *kit.turns(["other"], 1)])
    with relay_of(queue, greenflash) as relay:
        wait_until(lambda: relay.counts().retries["404"] > 0 and relay.counts().delivered == 2)
        queue.publish(kit.turns(["c"], 1))
        wait_until(lambda: relay.counts().delivered == 5)
        assert relay.counts().dead == {}


def test_a_conversation_with_many_turns_delays_its_own_lane_only(
    queue: Queue, greenflash: LocalServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(log_journal, "MAX_TURNS", 80)
    greenflash.faults.add(fault_injection.slow(0.05, times=None, applies=is_hot))
    queue.publish(kit.turns(["hot"], 100))
    others = kit.turns(names(8), 2)
    queue.publish(others)
    with relay_of(queue, greenflash) as relay:
        # In Kafka, a conversation that shares the partition of the hot one waits for it.
        wait_until(lambda: len(kit.missing(greenflash, others)) <= (16 if isinstance(queue, KafkaQueue) else 0) // 2)
        assert len(kit.received_ids(greenflash).get("hot", [])) < 200
        wait_until(lambda: relay.counts().delivered == 232)
    kit.assert_in_order(greenflash)
    assert kit.repeated(greenflash) == 0


def has_lanes(relay: Relay) -> int:
    return relay.counts().lanes


def is_hot(body: dict[str, Any], size: int) -> bool:
    return body.get("externalConversationId") == "hot"


def test_relays_that_join_and_leave_lose_repeat_and_reorder_nothing(queue: Queue, greenflash: LocalServer):
    """For `GATI_FLEET_SECONDS`, a relay joins and leaves every 5 seconds; otherwise it does so twice, without a pause."""
    greenflash.faults.add(fault_injection.slow(0.005, times=None))
    published = kit.turns(names(30), 12)
    queue.publish(published)
    until, rounds = time.monotonic() + CHURN_SECONDS, 0
    with relay_of(queue, greenflash):
        while rounds < 2 or time.monotonic() < until:
            with relay_of(queue, greenflash) as another:
                wait_until(partial(has_lanes, another), 60)
                published += (more := kit.turns([f"r{rounds}-{number}" for number in range(10)], 3))
                queue.publish(more)
                time.sleep(2.5 if CHURN_SECONDS else 0.0)
            time.sleep(2.5 if CHURN_SECONDS else 0.0)
            rounds += 1
        wait_until(lambda: not kit.missing(greenflash, published), 60)
    kit.assert_in_order(greenflash)
    assert kit.repeated(greenflash) <= 2 * len(published) / 100


def test_the_rate_is_shared_and_429_halves_it(queue: Queue, greenflash: LocalServer):
    published = kit.turns(names(30), 1)
    queue.publish(published)
    with relay_of(queue, greenflash, rate=40.0) as relay:
        wait_until(lambda: relay.counts().delivered > 10)
        greenflash.faults.add(fault_injection.rate_limited("0.2"))
        wait_until(lambda: relay.counts().retries["429"] == 1)
        assert relay.counts().rate_limit is not None
        wait_until(lambda: relay.counts().delivered == 60)
        assert relay.counts().rate_limit <= 40.0
    assert kit.missing(greenflash, published) == set()


def test_when_the_api_is_away_the_queue_holds_everything(queue: Queue, tmp_path: Any):
    published = kit.turns(names(6), 3)
    file = tmp_path / "store.db"
    with greenflash_server(path=file) as server:
        port = int(server.address.rsplit(":", 1)[1])
        away = server
    queue.publish(published)
    with relay_of(queue, away) as relay:
        wait_until(lambda: relay.counts().retries["no answer"] > 1)
        assert relay.counts().dead == {}
        with greenflash_server(path=file, port=port) as server:
            wait_until(lambda: relay.counts().delivered == 36)
            assert kit.missing(server, published) == set()
            kit.assert_in_order(server)


def test_a_request_of_another_destination_is_a_dead_letter(queue: Queue, greenflash: LocalServer):
    queue.publish([kit.queued(Request("c", {"a": 1}, 1, "c-0", "nowhere"))])
    with relay_of(queue, greenflash) as relay:
        wait_until(lambda: relay.counts().dead[log_journal.DAMAGED] == 1)
