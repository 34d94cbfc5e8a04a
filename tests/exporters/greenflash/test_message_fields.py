"""The fields of each event class's messages. `test_turn_encoder.py` tests their ids, parents and times."""

from __future__ import annotations

from typing import Any

import pytest

from gati import events as ev
from gati.exporters.greenflash.message_fields import MessageFields, error_fields, message_fields, total_fields

TIMED = {"latency_ms": 1.235, "status": "error"}


def only_fields(event: ev.Event, manual: bool = False, answered: bool = False) -> MessageFields:
    """An event's only fields."""
    (fields,) = message_fields(event, manual, answered)
    return fields


def all_fields(event: ev.Event) -> tuple[MessageFields, ...]:
    return message_fields(event, False, False)


def test_start_has_the_runs_input():
    assert only_fields(ev.AgentStartEvent(input={"topic": "roots"}))[:4] == (
        "chain_start",
        {},
        {"topic": "roots"},
        None,
    )
    assert only_fields(ev.AgentStartEvent()).input is None


def test_end_has_totals_status_and_output():
    event = ev.AgentEndEvent(
        status="error", output={"x": 1}, total_duration_ms=1.23456, total_cost=0.5, tokens_in=3, tokens_out=4,
        model_calls=2, tool_calls=1,
    )  # fmt: skip
    spent = {"tokens_in": 3, "tokens_out": 4, "cost_usd": 0.5, "model_calls": 2, "tool_calls": 1, "latency_ms": 1.235}
    assert total_fields(event) == spent
    assert only_fields(event)[:4] == ("chain_end", spent, None, {"status": "error", "output": {"x": 1}})
    assert only_fields(ev.AgentEndEvent()).output == {"status": "completed"}


def test_error_has_type_and_message_in_any_case():
    assert error_fields(ev.Event(error_message="no")) == {"type": "Error", "message": "no"}
    assert error_fields(ev.Event(error_type="ValueError")) == {"type": "ValueError", "message": ""}


NUMBERS = {"tokens_in": None, "tokens_out": None, "cost_usd": None, "latency_ms": 0.0, "status": "completed"}


def test_empty_model_call_has_null_numbers():
    assert only_fields(ev.LLMCallEvent()) == MessageFields("llm", NUMBERS)


def test_model_call_with_all_fields():
    event = ev.LLMCallEvent(
        model="gpt-4o", tokens_in=3, tokens_out=4, latency_ms=1.23456, cost=0.5, time_to_first_token_ms=0.12345,
        provider="openai", finish_reason="stop", tools=["search"], parameters={"temperature": 0}, internal=True,
        cached=True, completion="Ho", prompt="Hi", new_messages=[{"role": "human", "content": "Hi"}], status="error",
        usage=ev.Usage(3, 4, 7, cache_read_tokens=1, cache_write_tokens=2, reasoning_tokens=0, audio_input_tokens=5,
                       audio_output_tokens=6, raw={"prompt_tokens": 3}),
    )  # fmt: skip
    fields = only_fields(event)
    assert fields.properties == {
        "tokens_in": 3, "tokens_out": 4, "cost_usd": 0.5, **TIMED, "time_to_first_token_ms": 0.123,
        "provider": "openai", "cached": True, "internal": True, "tools": ["search"], "parameters": {"temperature": 0},
        "total_tokens": 7, "cache_read_tokens": 1, "cache_write_tokens": 2, "reasoning_tokens": 0,
        "audio_input_tokens": 5, "audio_output_tokens": 6, "usage": {"prompt_tokens": 3},
    }  # fmt: skip
    assert fields.input == {"messages": [{"role": "human", "content": "Hi"}]}
    assert fields.output == {"finish_reason": "stop", "text": "Ho"}
    assert (fields.message_type, fields.model, fields.tool_name, fields.suffix) == ("llm", "gpt-4o", None, "")
    assert only_fields(event, manual=True).input == {"messages": event.new_messages, "prompt": "Hi"}


def test_unknown_usage_is_omitted():
    assert only_fields(ev.LLMCallEvent(usage=ev.Usage(3, 4))).properties == NUMBERS


@pytest.mark.parametrize(
    ("is_answer", "answered", "output"),
    [
        (True, True, None),  # the answer contains it
        (True, False, {"text": "Ho"}),
        (False, True, {"text": "Ho"}),
        (False, False, {"text": "Ho"}),
    ],
)
def test_completion_is_omitted_if_the_answer_contains_it(is_answer: bool, answered: bool, output: Any):
    assert only_fields(ev.LLMCallEvent(completion="Ho", is_answer=is_answer), answered=answered).output == output


CALL = {"name": "search", "args": {}, "id": "1"}


@pytest.mark.parametrize(
    ("reasoning", "completion", "thought"),
    [("Hm.", "", "Hm."), ("", "I look it up.", "I look it up."), ("Hm.", "I look it up.", "Hm.\n\nI look it up.")],
)
def test_text_with_tool_calls_becomes_a_thought(reasoning: str, completion: str, thought: str):
    call, second = all_fields(ev.LLMCallEvent(reasoning=reasoning, completion=completion, tool_requests=[CALL]))
    assert call.output == {"tool_calls": [CALL]}
    assert second == MessageFields("thought", {}, output={"text": thought}, suffix=":thought")


def test_reasoning_becomes_a_thought():
    call, thought = all_fields(ev.LLMCallEvent(reasoning="Hm.", completion="12"))
    assert call.output == {"text": "12"}
    assert thought.output == {"text": "Hm."}


def test_tool_call_and_observation():
    event = ev.ToolCallEvent(
        tool_name="search", name="other", input={"q": 1}, output={"r": 2}, latency_ms=1.23456, tool_call_id="call_1",
        requested_by="llm-1",
    )  # fmt: skip
    properties = {"tool_call_id": "call_1", "requested_by": "llm-1"}
    assert all_fields(event) == (
        MessageFields("tool_call", properties, {"q": 1}, tool_name="search"),
        MessageFields("observation", {"latency_ms": 1.235}, output={"r": 2}, tool_name="search", suffix=":result"),
    )


def test_tool_has_a_name_in_any_case():
    assert [fields.tool_name for fields in all_fields(ev.ToolCallEvent(name="search"))] == ["search"] * 2
    call, result = all_fields(ev.ToolCallEvent())
    assert (call.tool_name, call.properties, call.input, result.output) == ("tool", {}, {}, {})


def test_scalars_of_manual_events_become_objects():
    values: dict[str, Any] = {"input": 0, "output": "12"}
    call, result = all_fields(ev.ToolCallEvent(**values))
    assert (call.input, result.output) == ({"input": 0}, {"output": "12"})
    for kind in (ev.StepEvent, ev.EmbeddingEvent, ev.MemoryEvent):
        assert only_fields(kind(**values))[2:4] == ({"input": 0}, {"output": "12"})
    assert only_fields(ev.AgentStartEvent(input=values["input"])).input == {"input": 0}
    assert only_fields(ev.NodeExecutionEvent(state_after=values["output"])).output == {"output": "12"}


def test_tool_error_keeps_output_and_handled_flag():
    event = ev.ToolCallEvent(
        tool_name="search", status="error", error_type="E", error_message="m", output={"r": 2}, handled=False,
        latency_ms=1.23456,
    )  # fmt: skip
    output = {"type": "E", "message": "m", "output": {"r": 2}}
    properties = {"latency_ms": 1.235, "handled": False}
    assert all_fields(event)[1] == MessageFields(
        "tool_error", properties, output=output, tool_name="search", suffix=":error"
    )
    assert all_fields(ev.ToolCallEvent(status="error"))[1].properties == {"latency_ms": 0.0}


def test_aborted_tool_has_an_observation_only_with_output():
    event = ev.ToolCallEvent(tool_call_id="call_1", status="aborted", latency_ms=1.23456)
    assert only_fields(event).properties == {"tool_call_id": "call_1", "status": "aborted", "latency_ms": 1.235}
    event.output = {"r": 2}
    assert [fields.message_type for fields in all_fields(event)] == ["tool_call", "observation"]


def test_node_has_its_changes_and_step():
    event = ev.NodeExecutionEvent(
        node_name="plan", name="other", duration_ms=1.23456, status="error", step=0, attempt=2, state_before={"x": 1},
        state_after={"y": 2},
    )  # fmt: skip
    assert only_fields(event) == MessageFields(
        "task", {"node": "plan", "step": 0, **TIMED, "attempt": 2}, None, {"y": 2}
    )
    assert only_fields(ev.NodeExecutionEvent(name="plan")).properties == {
        "node": "plan", "latency_ms": 0.0, "status": "completed",
    }  # fmt: skip


@pytest.mark.parametrize(("workflow", "kind"), [(True, "workflow"), (False, "task")])
def test_steps_are_tasks_and_nested_graphs_are_workflows(workflow: bool, kind: str):
    event = ev.StepEvent(
        step_name="rank", name="other", workflow=workflow, input={"i": 1}, output={"o": 2}, duration_ms=1.23456,
        status="error",
    )  # fmt: skip
    assert only_fields(event) == MessageFields(kind, {"name": "rank", **TIMED}, {"i": 1}, {"o": 2})
    assert only_fields(ev.StepEvent(name="rank")).properties["name"] == "rank"


TIMES: dict[str, Any] = {"latency_ms": 1.23456, "status": "error"}


def test_retrieval_has_query_and_documents():
    event = ev.RetrievalEvent(query="q", documents=[{"text": "a"}, {"text": "b"}], name="shelf", **TIMES)
    assert only_fields(event) == MessageFields(
        "retrieval", {"name": "shelf", **TIMED, "documents": 2}, {"query": "q"}, {"documents": event.documents}
    )
    assert only_fields(ev.RetrievalEvent()).properties == {"latency_ms": 0.0, "status": "completed", "documents": 0}


def test_embedding_and_memory_have_input_and_output():
    values: dict[str, Any] = {"input": {"i": 1}, "output": {"o": 2}, "name": "n", **TIMES}
    rest = ({"name": "n", **TIMED}, {"i": 1}, {"o": 2})
    assert only_fields(ev.EmbeddingEvent(**values)) == MessageFields("embedding", *rest)
    assert only_fields(ev.MemoryEvent(**values)) == MessageFields("memory_read", *rest)
    assert only_fields(ev.MemoryEvent(**values, write=True)) == MessageFields("memory_write", *rest)


@pytest.mark.parametrize(
    ("payload", "output"),
    [
        ({"name": "progress", "data": 7}, {"name": "progress", "data": 7}),
        ({"name": "progress"}, {"name": "c", "data": {"name": "progress"}}),
        ({"data": 7}, {"name": "c", "data": {"data": 7}}),
    ],
)
def test_custom_event_is_a_callback_with_name_and_data(payload: dict[str, Any], output: dict[str, Any]):
    event = ev.CustomEvent(name="c", payload=payload, status="waiting")
    fields = only_fields(event)
    assert fields == MessageFields("callback", {"name": "c", "status": "waiting"}, None, output)
    assert fields.output is not payload


def test_unnamed_event_is_named_after_its_type():
    assert only_fields(ev.CustomEvent(payload={"x": 1})).output == {"name": "custom", "data": {"x": 1}}
    assert only_fields(ev.CustomEvent()).properties["name"] == "custom"
    assert only_fields(ev.Event(event_type="clicked", status="waiting", data={"x": 1})) == MessageFields(
        "callback", {"name": "clicked", "status": "waiting"}, None, {"name": "clicked", "data": {"x": 1}}
    )
    assert only_fields(ev.Event(event_type="clicked", name="button")).output["name"] == "button"


def test_user_defined_class_is_encoded_as_its_nearest_base():
    class Search(ev.RetrievalEvent):
        pass

    class DeepSearch(Search):
        pass

    assert only_fields(DeepSearch(query="q")).message_type == "retrieval"


def test_unknown_duration_is_null():
    unknown: Any = None
    assert only_fields(ev.StepEvent(duration_ms=unknown)).properties["latency_ms"] is None


def test_a_model_call_has_its_candidates_and_its_decision():
    fields = only_fields(ev.LLMCallEvent(candidates=["Yes.", "No."], decision={"tool": "search", "tool_input": "x"}))
    assert fields.output == {"candidates": ["Yes.", "No."], "decision": {"tool": "search", "tool_input": "x"}}
    assert only_fields(ev.LLMCallEvent()).output is None
