"""The first and the last message of a turn."""

from __future__ import annotations

from typing import Any

from gati import events as ev
from gati.exporters.greenflash.encoder import GreenflashEncoder
from tests.exporters.turns import (
    ROOT,
    agent_turn,
    answer,
    encoded_messages,
    llm,
    message_of_type,
    messages,
    ms,
    outline,
    run_id,
    settings,
    turn,
    user_text,
)

USER, END, ANSWER = f"{ROOT}:user", f"{ROOT}:end", f"{ROOT}:answer"


def test_totals_are_in_the_chain_end():
    end = encoded_messages(agent_turn())[-1]
    assert end["output"] == {"status": "completed"}
    assert end["properties"] == {
        "tokens_in": 151, "tokens_out": 29, "cost_usd": 0.002, "model_calls": 2, "tool_calls": 1, "latency_ms": 1441.0,
    }  # fmt: skip


def test_failed_turn_has_its_error_in_the_chain_end():
    failed = turn(status="error", answer=None)
    failed.events[-1].status = "error"
    failed.events[-1].error_type, failed.events[-1].error_message = "RateLimit", "slow down"
    end = encoded_messages(failed)[-1]
    assert end["output"] == {"status": "error", "error": {"type": "RateLimit", "message": "slow down"}}


def test_aborted_answer_has_its_status():
    result = encoded_messages(turn(status="aborted", answer=answer("The square"), model="gpt-4o", context="rule 1"))
    final = message_of_type(result, "assistant_message")
    assert (final["content"], final["properties"], final["context"]) == ("The square", {"status": "aborted"}, "rule 1")
    assert final["model"] == "gpt-4o"


def test_start_has_name_tags_and_environment():
    start = agent_turn()
    start.events[0].tags = ["vip"]
    start.events[0].metadata = {"tenant": 3, "environment": "production"}
    message = message_of_type(encoded_messages(start, environment="production"), "chain_start")
    assert message["properties"] == {
        "name": "LangGraph", "agent_name": "tutor", "environment": "production", "metadata": {"tenant": 3},
        "tags": ["vip"],
    }  # fmt: skip


def bare(**fields: Any) -> ev.Turn:
    """Return the turn of a model called outside any chain."""
    call = llm(1, None, at=0, event_id=ROOT, completion="Ho", is_answer=True)
    given: dict[str, Any] = {"messages": [user_text("Hi")], "answer": answer("Ho"), "events": [call]}
    return ev.Turn(ROOT, ev.Conversation("c-1"), agentic=False, started_ns=ms(0), ended_ns=ms(9), **{**given, **fields})


def test_start_of_a_bare_model_call_has_no_message():
    start = ev.AgentStartEvent(event_id=run_id(9), run_id=ROOT, started_ns=ms(0))
    end = ev.AgentEndEvent(event_id=f"{ROOT}:end", run_id=ROOT, started_ns=ms(9))
    result = encoded_messages(bare(events=[start, llm(8, run_id(9), at=0, completion="Ho", is_answer=True), end]))
    assert outline(result) == [
        ("user_message", USER, None),
        ("llm", run_id(8), USER),
        ("assistant_message", ANSWER, USER),
    ]


def test_answer_without_id_time_or_parent_belongs_to_its_run():
    final = encoded_messages(bare(answer=ev.ChatMessage("", "assistant", "Ho", 0)))[-1]
    assert (final["externalMessageId"], final["parentExternalMessageId"]) == (ANSWER, ROOT)
    assert final["createdAt"] == "2027-01-15T08:00:00.009Z"


def test_answer_is_never_earlier_than_its_turn():
    early = turn(messages=[], answer=answer("12", at=-500), ended=0)
    early.events = []
    assert encoded_messages(early)[0]["createdAt"] == "2027-01-15T08:00:00.000Z"


def test_graph_answers_with_a_final_response():
    assert message_of_type(encoded_messages(turn(llm(3, is_answer=True), graph=True)), "final_response")


def test_nested_graph_makes_an_agent_and_a_step_does_not():
    for workflow, kind in ((True, "final_response"), (False, "assistant_message")):
        step = ev.StepEvent(event_id=run_id(2), step_name="sub", workflow=workflow, started_ns=ms(1))
        assert message_of_type(encoded_messages(turn(step, llm(3, is_answer=True))), kind)


def test_plain_chain_in_parts_stays_a_plain_chain():
    whole = turn(llm(3, is_answer=True))
    encoder = GreenflashEncoder(settings())
    encoder.encode([ev.Turn(ROOT, whole.conversation, messages=whole.messages, events=whole.events[:-1], partial=True)])
    last = ev.Turn(ROOT, whole.conversation, answer=whole.answer, events=whole.events[-1:], partial=True)
    assert [m["messageType"] for m in messages(encoder.encode([last]))] == ["assistant_message", "chain_end"]


def test_complete_turn_leaves_no_open_agent():
    whole = agent_turn()
    whole.events.pop()
    encoder = GreenflashEncoder(settings())
    encoder.encode([whole])
    assert encoder._context.open_agents == {}


def test_start_is_a_child_of_the_first_user_message():
    second = ev.ChatMessage(f"{ROOT}:user:1", "user", "Please!", ms(0))
    result = encoded_messages(turn(messages=[user_text("Hi"), second]))
    assert outline(result)[:3] == [
        ("user_message", USER, None),
        ("user_message", f"{ROOT}:user:1", None),
        ("chain_start", ROOT, USER),
    ]


def test_end_is_never_earlier_than_other_messages():
    whole = agent_turn(ended=5)
    assert encoded_messages(whole)[-1]["messageType"] == "chain_end"
    assert encoded_messages(whole)[-1]["createdAt"] == "2027-01-15T08:00:00.842Z"


def test_end_without_end_time_is_dated_at_its_start():
    whole = agent_turn()
    whole.events[-1].ended_ns = 0
    assert encoded_messages(whole)[-1]["createdAt"] == "2027-01-15T08:00:01.441Z"


def test_end_with_incomplete_error():
    failed = turn(status="error", answer=None)
    failed.events[-1].error_message = "slow down"
    end = encoded_messages(failed)[-1]
    assert end["output"]["error"] == {"type": "Error", "message": "slow down"}
    assert end["properties"]["error_type"] is None
    failed.events[-1].error_type, failed.events[-1].error_message = "RateLimit", None
    end = encoded_messages(failed)[-1]
    assert end["output"]["error"] == {"type": "RateLimit", "message": ""}
    assert end["properties"]["error_type"] == "RateLimit"


def test_start_falls_back_to_the_turns_names():
    other = agent_turn()
    other.events[0].name, other.events[0].agent_name = "Inner", "helper"
    properties = message_of_type(encoded_messages(other), "chain_start")["properties"]
    assert (properties["name"], properties["agent_name"]) == ("Inner", "helper")
    other.events[0].name = other.events[0].agent_name = ""
    other.name = "Outer"
    properties = message_of_type(encoded_messages(other), "chain_start")["properties"]
    assert (properties["name"], properties["agent_name"]) == ("Outer", "tutor")


def test_the_messages_and_the_root_of_a_turn_have_the_ids_of_the_active_span():
    span = ev.ActiveSpan("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    earlier = ev.ChatMessage("history:1", "user", "Hi", ms(0), properties={"imported": True})
    given = agent_turn(active_span=span)
    given.messages.insert(0, earlier)
    ids = {"trace_id": span.trace_id, "span_id": span.span_id}
    for options in ({}, {"capture_content": False}):
        result = encoded_messages(given, **options)
        with_ids = [m["externalMessageId"] for m in result if ids.items() <= m.get("properties", {}).items()]
        assert with_ids == [USER, ROOT, ANSWER]
        others = [m.get("properties", {}) for m in result if m["externalMessageId"] not in with_ids]
        assert not any({"trace_id", "span_id"} & properties.keys() for properties in others)


def test_a_turn_without_an_active_span_has_no_ids_of_one():
    assert not any({"trace_id", "span_id"} & m.get("properties", {}).keys() for m in encoded_messages(agent_turn()))
