from __future__ import annotations

from typing import Any

from gati.events import LLMCallEvent, ToolCallEvent, Turn
from gati.importing.importer import import_turns
from gati.importing.langfuse import read_langfuse
from gati.settings import load
from tests.importing.kit import Collector

TRACE: dict[str, Any] = {
    "id": "t-1", "timestamp": "2026-01-31T10:00:00.000Z", "name": "chat", "sessionId": "s1", "userId": "ada",
    "input": {"messages": [{"role": "user", "content": "What is 1 + 2?"}]},
    "output": {"messages": [{"role": "assistant", "content": "It is 3"}]},
}  # fmt: skip
OBSERVATIONS: list[dict[str, Any]] = [
    {
        "id": "o-1", "traceId": "t-1", "type": "GENERATION", "name": "ChatOpenAI", "model": "gpt-4o-mini",
        "startTime": "2026-01-31T10:00:00.100Z", "endTime": "2026-01-31T10:00:00.600Z", "parentObservationId": None,
        "input": [{"role": "system", "content": "You calculate."}, {"role": "user", "content": "What is 1 + 2?"}],
        "output": {"role": "assistant", "content": "", "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}]},
        "usageDetails": {"input": 11, "output": 5, "total": 16},
    },
    {
        "id": "o-2", "traceId": "t-1", "type": "TOOL", "name": "add", "input": {"a": 1, "b": 2},
        "output": {"role": "tool", "content": "3", "tool_call_id": "c1"},
        "startTime": "2026-01-31T10:00:00.600Z", "endTime": "2026-01-31T10:00:00.700Z",
    },
    {
        "id": "o-3", "traceId": "t-1", "type": "GENERATION", "name": "ChatOpenAI", "model": "gpt-4o-mini",
        "startTime": "2026-01-31T10:00:00.700Z", "endTime": "2026-01-31T10:00:00.900Z",
        "input": [{"role": "system", "content": "You calculate."}, {"role": "user", "content": "What is 1 + 2?"},
                  {"role": "tool", "content": "3", "tool_call_id": "c1"}],
        "output": {"role": "assistant", "content": "It is 3"},
        "usageDetails": {"input": 4, "input_cached_tokens": 16, "output": 5},
    },
]  # fmt: skip


def imported(*rows: dict[str, Any]) -> list[Turn]:
    collector = Collector()
    assert import_turns(read_langfuse(rows), "langfuse", load(spool=False), [collector]).lost == 0
    return collector.turns


def check(turn: Turn) -> None:
    assert (turn.conversation.id, turn.conversation.user_id) == ("s1", "ada")
    assert [(message.role, message.text) for message in turn.messages] == [("user", "What is 1 + 2?")]
    assert turn.answer is not None
    assert turn.answer.text == "It is 3"
    first, second = (event for event in turn.events if isinstance(event, LLMCallEvent))
    assert (first.system_prompt, first.model, first.latency_ms) == ("You calculate.", "gpt-4o-mini", 500.0)
    assert (first.tokens_in, first.tokens_out) == (11, 5)
    assert second.usage is not None
    assert (second.tokens_in, second.usage.cache_read_tokens) == (20, 16)
    (tool,) = (event for event in turn.events if isinstance(event, ToolCallEvent))
    assert (tool.tool_name, tool.input, tool.output, tool.requested_by) == (
        "add", {"a": 1, "b": 2}, {"output": "3"}, first.event_id,
    )  # fmt: skip


def test_traces_and_observations_in_one_file_are_turns():
    (turn,) = imported(TRACE, *OBSERVATIONS)
    check(turn)


def test_traces_that_contain_their_observations_are_turns():
    (turn,) = imported({**TRACE, "observations": [{**row, "traceId": None} for row in OBSERVATIONS]})
    check(turn)


def test_columns_in_snake_case_and_json_texts_are_read():
    row = {
        "id": "o-1", "trace_id": "t-9", "type": "GENERATION", "name": "m", "start_time": "2026-01-31 10:00:00",
        "end_time": "2026-01-31 10:00:01", "input": '[{"role": "user", "content": "Hi"}]', "output": '"Hello"',
        "usage_details": '{"input": 1, "output": 2}', "provided_model_name": "m-1",
    }  # fmt: skip
    (turn,) = imported(row)
    assert [message.text for message in turn.messages] == ["Hi"]
    assert turn.answer is not None
    assert turn.answer.text == "Hello"
    (call,) = (event for event in turn.events if isinstance(event, LLMCallEvent))
    assert (call.model, call.tokens_in, call.tokens_out, call.latency_ms) == ("m-1", 1, 2, 1000.0)


def test_an_observation_with_level_error_is_an_error():
    failed = {**OBSERVATIONS[0], "output": None, "level": "ERROR", "statusMessage": "rate limit"}
    (turn,) = imported({**TRACE, "output": None}, failed)
    (call,) = (event for event in turn.events if isinstance(event, LLMCallEvent))
    assert (call.status, call.error_message) == ("error", "rate limit")
