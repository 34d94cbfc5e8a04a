"""Turns as spans: names, ids, parents, attributes of the GenAI conventions, and where texts may stand."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gati import events as ev
from gati.exporters.otlp.span_encoder import SpanEncoder
from tests.exporters.turns import ROOT, agent_turn, answer, llm, ms, run_id, settings, tool, turn, user_text

TEXT = "Draw a cat."
SECRET = "the secret plan"


def encode(*items: ev.Item, **options: Any) -> list[dict[str, Any]]:
    encoder = SpanEncoder(settings(otlp_endpoint="http://collector:4318", **options), {"service.name": "tutor"})
    return [span for request in encoder.encode(items) for span in request.body["spans"]]


def by_name(spans: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {span["name"]: span for span in spans}


def secret_turn() -> ev.Turn:
    """Return a turn with a secret in every text."""
    call = llm(
        3, system_prompt=SECRET, prompt=SECRET, completion=SECRET, reasoning=SECRET, candidates=[SECRET],
        new_messages=[{"role": "human", "content": SECRET}], decision={"it": SECRET}, parameters={"stop": [SECRET]},
        tool_requests=[{"id": "1", "name": "t", "args": {"a": SECRET}}],
    )  # fmt: skip
    other = [
        tool(4, input={"a": SECRET}, output={"output": SECRET}, status="error", error_type="E", error_message=SECRET),
        ev.StepEvent(event_id=run_id(5), name=SECRET, step_name=SECRET, input={"a": SECRET}, started_ns=ms(5)),
        ev.RetrievalEvent(event_id=run_id(6), query=SECRET, documents=[{"text": SECRET}], started_ns=ms(6)),
        ev.NodeExecutionEvent(event_id=run_id(7), node_name="n", state_after={"a": SECRET}, started_ns=ms(7)),
        ev.CustomEvent(event_id=run_id(8), name="c", payload={"name": "c", "data": SECRET}, started_ns=ms(8)),
        ev.MemoryEvent(event_id=run_id(9), name="get", input={"key": SECRET}, started_ns=ms(9)),
        ev.EmbeddingEvent(event_id=run_id(10), model="e", input={"text": SECRET}, started_ns=ms(10)),
    ]
    whole = turn(call, *other, messages=[user_text(SECRET)], answer=answer(SECRET))
    whole.conversation.properties["plan"] = SECRET
    whole.conversation.prompt = ev.Prompt(SECRET)
    whole.events[0].metadata, whole.events[0].tags = {"a": SECRET}, [SECRET]
    return whole


def test_a_turn_is_one_trace_with_the_agent_as_its_root():
    spans = encode(agent_turn())
    assert {span["traceId"] for span in spans} == {ROOT.replace("-", "")}
    ids = {span["spanId"]: span["name"] for span in spans}
    assert len(ids) == len(spans)
    tree = {(span["name"], ids.get(span.get("parentSpanId", ""), "")) for span in spans}
    assert tree == {
        ("invoke_agent tutor", ""), ("model", "invoke_agent tutor"), ("tools", "invoke_agent tutor"),
        ("chat gpt-4o", "model"), ("execute_tool calculator", "tools"),
    }  # fmt: skip


def test_spans_have_the_attributes_of_the_conventions():
    usage = ev.Usage(input_tokens=61, cache_read_tokens=40, cache_write_tokens=0, reasoning_tokens=5)
    call = llm(
        2, tokens_in=61, tokens_out=17, usage=usage, provider="bedrock", finish_reason="stop", time_to_first_token_ms=250,
        parameters={"temperature": 0, "max_tokens": 99, "model": "gpt-4o-alias", "top_k": True},
    )  # fmt: skip
    spans = by_name(encode(turn(call, tool(3, tool_call_id="call_1"))))
    assert spans["chat gpt-4o-alias"]["attributes"] == {
        "gen_ai.conversation.id": "c-1", "gen_ai.operation.name": "chat", "gen_ai.provider.name": "aws.bedrock",
        "gen_ai.request.model": "gpt-4o-alias", "gen_ai.response.model": "gpt-4o",
        "gen_ai.response.finish_reasons": ["stop"], "gen_ai.usage.input_tokens": 61, "gen_ai.usage.output_tokens": 17,
        "gen_ai.usage.cache_read.input_tokens": 40, "gen_ai.usage.cache_creation.input_tokens": 0,
        "gen_ai.usage.reasoning.output_tokens": 5, "gen_ai.request.stream": True,
        "gen_ai.response.time_to_first_chunk": 0.25, "gen_ai.request.temperature": 0.0, "gen_ai.request.max_tokens": 99,
    }  # fmt: skip
    assert spans["execute_tool calculator"]["attributes"] == {
        "gen_ai.conversation.id": "c-1", "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "calculator",
        "gen_ai.tool.type": "function", "gen_ai.tool.call.id": "call_1",
    }  # fmt: skip
    agent = spans["invoke_agent tutor"]["attributes"]
    assert (agent["gen_ai.agent.name"], agent["user.id"]) == ("tutor", "u-7")
    assert (agent["gen_ai.usage.input_tokens"], agent["gen_ai.provider.name"]) == (151, "aws.bedrock")


@pytest.mark.parametrize("options", [{}, {"capture_content": False}, {"otlp_content": True, "capture_content": False}])
def test_no_text_leaves_the_process_unless_both_options_allow_it(options: dict[str, Any]):
    spans = encode(secret_turn(), **options)
    assert len(spans) == 9
    assert SECRET not in orjson.dumps(spans).decode()


def test_texts_stand_where_the_conventions_put_them():
    spans = by_name(encode(secret_turn(), otlp_content=True))
    chat = {name: orjson.loads(value) for name, value in spans["chat gpt-4o"]["attributes"].items() if "messages" in name and isinstance(value, str)}  # fmt: skip
    said = {"type": "text", "content": SECRET}
    assert chat["gen_ai.input.messages"] == [{"role": "user", "parts": [said]}]
    assert chat["gen_ai.output.messages"] == [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": SECRET}, said,
                {"type": "tool_call", "id": "1", "name": "t", "arguments": {"a": SECRET}},
            ],
            "finish_reason": "stop",
        },
        {"role": "assistant", "parts": [said], "finish_reason": "stop"},
    ]  # fmt: skip
    called = spans["execute_tool calculator"]
    assert orjson.loads(called["attributes"]["gen_ai.tool.call.arguments"]) == {"a": SECRET}
    assert called["status"] == {"code": 2, "message": SECRET}
    assert orjson.loads(spans["invoke_agent tutor"]["attributes"]["gen_ai.input.messages"])[0]["parts"] == [said]
    assert spans[SECRET]["attributes"]["gati.input"] == orjson.dumps({"a": SECRET}).decode()


def test_the_result_of_a_tool_that_the_program_ran_is_input_of_the_call():
    message = {"role": "tool", "content": "12", "tool_call_id": "call_1"}
    (_, call) = encode(turn(llm(2, prompt=TEXT, new_messages=[message])), otlp_content=True)
    assert orjson.loads(call["attributes"]["gen_ai.input.messages"])[1] == {
        "role": "tool", "parts": [{"type": "tool_call_response", "id": "call_1", "response": "12"}],
    }  # fmt: skip


def test_a_failure_has_status_and_type():
    failed = tool(2, status="error", error_type="ValueError", error_message=SECRET)
    span = by_name(encode(turn(failed, status="completed")))["execute_tool calculator"]
    assert span["status"] == {"code": 2}
    assert span["attributes"]["error.type"] == "ValueError"


def test_a_bare_model_call_is_the_root_of_its_trace():
    call = llm(1)
    bare = ev.Turn(ROOT, ev.Conversation("c-1", "u-7"), agent_name="tutor", events=[call], agentic=False)
    (span,) = encode(bare)
    assert "parentSpanId" not in span
    assert (span["name"], span["attributes"]["user.id"]) == ("chat gpt-4o", "u-7")


def test_a_turn_in_parts_is_the_same_trace():
    whole = agent_turn()
    first = ev.Turn(
        ROOT, whole.conversation, "LangGraph", "tutor", messages=whole.messages, events=whole.events[:3], partial=True,
        started_ns=whole.started_ns, ended_ns=whole.started_ns,
    )  # fmt: skip
    last = agent_turn()
    last.events, last.messages, last.partial = whole.events[3:], [], True
    in_parts = encode(first, last, otlp_content=True)
    at_once = encode(agent_turn(), otlp_content=True)
    agent = by_name(in_parts)["invoke_agent tutor"]
    assert sorted(s["spanId"] for s in in_parts) == sorted(s["spanId"] for s in at_once)
    assert agent["attributes"]["gen_ai.input.messages"] == by_name(at_once)[agent["name"]]["attributes"]["gen_ai.input.messages"]  # fmt: skip


def test_detail_conversation_leaves_out_nodes_and_models():
    spans = encode(agent_turn(), detail="conversation")
    assert [span["name"] for span in spans] == ["invoke_agent tutor", "execute_tool calculator"]
    assert spans[1]["parentSpanId"] == spans[0]["spanId"]


def test_a_manual_event_is_a_span_of_its_run():
    event = ev.ToolCallEvent(run_id=ROOT, tool_name="t", conversation_id="c-1", timestamp="2026-11-27T10:00:00Z")
    (span,) = encode(event)
    (root, *_) = encode(agent_turn())
    assert (span["traceId"], span["parentSpanId"]) == (root["traceId"], root["spanId"])
    assert span["start"] == 1_795_773_600_000_000_000


def test_ratings_and_users_are_no_spans():
    assert encode(ev.Action("users", {"external_user_id": "u-7"})) == []


def test_requests_stay_below_their_limits():
    long = [llm(n, completion="word " * 30_000, prompt="text " * 30_000) for n in range(2, 40)]
    config = settings(
        otlp_endpoint="http://c", otlp_content=True, max_request_bytes=50_000, batch_size=10, max_field_bytes=200_000
    )
    requests = SpanEncoder(config, {"service.name": "tutor"}).encode([turn(*long)])
    assert sum(request.items for request in requests) == 39
    assert all(request.items <= 10 and len(orjson.dumps(request.body)) <= 50_000 for request in requests)


def test_a_request_is_split_in_halves():
    encoder = SpanEncoder(settings(otlp_endpoint="http://c"), {"service.name": "tutor"})
    (request,) = encoder.encode([agent_turn()])
    halves = encoder.split(request)
    assert halves is not None
    assert [half.items for half in halves] == [3, 4]
    assert halves[0].body["spans"] + halves[1].body["spans"] == request.body["spans"]
    assert encoder.split(encoder.encode([turn()])[0]) is None


def test_a_turn_joins_the_trace_of_the_span_in_which_it_began():
    joined = agent_turn()
    joined.active_span = ev.ActiveSpan("a" * 32, "b" * 16)
    later = ev.ToolCallEvent(run_id=ROOT, tool_name="later", conversation_id="c-1", started_ns=ms(9))
    spans = encode(joined, later)
    assert {span["traceId"] for span in spans} == {"a" * 32}
    assert [span["parentSpanId"] for span in spans if span["name"].startswith("invoke_agent")] == ["b" * 16]
    assert sum(span["parentSpanId"] == "b" * 16 for span in spans) == 1


def test_a_trace_that_the_program_does_not_export_is_not_joined():
    apart = agent_turn()
    apart.active_span = ev.ActiveSpan("a" * 32, "b" * 16, sampled=False)
    assert {span["traceId"] for span in encode(apart)} == {ROOT.replace("-", "")}
