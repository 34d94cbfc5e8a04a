from __future__ import annotations

from typing import Any

import pytest

from gati.exporters.base import Request
from gati.pipeline.mask import MARKER, apply

BODY: dict[str, Any] = {
    "externalUserId": "u",
    "externalConversationId": "c",
    "productId": "p",
    "systemPrompt": {
        "externalPromptId": "id",
        "components": [{"content": "t", "type": "system", "source": "customer", "name": "t"}],
        "variables": {"role": "t", "x": "t"},
    },
    "messages": [
        {
            "externalMessageId": "m",
            "parentExternalMessageId": "m",
            "messageType": "tool_call",
            "createdAt": "now",
            "toolName": "t",
            "content": "t",
            "context": "t",
            "input": {"role": "t", "deep": [{"status": "t", "n": 1, "none": None, "yes": True}]},
            "output": {"error": {"type": "t", "message": "t"}},
            "properties": {"tags": ["t", "t"], "status": "t", "cost": 0.5},
        }
    ],
    "properties": {"messageType": "t"},
}


def every_text(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for member in value.values() for text in every_text(member)]
    if isinstance(value, list):
        return [text for member in value for text in every_text(member)]
    return []


def test_every_text_is_seen_and_ids_stay() -> None:
    request = Request("c", BODY, 1, "t")
    assert apply(lambda text, path, kind: "masked", request) == 0
    assert "t" not in every_text(request.body)
    assert every_text(request.body).count("masked") == every_text(BODY).count("t")
    assert request.body["externalUserId"] == "u"
    assert request.body["messages"][0]["messageType"] == "tool_call"
    assert "deep" not in request.body["messages"][0]["input"]


def test_the_original_is_not_touched() -> None:
    before = repr(BODY)
    apply(lambda text, path, kind: "masked", Request("c", BODY, 1, "t"))
    assert repr(BODY) == before


def test_the_mask_is_told_where_a_text_stands_and_of_what_kind() -> None:
    seen = {}

    def mask(text: str, path: str, kind: str) -> str:
        seen[path] = kind
        return text

    apply(mask, Request("c", BODY, 1, "t"))
    assert seen["messages.0.content"] == "tool_call"
    assert seen["messages.0.input.deep.0.status"] == "tool_call"
    assert seen["systemPrompt.components.0.content"] == "messages"
    assert seen["systemPrompt.variables.role"] == "messages"


@pytest.mark.parametrize("result", [None, 7, b"bytes"])
def test_a_mask_that_returns_no_text_drops_the_text(result: Any) -> None:
    request = Request("c", {"messages": [{"content": "t"}]}, 1, "t")
    assert apply(lambda text, path, kind: result, request) == 1
    assert request.body["messages"][0]["content"] == MARKER


def test_a_mask_that_raises_drops_the_text() -> None:
    def mask(text: str, path: str, kind: str) -> str:
        raise RecursionError(text)

    request = Request("c", {"messages": [{"content": "t", "toolName": "t"}]}, 1, "t")
    assert apply(mask, request) == 2
    assert every_text(request.body) == [MARKER, MARKER]


def test_keys_of_the_users_own_are_masked_too_and_stay_apart() -> None:
    body = {"messages": [{"properties": {"tokens_in": 3, "ada@example.org": 1, "bob@example.org": 2}}]}
    request = Request("c", body, 1, "t")
    apply(lambda text, path, kind: "[mail]" if "@" in text else text, request)
    assert request.body["messages"][0]["properties"] == {"tokens_in": 3, "[mail]": 1, "[mail] (2)": 2}
