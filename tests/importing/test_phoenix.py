from __future__ import annotations

import json
from typing import Any

from gati.events import LLMCallEvent, RetrievalEvent, ToolCallEvent, Turn
from gati.importing.importer import import_turns
from gati.importing.phoenix import read_phoenix
from gati.settings import load
from tests.importing.kit import Collector


def span(number: int, kind: str, name: str, start: float, end: float, **attributes: Any) -> dict[str, Any]:
    """Return a span as the REST endpoint lists it; `__` in names of attributes stands for a dot."""
    return {
        "id": f"U3Bhbjo{number}", "name": name, "context": {"trace_id": "aa", "span_id": f"{number:016x}"}, "span_kind": kind,
        "parent_id": f"{1:016x}" if number > 1 else None, "status_code": "OK", "status_message": "",
        "start_time": f"2026-01-31T10:00:{start:09.6f}+00:00", "end_time": f"2026-01-31T10:00:{end:09.6f}+00:00",
        "attributes": {key.replace("__", "."): value for key, value in attributes.items()},
    }  # fmt: skip


MESSAGES = [
    {"message.role": "system", "message.content": "You calculate."},
    {"message.role": "user", "message.content": "What is 1 + 2?"},
]
SPANS = [
    span(1, "AGENT", "LangGraph", 0, 2, session__id="s1", user__id="ada",
         input__value=json.dumps({"messages": [{"role": "user", "content": "What is 1 + 2?"}]}), input__mime_type="application/json",
         output__value=json.dumps({"messages": [{"role": "assistant", "content": "It is 3"}]}), output__mime_type="application/json"),
    span(2, "LLM", "ChatOpenAI", 0.1, 0.6, llm__model_name="gpt-4o-mini", llm__input_messages=MESSAGES,
         llm__output_messages=[{"message.role": "assistant", "message.tool_calls": [
             {"tool_call.id": "c1", "tool_call.function.name": "add", "tool_call.function.arguments": '{"a": 1, "b": 2}'}]}],
         llm__token_count__prompt=11, llm__token_count__completion=5),
    span(3, "TOOL", "add", 0.6, 0.7, tool__name="add", input__value='{"a": 1, "b": 2}', input__mime_type="application/json",
         output__value=json.dumps({"role": "tool", "content": "3", "tool_call_id": "c1"}), output__mime_type="application/json"),
    span(4, "RETRIEVER", "search", 0.7, 0.8, input__value="sum", retrieval__documents=[
        {"document.content": "1 + 2 = 3", "document.metadata": '{"source": "book"}'}]),
    span(5, "LLM", "ChatOpenAI", 0.8, 1.5, llm__model_name="gpt-4o-mini", llm__input_messages=MESSAGES,
         llm__output_messages=[{"message.role": "assistant", "message.content": "It is 3"}]),
]  # fmt: skip


def imported(*rows: dict[str, Any]) -> list[Turn]:
    collector = Collector()
    assert import_turns(read_phoenix(rows), "phoenix", load(spool=False), [collector]).lost == 0
    return collector.turns


def check(turn: Turn) -> None:
    assert (turn.conversation.id, turn.conversation.user_id) == ("s1", "ada")
    assert [(message.role, message.text) for message in turn.messages] == [("user", "What is 1 + 2?")]
    assert turn.answer is not None
    assert turn.answer.text == "It is 3"
    first, second = (event for event in turn.events if isinstance(event, LLMCallEvent))
    assert (first.system_prompt, first.model, first.tokens_in, first.tokens_out) == (
        "You calculate.",
        "gpt-4o-mini",
        11,
        5,
    )
    assert first.latency_ms == 500.0
    assert second.tokens_in is None
    (tool,) = (event for event in turn.events if isinstance(event, ToolCallEvent))
    assert (tool.tool_name, tool.input, tool.requested_by) == ("add", {"a": 1, "b": 2}, first.event_id)
    (retrieval,) = (event for event in turn.events if isinstance(event, RetrievalEvent))
    assert (retrieval.query, len(retrieval.documents)) == ("sum", 1)


def test_spans_of_the_rest_endpoint_are_turns():
    (turn,) = imported(*SPANS)
    check(turn)


def test_rows_of_a_data_frame_are_turns():
    def row(span: dict[str, Any]) -> dict[str, Any]:
        attributes = {f"attributes.{key}": value for key, value in span["attributes"].items()}
        plain = {key: value for key, value in span.items() if key not in ("attributes", "context", "id")}
        return {**plain, "context.span_id": span["context"]["span_id"], "context.trace_id": "aa", **attributes}

    columns = {name for span in SPANS for name in row(span)}
    (turn,) = imported(*({name: row(span).get(name) for name in columns} for span in SPANS))
    check(turn)


def test_attributes_with_positions_in_their_names_are_read():
    (turn,) = imported(
        span(1, "LLM", "m", 0, 1, llm__input_messages__0__message__role="user", llm__input_messages__0__message__content="Hi",
             llm__output_messages__0__message__role="assistant", llm__output_messages__0__message__content="Hello")
    )  # fmt: skip
    assert [message.text for message in turn.messages] == ["Hi"]
    assert turn.answer is not None
    assert turn.answer.text == "Hello"


def test_a_span_with_an_error_is_an_error():
    failed = {
        **span(1, "LLM", "m", 0, 1, llm__input_messages=MESSAGES),
        "status_code": "ERROR",
        "status_message": "RateLimit: slow down",
    }
    (turn,) = imported(failed)
    assert turn.status == "error"
    (call,) = (event for event in turn.events if isinstance(event, LLMCallEvent))
    assert (call.error_type, call.error_message) == ("RateLimit", "slow down")
