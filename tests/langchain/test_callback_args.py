"""Names, parameters and tokens read from callback arguments."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages.base import TextAccessor
from langchain_core.tools import tool

from gati.langchain.callback_args import invocation_parameters, text_of_stream_event, text_of_token


@tool
def shout(text: str) -> str:
    """Convert a text to upper case."""
    return text.upper()


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"type": "function", "function": {"name": "search"}}, "search"),
        (shout, "shout"),
        (object(), "object"),
    ],
)
def test_tool_names_are_read_from_any_form(given: Any, name: str) -> None:
    kept = invocation_parameters({"invocation_params": {"tools": [given]}})
    assert kept is not None
    assert kept["tools"] == [name]


@pytest.mark.parametrize(
    ("token", "text"),
    [
        (["a", {"type": "text", "text": "b"}, {"type": "image"}, {"text": None}, 7], "ab"),
        (TextAccessor("ab"), "ab"),
        ([], ""),
        ({"text": "a"}, ""),
        (None, ""),
    ],
)
def test_the_text_of_a_token_is_read_from_its_blocks(token: Any, text: str) -> None:
    assert text_of_token(token) == text
    assert type(text_of_token(token)) is str


@pytest.mark.parametrize(
    ("event", "text"),
    [
        ({"event": "content-block-delta", "delta": {"type": "text-delta", "text": "ab"}}, "ab"),
        ({"event": "content-block-delta", "delta": {"type": "reasoning-delta", "reasoning": "ab"}}, ""),
        ({"event": "content-block-delta", "delta": {"type": "text-delta", "text": None}}, ""),
        ({"event": "content-block-delta", "delta": "ab"}, ""),
        ({"event": "message-start", "text": "ab"}, ""),
        (None, ""),
    ],
)
def test_the_text_of_a_protocol_event_is_its_text_delta(event: Any, text: str) -> None:
    assert text_of_stream_event(event) == text
