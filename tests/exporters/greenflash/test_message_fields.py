"""What each kind of event says, field by field. How parts stand in a conversation: `test_mapping.py`."""

from __future__ import annotations

from typing import Any

import pytest

from gati import events as ev
from gati.exporters.greenflash.message_fields import MessageFields, error_fields, message_fields, total_fields

TIMED = {"latency_ms": 1.235, "status": "error"}


def own(event: ev.Event, manual: bool = False, answered: bool = False) -> MessageFields:
    """An event's only part."""
    (part,) = message_fields(event, manual, answered)
    return part


def both(event: ev.Event) -> tuple[MessageFields, ...]:
    return message_fields(event, False, False)


def test_the_start_tells_what_the_run_was_given():
    assert own(ev.AgentStartEvent(input={"topic": "roots"}))[:4] == ("chain_start", {}, {"topic": "roots"}, None)
    assert own(ev.AgentStartEvent()).input is None


def test_the_end_tells_what_the_turn_spent_and_gave():
    event = ev.AgentEndEvent(
        status="error", output={"x": 1}, total_duration_ms=1.23456, total_cost=0.5, tokens_in=3, tokens_out=4,
        model_calls=2, tool_calls=1,
    )  # fmt: skip
    spent = {"tokens_in": 3, "tokens_out": 4, "cost_usd": 0.5, "model_calls": 2, "tool_calls": 1, "latency_ms": 1.235}
    assert total_fields(event) == spent
    assert own(event)[:4] == ("chain_end", spent, None, {"status": "error", "output": {"x": 1}})
    assert own(ev.AgentEndEvent()).output == {"status": "completed"}


def test_an_error_has_a_type_and_a_text_whatever_is_known_of_it():
    assert error_fields(ev.Event(error_message="no")) == {"type": "Error", "message": "no"}
    assert error_fields(ev.Event(error_type="ValueError")) == {"type": "ValueError", "message": ""}


NUMBERS = {"tokens_in": None, "tokens_out": None, "cost_usd": None, "latency_ms": 0.0, "status": "completed"}


def test_a_model_call_of_which_nothing_is_known_says_so():
    assert own(ev.LLMCallEvent()) == MessageFields("llm", NUMBERS)


def test_a_model_call_tells_all_that_is_known():
    event = ev.LLMCallEvent(
        model="gpt-4o", tokens_in=3, tokens_out=4, latency_ms=1.23456, cost=0.5, time_to_first_token_ms=0.12345,
        provider="openai", finish_reason="stop", tools=["search"], parameters={"temperature": 0}, internal=True,
        cached=True, completion="Ho", prompt="Hi", new_messages=[{"role": "human", "content": "Hi"}], status="error",
        usage=ev.Usage(3, 4, 7, cache_read_tokens=1, cache_write_tokens=2, reasoning_tokens=0, audio_input_tokens=5,
                       audio_output_tokens=6, raw={"prompt_tokens": 3}),
    )  # fmt: skip
    part = own(event)
    assert part.properties == {
        "tokens_in": 3, "tokens_out": 4, "cost_usd": 0.5, **TIMED, "time_to_first_token_ms": 0.123,
        "provider": "openai", "cached": True, "internal": True, "tools": ["search"], "parameters": {"temperature": 0},
        "total_tokens": 7, "cache_read_tokens": 1, "cache_write_tokens": 2, "reasoning_tokens": 0,
        "audio_input_tokens": 5, "audio_output_tokens": 6, "usage": {"prompt_tokens": 3},
    }  # fmt: skip
    assert part.input == {"messages": [{"role": "human", "content": "Hi"}]}
    assert part.output == {"finish_reason": "stop", "text": "Ho"}
    assert (part.message_type, part.model, part.tool_name, part.suffix) == ("llm", "gpt-4o", None, "")
    assert own(event, manual=True).input == {"messages": event.new_messages, "prompt": "Hi"}


def test_usage_tells_what_is_known_of_it_only():
    assert own(ev.LLMCallEvent(usage=ev.Usage(3, 4))).properties == NUMBERS


@pytest.mark.parametrize(
    ("shown", "answered", "output"),
    [
        (True, True, None),  # it stands in the answer
        (True, False, {"text": "Ho"}),
        (False, True, {"text": "Ho"}),
        (False, False, {"text": "Ho"}),
    ],
)
def test_a_completion_is_told_once(shown: bool, answered: bool, output: Any):
    assert own(ev.LLMCallEvent(completion="Ho", is_answer=shown), answered=answered).output == output


CALL = {"name": "search", "args": {}, "id": "1"}


@pytest.mark.parametrize(
    ("reasoning", "completion", "thought"),
    [("Hm.", "", "Hm."), ("", "I look it up.", "I look it up."), ("Hm.", "I look it up.", "Hm.\n\nI look it up.")],
)
def test_what_is_said_beside_tool_calls_is_a_thought_with_the_reasoning(reasoning: str, completion: str, thought: str):
    call, second = both(ev.LLMCallEvent(reasoning=reasoning, completion=completion, tool_requests=[CALL]))
    assert call.output == {"tool_calls": [CALL]}
    assert second == MessageFields("thought", {}, output={"text": thought}, suffix=":thought")


def test_reasoning_stands_apart_from_the_text():
    call, thought = both(ev.LLMCallEvent(reasoning="Hm.", completion="12"))
    assert call.output == {"text": "12"}
    assert thought.output == {"text": "Hm."}


def test_a_tools_call_and_its_result():
    event = ev.ToolCallEvent(
        tool_name="search", name="other", input={"q": 1}, output={"r": 2}, latency_ms=1.23456, tool_call_id="call_1",
        requested_by="llm-1",
    )  # fmt: skip
    properties = {"tool_call_id": "call_1", "requested_by": "llm-1"}
    assert both(event) == (
        MessageFields("tool_call", properties, {"q": 1}, tool_name="search"),
        MessageFields("observation", {"latency_ms": 1.235}, output={"r": 2}, tool_name="search", suffix=":result"),
    )


def test_a_tool_has_a_name_whatever_is_known_of_it():
    assert [part.tool_name for part in both(ev.ToolCallEvent(name="search"))] == ["search"] * 2
    call, result = both(ev.ToolCallEvent())
    assert (call.tool_name, call.properties, call.input, result.output) == ("tool", {}, {}, {})


def test_scalars_made_by_hand_become_objects():
    given: dict[str, Any] = {"input": 0, "output": "12"}
    call, result = both(ev.ToolCallEvent(**given))
    assert (call.input, result.output) == ({"input": 0}, {"output": "12"})
    for kind in (ev.StepEvent, ev.EmbeddingEvent, ev.MemoryEvent):
        assert own(kind(**given))[2:4] == ({"input": 0}, {"output": "12"})
    assert own(ev.AgentStartEvent(input=given["input"])).input == {"input": 0}
    assert own(ev.NodeExecutionEvent(state_after=given["output"])).output == {"output": "12"}


def test_a_tools_failure_keeps_what_it_gave_and_whether_it_was_dealt_with():
    event = ev.ToolCallEvent(
        tool_name="search", status="error", error_type="E", error_message="m", output={"r": 2}, handled=False,
        latency_ms=1.23456,
    )  # fmt: skip
    output = {"type": "E", "message": "m", "output": {"r": 2}}
    properties = {"latency_ms": 1.235, "handled": False}
    assert both(event)[1] == MessageFields("tool_error", properties, output=output, tool_name="search", suffix=":error")
    assert both(ev.ToolCallEvent(status="error"))[1].properties == {"latency_ms": 0.0}


def test_a_tool_that_was_cut_short_has_a_result_only_if_it_gave_one():
    event = ev.ToolCallEvent(tool_call_id="call_1", status="aborted", latency_ms=1.23456)
    assert own(event).properties == {"tool_call_id": "call_1", "status": "aborted", "latency_ms": 1.235}
    event.output = {"r": 2}
    assert [part.message_type for part in both(event)] == ["tool_call", "observation"]


def test_a_node_tells_what_it_changed_and_which_step_it_was():
    event = ev.NodeExecutionEvent(
        node_name="plan", name="other", duration_ms=1.23456, status="error", step=0, attempt=2, state_before={"x": 1},
        state_after={"y": 2},
    )  # fmt: skip
    assert own(event) == MessageFields("task", {"node": "plan", "step": 0, **TIMED, "attempt": 2}, None, {"y": 2})
    assert own(ev.NodeExecutionEvent(name="plan")).properties == {
        "node": "plan", "latency_ms": 0.0, "status": "completed",
    }  # fmt: skip


@pytest.mark.parametrize(("workflow", "kind"), [(True, "workflow"), (False, "task")])
def test_a_step_of_ones_own_and_a_graph_inside_a_graph(workflow: bool, kind: str):
    event = ev.StepEvent(
        step_name="rank", name="other", workflow=workflow, input={"i": 1}, output={"o": 2}, duration_ms=1.23456,
        status="error",
    )  # fmt: skip
    assert own(event) == MessageFields(kind, {"name": "rank", **TIMED}, {"i": 1}, {"o": 2})
    assert own(ev.StepEvent(name="rank")).properties["name"] == "rank"


TIMES: dict[str, Any] = {"latency_ms": 1.23456, "status": "error"}


def test_a_retrieval_tells_its_query_and_its_documents():
    event = ev.RetrievalEvent(query="q", documents=[{"text": "a"}, {"text": "b"}], name="shelf", **TIMES)
    assert own(event) == MessageFields(
        "retrieval", {"name": "shelf", **TIMED, "documents": 2}, {"query": "q"}, {"documents": event.documents}
    )
    assert own(ev.RetrievalEvent()).properties == {"latency_ms": 0.0, "status": "completed", "documents": 0}


def test_an_embedding_and_a_memory_tell_what_went_in_and_out():
    given: dict[str, Any] = {"input": {"i": 1}, "output": {"o": 2}, "name": "n", **TIMES}
    rest = ({"name": "n", **TIMED}, {"i": 1}, {"o": 2})
    assert own(ev.EmbeddingEvent(**given)) == MessageFields("embedding", *rest)
    assert own(ev.MemoryEvent(**given)) == MessageFields("memory_read", *rest)
    assert own(ev.MemoryEvent(**given, write=True)) == MessageFields("memory_write", *rest)


@pytest.mark.parametrize(
    ("payload", "output"),
    [
        ({"name": "progress", "data": 7}, {"name": "progress", "data": 7}),
        ({"name": "progress"}, {"name": "c", "data": {"name": "progress"}}),
        ({"data": 7}, {"name": "c", "data": {"data": 7}}),
    ],
)
def test_a_custom_event_is_a_callback_with_a_name_and_data(payload: dict[str, Any], output: dict[str, Any]):
    event = ev.CustomEvent(name="c", payload=payload, status="waiting")
    part = own(event)
    assert part == MessageFields("callback", {"name": "c", "status": "waiting"}, None, output)
    assert part.output is not payload


def test_an_event_without_a_name_goes_by_its_type():
    assert own(ev.CustomEvent(payload={"x": 1})).output == {"name": "custom", "data": {"x": 1}}
    assert own(ev.CustomEvent()).properties["name"] == "custom"
    assert own(ev.Event(event_type="clicked", status="waiting", data={"x": 1})) == MessageFields(
        "callback", {"name": "clicked", "status": "waiting"}, None, {"name": "clicked", "data": {"x": 1}}
    )
    assert own(ev.Event(event_type="clicked", name="button")).output["name"] == "button"


def test_a_class_of_the_users_own_is_told_as_its_nearest_base():
    class Search(ev.RetrievalEvent):
        pass

    class DeepSearch(Search):
        pass

    assert own(DeepSearch(query="q")).message_type == "retrieval"


def test_a_duration_that_is_not_known_is_null():
    unknown: Any = None
    assert own(ev.StepEvent(duration_ms=unknown)).properties["latency_ms"] is None
