"""The contract as a schema: what is refused, where, and what is merely unknown."""

from __future__ import annotations

from typing import Any

import pytest

from gati.studio.api import validation
from tests.store.bodies import body, said, turn


def test_what_gati_sends_is_valid_and_known() -> None:
    told = body("c", *turn("r"), productId="11111111-1111-4111-8111-111111111111", systemPrompt="Be kind.")
    assert validation.find_error("messages", told) is None
    assert validation.unknown_keys("messages", told) == []


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
def test_a_fault_is_named_with_its_place(change: dict[str, Any], place: str) -> None:
    fault = validation.find_error("messages", body("c", said("a", "x")) | change)
    assert fault is not None
    assert fault.startswith(place)


def test_an_error_does_not_repeat_the_text_that_was_refused() -> None:
    told = body("c", {"messageType": "secret words", "content": "secret words"})
    assert "secret" not in str(validation.find_error("messages", told))


def test_one_of_three_names_of_a_conversation_is_required() -> None:
    told = body("c", said("a", "x"))
    del told["externalConversationId"]
    assert validation.find_error("messages", told) is not None
    assert validation.find_error("messages", told | {"productId": "11111111-1111-4111-8111-111111111111"}) is None


def test_unknown_keys_are_found_but_not_inside_what_is_the_users_own() -> None:
    told = body(
        "c",
        said("a", "x", colour="red", properties={"any": 1}, voice={"pitch": 3}),
        systemPrompt={"components": [{"content": "x", "weight": 1}], "variables": {"any": "x"}},
        conversation="c",
    )  # fmt: skip
    assert sorted(validation.unknown_keys("messages", told)) == [
        "conversation", "messages.0.colour", "messages.0.voice.pitch", "systemPrompt.components.0.weight",
    ]  # fmt: skip


@pytest.mark.parametrize("told", [None, [], "text", 1, True])
def test_a_body_that_is_no_object_is_refused(told: Any) -> None:
    for endpoint in validation.request_schemas():
        assert validation.find_error(endpoint, told) is not None
