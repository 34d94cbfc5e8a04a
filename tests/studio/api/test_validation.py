"""The contract as a schema: what is refused, where, and what is merely unknown."""

from __future__ import annotations

from typing import Any

import pytest

from gati.studio.api import validation
from tests.store.bodies import body, said, turn


def test_requests_of_gati_are_valid_without_unknown_keys() -> None:
    payload = body("c", *turn("r"), productId="11111111-1111-4111-8111-111111111111", systemPrompt="Be kind.")
    assert validation.find_error("messages", payload) is None
    assert validation.unknown_keys("messages", payload) == []


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"messages": []}, "messages:"),
        ({"externalUserId": ""}, "externalUserId:"),
        ({"productId": "not-a-uuid"}, "productId:"),
        ({"messages": [{"content": "x"}]}, "messages.0:"),
        ({"messages": [{"role": "user", "messageType": "llm"}]}, "messages.0:"),
        ({"messages": [{"messageType": "tool_call"}]}, "messages.0: 'toolName'"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content:"),
        ({"messages": [{"role": "user", "createdAt": "yesterday"}]}, "messages.0.createdAt: Invalid date"),
        ({"messages": [{"messageType": "guess"}]}, "messages.0.messageType:"),
        ({"sampleRate": 2}, "sampleRate:"),
        ({"systemPrompt": {"content": "x", "components": []}}, "systemPrompt:"),
        ({"systemPrompt": {"variables": {"a": 1}}}, "systemPrompt"),
    ],
)  # fmt: skip
def test_an_error_names_the_path(change: dict[str, Any], place: str) -> None:
    fault = validation.find_error("messages", body("c", said("a", "x")) | change)
    assert fault is not None
    assert fault.startswith(place)


def test_an_error_does_not_contain_the_invalid_value() -> None:
    payload = body("c", {"messageType": "secret words", "content": "secret words"})
    assert "secret" not in str(validation.find_error("messages", payload))


def test_a_conversation_id_or_a_product_id_is_required() -> None:
    payload = body("c", said("a", "x"))
    del payload["externalConversationId"]
    assert validation.find_error("messages", payload) is not None
    assert validation.find_error("messages", payload | {"productId": "11111111-1111-4111-8111-111111111111"}) is None


def test_unknown_keys_are_found_except_in_free_form_objects() -> None:
    payload = body(
        "c",
        said("a", "x", colour="red", properties={"any": 1}, voice={"pitch": 3}),
        systemPrompt={"components": [{"content": "x", "weight": 1}], "variables": {"any": "x"}},
        conversation="c",
    )  # fmt: skip
    assert sorted(validation.unknown_keys("messages", payload)) == [
        "conversation", "messages.0.colour", "messages.0.voice.pitch", "systemPrompt.components.0.weight",
    ]  # fmt: skip


@pytest.mark.parametrize("payload", [None, [], "text", 1, True])
def test_a_body_that_is_not_an_object_is_invalid(payload: Any) -> None:
    for endpoint in validation.request_schemas():
        assert validation.find_error(endpoint, payload) is not None
