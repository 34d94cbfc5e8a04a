"""`gati.trace.chat_io`: user messages and answers in the states of many kinds of programs."""

from __future__ import annotations

from typing import Any

import pytest

from gati.trace.chat_io import answer_in, as_message, as_messages, json_text, user_messages_in
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


@pytest.mark.parametrize(
    "value",
    [
        "Twelve.",
        Message("ai", "Twelve."),
        [ASK, Message("ai", "Twelve.")],
        {"messages": [ASK, Message("ai", "Twelve.")], "count": 1},
        {"messages": [Message("ai", "Let me see.", tool_calls=({},)), Message("tool", "12"), Message("ai", "Twelve.")]},
        {"output": "Twelve."},
        {"answer": "Twelve.", "context": ["a text"]},
        {"answer": Message("ai", "Twelve.")},
        {"whatever": "Twelve.", "count": 1},
        [("assistant", "Twelve.")],
        {"messages": [Message("ai", [{"type": "text", "text": "Twelve."}])]},
    ],
)
def test_the_answer_is_found(value: Any):
    assert answer_in(value) == "Twelve."


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"messages": [ASK]},
        {"messages": [Message("ai", "Let me see.", tool_calls=({"name": "f"},))]},
        {"messages": [Message("ai", "Hi!"), ASK]},
        {"a": "one", "b": "two"},
        {COMMAND: {"update": {"messages": [HI]}}},
        12,
    ],
)
def test_an_output_without_an_answer_returns_an_empty_text(value: Any):
    assert answer_in(value) == ""


def test_the_result_of_a_tool_with_return_direct_is_the_answer():
    messages = [ASK, Message("ai", "", tool_calls=({},)), Message("tool", "12")]
    assert answer_in({"messages": messages}) == "12"
    assert answer_in({"messages": [*messages[:2], Message("tool", "failed", status="error")]}) == ""


def test_a_structured_answer_is_json():
    assert answer_in({"n": 12}, structured=True) == '{"n":12}'
    assert answer_in({"n": 12}) == ""
    assert answer_in({"structured_response": {"n": 12}, "messages": [ASK]}) == '{"n":12}'
    assert answer_in({"result": {"n": 12}, "x": 1}, key="result") == '{"n":12}'


def test_among_several_texts_the_last_completion_is_the_answer():
    state = {"draft": "A bear…", "joke": "Bear with me.", "title": "Bears"}
    assert answer_in(state, completions=["Bear with me.", "A bear…"]) == "Bear with me."
    assert answer_in(state, completions=["Something else."]) == ""


def test_a_structured_answer_has_all_its_entries():
    assert answer_in({"name": "Ada", "age": 36}, structured=True) == '{"name":"Ada","age":36}'
    assert answer_in({"name": "Ada"}, structured=True) == "Ada"


def test_a_structured_output_with_its_raw_message_is_the_parsed_value():
    raw = Message("ai", "not json")
    assert answer_in({"raw": raw, "parsed": {"n": 3}, "parsing_error": None}, structured=True) == '{"n":3}'
    assert answer_in({"raw": raw, "parsed": None, "parsing_error": "no"}, structured=True) == "not json"


def test_every_form_of_message_is_recognized():
    assert as_message({"role": "user", "content": "x", "id": "1"}) == Message("user", "x", "1")
    assert as_message(("ai", "x")) == Message("ai", "x")
    assert as_message({"role": 3, "content": "x"}) is None
    assert as_message({"type": "text", "text": "x"}) is None
    assert as_messages([("ai", "x"), 3]) is None
    assert as_messages([3, ("ai", "x")]) == [Message("ai", "x")]


def test_values_that_json_cannot_represent_become_text():
    assert json_text({"n": {1, 2}.__class__}) == '{"n":"<class \'set\'>"}'
    assert json_text({"m": Message("ai", "x")}) == '{"m":{"role":"ai","content":"x"}}'
    assert json_text({"n": 2**70}) == str({"n": 2**70})
