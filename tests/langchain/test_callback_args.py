"""What callbacks are given beside inputs and outputs."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.tools import tool

from gati.langchain.callback_args import invocation_parameters, text_of_token


@tool
def shout(text: str) -> str:
    """Say it louder."""
    return text.upper()


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"type": "function", "function": {"name": "search"}}, "search"),
        (shout, "shout"),
        (object(), "object"),
    ],
)
def test_tools_are_told_by_their_names_in_any_form(given: Any, name: str) -> None:
    kept = invocation_parameters({"invocation_params": {"tools": [given]}})
    assert kept is not None
    assert kept["tools"] == [name]


@pytest.mark.parametrize(
    ("token", "text"),
    [
        (["a", {"type": "text", "text": "b"}, {"type": "image"}, {"text": None}, 7], "ab"),
        ([], ""),
        ({"text": "a"}, ""),
        (None, ""),
    ],
)
def test_the_words_of_a_piece_are_found_in_its_blocks(token: Any, text: str) -> None:
    assert text_of_token(token) == text
