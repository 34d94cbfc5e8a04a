"""The forms in which programs pass chat messages."""

from __future__ import annotations

from typing import Any

import pytest

from gati.trace.chat_messages import as_message, as_messages
from gati.trace.records import Message


def test_every_form_of_message_is_recognized():
    assert as_message({"role": "user", "content": "x", "id": "1"}) == Message("user", "x", "1")
    assert as_message(("ai", "x")) == Message("ai", "x")
    assert as_message({"role": 3, "content": "x"}) is None
    assert as_message({"type": "text", "text": "x"}) is None
    assert as_messages([("ai", "x"), 3]) is None
    assert as_messages([3, ("ai", "x")]) == [Message("ai", "x")]


@pytest.mark.parametrize(
    "item",
    [
        ["clarity", 4],
        ("clarity", 4),
        ["What is it?", "A bicycle."],
        {"type": "intro", "content": "Bicycles are old."},
        {"type": {"name": "intro"}, "content": "Bicycles are old."},
        {"type": ["human"], "content": "Bicycles are old."},
    ],
)
def test_an_item_of_a_structured_output_is_no_message(item: Any):
    assert as_message(item) is None
    assert as_messages([item, item]) is None


@pytest.mark.parametrize("kind", ["human", "ai", "system", "tool", "AIMessageChunk", "HumanMessageChunk"])
def test_a_dict_with_the_type_of_a_message_is_one(kind: str):
    assert as_message({"type": kind, "content": "Hi"}) == Message(kind, "Hi")
