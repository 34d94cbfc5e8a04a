"""The user's messages in the inputs of many kinds of programs."""

from __future__ import annotations

from typing import Any

import pytest

from gati.trace.chat_input import user_messages_in
from gati.trace.records import COMMAND, Message

HELLO, HI, ASK = Message("human", "Hello"), Message("ai", "Hi!"), Message("human", "144?")


@pytest.mark.parametrize(
    "value",
    [
        "144?",
        ASK,
        [ASK],
        [HELLO, HI, ASK],
        [("user", "144?")],
        [["human", "144?"]],
        [{"role": "user", "content": "144?"}],
        [{"type": "human", "content": "144?"}],
        {"messages": [ASK]},
        {"messages": ["144?"]},
        {"messages": "144?"},
        {"messages": ASK},
        {"messages": ["user", "144?"]},
        {"messages": {"role": "user", "content": "144?"}},
        {"messages": [ASK], "locale": "en", "user": "ada"},
        {"input": "144?", "chat_history": [HELLO, HI]},
        {"question": "144?", "context": "a long text"},
        {"anything": "144?"},
        {"anything": "144?", "count": 3, "more": {"x": 1}},
        {"input": [HELLO, HI, ASK]},
        {"chat": [ASK]},
    ],
)
def test_the_users_text_is_found(value: Any):
    split = user_messages_in(value)
    assert split is not None
    assert [m.content for m in split.new] == ["144?"]


@pytest.mark.parametrize(
    "value", [None, "", {}, [], 12, {"a": "one", "b": "two"}, {COMMAND: {"resume": "yes"}}, [1, 2], {"count": 3}]
)
def test_an_input_without_user_text_returns_none(value: Any):
    assert user_messages_in(value) is None


def test_messages_up_to_the_last_answer_are_history():
    split = user_messages_in({"messages": [HELLO, HI, ASK]})
    assert split is not None
    assert (split.history, split.new) == ([HELLO, HI], [ASK])


def test_a_history_under_another_key_than_the_text_is_found():
    split = user_messages_in({"question": "144?", "past": [HELLO, HI]})
    assert split is not None
    assert (split.history, [m.content for m in split.new]) == ([HELLO, HI], ["144?"])


def test_the_configured_key_takes_precedence():
    split = user_messages_in({"input": "not this", "asked": "144?"}, "asked")
    assert split is not None
    assert [m.content for m in split.new] == ["144?"]
