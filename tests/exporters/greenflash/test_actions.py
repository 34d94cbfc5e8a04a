from __future__ import annotations

from typing import Any

import pytest

from gati import events as ev
from gati.exporters.base import Request
from gati.exporters.greenflash.encoder import GreenflashEncoder, to_wire_names
from gati.studio.api import validation
from tests.exporters.turns import PRODUCT, ROOT, agent_turn, settings

USER = {
    "external_user_id": 7,
    "name": "Bob",
    "email": "b@x.org",
    "phone": None,
    "properties": {"plan": "pro", "age": 7},
}
RATING = {"rating": 1, "rating_min": 0, "rating_max": 5, "feedback": "Thanks"}


def encode(endpoint: Any, body: dict[str, Any], **options: Any) -> Request:
    (request,) = GreenflashEncoder(settings(**options)).encode([ev.Action(endpoint, body, "a-1")])
    assert validation.find_error(endpoint, to_wire_names(request.body)) is None
    assert validation.unknown_keys(endpoint, to_wire_names(request.body)) == []
    return request


def test_a_user_is_told_without_what_is_not_known():
    request = encode("users", USER)
    assert request.body == {
        "external_user_id": "7", "name": "Bob", "email": "b@x.org", "properties": {"plan": "pro", "age": 7},
    }  # fmt: skip
    assert (request.ordering_key, request.endpoint, request.items) == ("7", "users", 1)


def test_an_organization():
    assert encode("organizations", {"external_organization_id": "o-1", "name": "ACME"}).ordering_key == "o-1"


def test_a_rating_follows_its_conversation():
    encoder = GreenflashEncoder(settings())
    rating = ev.Action("ratings", {**RATING, "external_message_id": f"{ROOT}:answer"})
    first, second = encoder.encode([agent_turn(), rating])
    assert first.ordering_key == second.ordering_key == "c-1"
    assert second.body["product_id"] == PRODUCT


def test_a_rating_of_a_conversation_that_others_deliver_waits_alone():
    assert encode("ratings", {**RATING, "external_message_id": "elsewhere:answer"}).ordering_key == "ratings/a-1"


def test_no_turn_after_a_rating_is_delivered_before_it():
    rating = ev.Action("ratings", {**RATING, "external_conversation_id": "c-1"})
    requests = GreenflashEncoder(settings()).encode([agent_turn(), rating, agent_turn()])
    assert [request.endpoint for request in requests] == ["messages", "ratings", "messages"]


@pytest.mark.parametrize(("value", "told"), [(149, "149"), (True, "true"), ("pro", "pro")])
def test_a_product_event_is_told_once_whatever_happens(value: object, told: str):
    request = encode("events", {"event_type": "upgrade", "value": value})
    assert request.body == {"event_type": "upgrade", "value": told, "insert_id": "a-1", "product_id": PRODUCT}


def test_without_content_no_text_goes():
    assert encode("users", USER, capture_content=False).body == {"external_user_id": "7", "properties": {"age": 7}}
    assert "feedback" not in encode("ratings", {**RATING, "external_conversation_id": "c"}, capture_content=False).body
    text = encode("events", {"event_type": "e", "value": "s3cret"}, capture_content=False)
    number = encode("events", {"event_type": "e", "value": "7", "value_type": "numeric"}, capture_content=False)
    assert (text.body["value"], number.body["value"]) == ("(not captured)", "7")


def test_an_action_cannot_be_split():
    assert GreenflashEncoder(settings()).split(encode("users", USER)) is None
