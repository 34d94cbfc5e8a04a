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


def test_user_without_unknown_fields():
    request = encode("users", USER)
    assert request.body == {
        "external_user_id": "7", "name": "Bob", "email": "b@x.org", "properties": {"plan": "pro", "age": 7},
    }  # fmt: skip
    assert (request.ordering_key, request.endpoint, request.items) == ("7", "users", 1)


def test_organization():
    assert encode("organizations", {"external_organization_id": "o-1", "name": "ACME"}).ordering_key == "o-1"


def test_rating_follows_its_conversation():
    encoder = GreenflashEncoder(settings())
    rating = ev.Action("ratings", {**RATING, "external_message_id": f"{ROOT}:answer"})
    first, second = encoder.encode([agent_turn(), rating])
    assert first.ordering_key == second.ordering_key == "c-1"
    assert second.body["product_id"] == PRODUCT


def test_ratings_of_an_answer_in_another_processs_conversation_stay_in_order():
    assert (
        encode("ratings", {**RATING, "external_message_id": "elsewhere:answer"}).ordering_key
        == "ratings/elsewhere:answer"
    )


def test_turn_after_a_rating_gets_a_new_request():
    rating = ev.Action("ratings", {**RATING, "external_conversation_id": "c-1"})
    requests = GreenflashEncoder(settings()).encode([agent_turn(), rating, agent_turn()])
    assert [request.endpoint for request in requests] == ["messages", "ratings", "messages"]


@pytest.mark.parametrize(("value", "sent"), [(149, "149"), (True, "true"), ("pro", "pro")])
def test_product_event_has_an_insert_id(value: object, sent: str):
    request = encode("events", {"event_type": "upgrade", "value": value})
    assert request.body == {"event_type": "upgrade", "value": sent, "insert_id": "a-1", "product_id": PRODUCT}


def test_capture_content_false_omits_texts():
    assert encode("users", USER, capture_content=False).body == {"external_user_id": "7", "properties": {"age": 7}}
    assert "feedback" not in encode("ratings", {**RATING, "external_conversation_id": "c"}, capture_content=False).body
    text = encode("events", {"event_type": "e", "value": "s3cret"}, capture_content=False)
    number = encode("events", {"event_type": "e", "value": "7", "value_type": "numeric"}, capture_content=False)
    assert (text.body["value"], number.body["value"]) == ("(not captured)", "7")


def test_action_cannot_be_split():
    assert GreenflashEncoder(settings()).split(encode("users", USER)) is None
