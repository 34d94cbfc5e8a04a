"""`gati push`: a local store goes to Greenflash through the real SDK, once, however often it is interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gati import push
from gati.exporters.greenflash.exporter import GreenflashExporter
from gati.settings import Settings
from gati.store.store import Store
from gati.testing.server import fault_injection as faults
from tests.servers import LocalServer, greenflash_server
from tests.store.bodies import body, said, turn

PRODUCT = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "local.db")
    prompt = {"externalPromptId": "p", "components": [{"content": "Hi {{x}}"}], "variables": {"x": "1"}}
    for number in range(5):
        made.ingest(body(f"c{number}", *turn(f"r{number}"), systemPrompt=prompt, properties={"agent_name": "a"}))
    made.ingest(body("c1", said("late", "And then?", 9000), sampleRate=0.5))
    made.ingest(body("other", {"role": "user", "content": "from another client"}))
    made.record_action("users", {"externalUserId": "u-1", "name": "Ada"})
    rating = {"productId": PRODUCT, "rating": 1, "ratingMin": 0, "ratingMax": 1, "externalConversationId": "c1"}
    made.record_action("ratings", rating)
    made.record_action("events", {"productId": PRODUCT, "eventType": "upgrade", "value": "1"})
    yield made
    made.close()


@pytest.fixture
def local() -> Iterator[LocalServer]:
    with greenflash_server() as running:
        yield running


@pytest.fixture
def exporter(local: LocalServer) -> Iterator[GreenflashExporter]:
    made = GreenflashExporter(Settings(api_key=local.api_key, base_url=local.url, timeout=2.0))
    yield made
    made.close()


def known(messages: list[dict[str, Any]]) -> list[Any]:
    """What must be the same on both sides: everything but the ids that each store gives."""
    own = ("messageId", "createdAt", "externalMessageId")
    return [{key: value for key, value in message.items() if key not in own} for message in messages]


def both(store: Store, local: LocalServer) -> tuple[list[Any], list[Any]]:
    from gati.store import queries

    def order(message: dict[str, Any]) -> str:
        return str(message["conversation"])

    return known(sorted(queries.wire_messages(store), key=order)), known(sorted(local.messages(), key=order))


def test_everything_arrives_as_it_was_and_a_second_push_has_nothing_to_do(
    store: Store, local: LocalServer, exporter: GreenflashExporter
) -> None:
    told: list[tuple[int, int]] = []
    result = push.push_store(store, exporter, on_progress=lambda done, total: told.append((done, total)))
    assert (result.stopped, result.left, sum(result.rejected.values())) == ("", 0, 0)
    here, there = both(store, local)
    assert here == there
    assert told[-1] == (result.delivered, result.delivered)
    assert result.delivered == len(here) + 3
    assert local.unknown_keys == []
    assert push.push_store(store, exporter).delivered == 0


def test_a_user_who_changed_goes_again(store: Store, local: LocalServer, exporter: GreenflashExporter) -> None:
    push.push_store(store, exporter)
    store.record_action("users", {"externalUserId": "u-1", "email": "ada@example.org"})
    assert push.push_store(store, exporter).delivered == 1
    assert local.bodies("/api/v1/users")[-1]["email"] == "ada@example.org"


def test_a_push_that_is_interrupted_goes_on_without_doubles(
    store: Store, local: LocalServer, exporter: GreenflashExporter
) -> None:
    class Interrupt(Exception):
        pass

    def interrupt(done: int, total: int) -> None:
        if done > 20:
            raise Interrupt

    with pytest.raises(Interrupt):
        push.push_store(store, exporter, on_progress=interrupt)
    assert push.push_store(store, exporter).stopped == ""
    here, there = both(store, local)
    assert here == there


@pytest.mark.parametrize(
    "fault", [faults.failing(503), faults.connection_reset(after_commit=True), faults.rate_limited("0"), faults.html()]
)
def test_what_fails_is_tried_again(
    store: Store, local: LocalServer, exporter: GreenflashExporter, fault: faults.InjectedFault
) -> None:
    fault.path, fault.times = "/api/v1/messages", 2
    local.faults.add(fault)
    waits: list[float] = []
    result = push.push_store(store, exporter, sleep=waits.append)
    assert (result.stopped, len(waits)) == ("", 2)
    here, there = both(store, local)
    assert here == there


def test_a_server_that_stays_away_ends_the_push_which_can_go_on_later(
    store: Store, local: LocalServer, exporter: GreenflashExporter
) -> None:
    local.faults.add(faults.failing(503, times=None))
    result = push.push_store(store, exporter, attempts=3, sleep=lambda _: None)
    assert result.stopped
    assert (result.delivered, result.left) == (0, push.pending(store, exporter))
    local.faults.clear()
    assert push.push_store(store, exporter).left == 0


def test_a_wrong_key_ends_the_push_at_once(store: Store, local: LocalServer) -> None:
    exporter = GreenflashExporter(Settings(api_key="gf_wrong", base_url=local.url))
    result = push.push_store(store, exporter)
    assert "401" in result.stopped or "key" in result.stopped
    exporter.close()


def test_a_message_that_is_refused_does_not_hold_up_the_others(
    store: Store, local: LocalServer, exporter: GreenflashExporter
) -> None:
    local.faults.add(faults.bad_message("r2-t1"))
    result = push.push_store(store, exporter)
    assert (result.stopped, sum(result.rejected.values())) == ("", 1)
    here, there = both(store, local)
    assert len(there) == len(here) - 1


def test_conversations_without_a_product_get_the_one_that_is_given(
    store: Store, local: LocalServer, exporter: GreenflashExporter
) -> None:
    push.push_store(store, exporter, product_id=PRODUCT)
    assert {told["productId"] for told in local.bodies()} == {PRODUCT}
