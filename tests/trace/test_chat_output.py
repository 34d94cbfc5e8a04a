"""The answer in the outputs of many kinds of programs."""

from __future__ import annotations

from typing import Any

import pytest

from gati.trace.chat_output import StateTexts, answer_in, json_text
from gati.trace.records import COMMAND, Message

HI, ASK = Message("ai", "Hi!"), Message("human", "144?")


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


def test_values_that_json_cannot_represent_become_text():
    assert json_text({"n": {1, 2}.__class__}) == '{"n":"<class \'set\'>"}'
    assert json_text({"m": Message("ai", "x")}) == '{"m":{"role":"ai","content":"x"}}'
    assert json_text({"n": 2**70}) == str({"n": 2**70})


def test_a_request_without_text_does_not_hide_the_completion_that_a_node_wrote_around():
    report, page = "The report is done.", "<p>The report is done.</p>"
    state = {"page": page, "draft": "A draft.", "note": "Short."}
    known = StateTexts(whole={page})
    for completions in ([report, "A draft."], ["", report, "", "A draft."]):
        assert answer_in(state, completions=completions, is_state=True, state_texts=lambda: known) == page
