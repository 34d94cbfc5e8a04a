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
    node,
    outline,
    run_id,
    settings,
    tool,
    turn,
    user_text,
)

USER, END, ANSWER = f"{ROOT}:user", f"{ROOT}:end", f"{ROOT}:answer"


def test_agent_with_one_tool_call():
    result = encoded_messages(agent_turn())
    assert outline(result) == [
        ("user_message", USER, None),
        ("chain_start", ROOT, USER),
        ("task", run_id(2), ROOT),
        ("llm", run_id(3), run_id(2)),
        ("thought", f"{run_id(3)}:thought", run_id(3)),
        ("task", run_id(4), ROOT),
        ("tool_call", run_id(5), run_id(4)),
        ("observation", f"{run_id(5)}:result", run_id(5)),
        ("task", run_id(6), ROOT),
        ("llm", run_id(7), run_id(6)),
        ("final_response", ANSWER, ROOT),
        ("chain_end", END, ROOT),
    ]
    assert [m["content"] for m in result if "content" in m] == [
        "What is the square root of 144?",
        "The square root of 144 is 12.",
    ]


def test_model_call_has_numbers_and_no_duplicated_text():
    first, second = [m for m in encoded_messages(agent_turn()) if m["messageType"] == "llm"]
    assert first["model"] == "gpt-4o"
    assert first["output"] == {
        "tool_calls": [{"name": "calculator", "args": {"expression": "144**0.5"}, "id": "call_1"}],
        "finish_reason": "tool_calls",
    }
    assert first["properties"] == {
        "tokens_in": 61, "tokens_out": 17, "cost_usd": 0.001, "latency_ms": 100.0, "status": "completed",
    }  # fmt: skip
    assert "output" not in second  # its text is the answer


def test_unknown_numbers_are_null():
    call = message_of_type(encoded_messages(turn(llm(3))), "llm")
    assert (call["properties"]["tokens_in"], call["properties"]["cost_usd"]) == (None, None)


def test_details_of_a_model_call():
    usage = ev.Usage(10, 5, 15, cache_read_tokens=4, reasoning_tokens=2, raw={"prompt_tokens": 10})
    call = message_of_type(
        encoded_messages(
            turn(
                llm(
                    3,
                    usage=usage,
                    time_to_first_token_ms=12.3456,
                    provider="openai",
                    cached=True,
                    internal=True,
                    tools=["search"],
                    parameters={"temperature": 0},
                    completion="a summary",
                    new_messages=[{"role": "human", "content": "Summarise"}],
                    structured_prompt=ev.Prompt("Sum up", external_id="tutor/summary"),
                )
            )
        ),
        "llm",
    )
    properties = call["properties"]
    assert properties["cache_read_tokens"] == 4
    assert properties["reasoning_tokens"] == 2
    assert properties["usage"] == {"prompt_tokens": 10}
    assert properties["time_to_first_token_ms"] == 12.346
    assert (properties["provider"], properties["cached"], properties["internal"]) == ("openai", True, True)
    assert properties["prompt_id"] == "tutor/summary"
    assert len(properties["prompt_version"]) == 12
    assert call["input"] == {"messages": [{"role": "human", "content": "Summarise"}]}
    assert call["output"] == {"text": "a summary"}


def test_reasoning_is_a_thought():
    thought = message_of_type(
        encoded_messages(turn(llm(3, reasoning="Hm.", completion="12", is_answer=True))), "thought"
    )
    assert thought["output"] == {"text": "Hm."}
    assert "content" not in thought


def test_failed_tool_has_an_error_and_no_observation():
    result = encoded_messages(
        turn(tool(3, status="error", error_type="ValueError", error_message="no", output={}, handled=True))
    )
    failure = message_of_type(result, "tool_error")
    assert failure["externalMessageId"] == f"{run_id(3)}:error"
    assert failure["parentExternalMessageId"] == run_id(3)
    assert failure["output"] == {"type": "ValueError", "message": "no"}
    assert failure["properties"] == {"latency_ms": 10.0, "handled": True, "error_type": "ValueError"}
    assert not [m for m in result if m["messageType"] == "observation"]


def test_tool_without_result_has_its_status_in_the_call():
    result = encoded_messages(turn(tool(3, status="waiting", output={})))
    assert message_of_type(result, "tool_call")["properties"]["status"] == "waiting"
    assert len(result) == 5


def test_tool_call_that_never_ran_has_a_unique_id_per_turn():
    call = tool(3, event_id="call_0", tool_call_id="call_0", status="error", error_type="ToolNotRun")
    ids = [m["externalMessageId"] for m in encoded_messages(turn(call))]
    assert f"{ROOT}:call_0" in ids
    assert f"{ROOT}:call_0:error" in ids


def test_answer_of_a_plain_chain_is_an_assistant_message():
    kinds = [m["messageType"] for m in encoded_messages(turn(llm(3, is_answer=True, completion="12")))]
    assert kinds == ["user_message", "chain_start", "llm", "assistant_message", "chain_end"]


def test_bare_model_call_is_its_own_root():
    bare = ev.Turn(
        ROOT, ev.Conversation("c-1"), messages=[user_text("Hi")], answer=answer("Ho"), agentic=False, started_ns=ms(0),
        ended_ns=ms(9), events=[llm(1, None, at=0, event_id=ROOT, completion="Ho", is_answer=True)],
    )  # fmt: skip
    assert outline(encoded_messages(bare)) == [
        ("user_message", USER, None),
        ("llm", ROOT, USER),
        ("assistant_message", ANSWER, ROOT),
    ]


def test_imported_history_and_system_messages():
    old = ev.ChatMessage("history:1", "user", "Hi", ms(-2)), ev.ChatMessage("history:2", "assistant", "Ho", ms(-1))
    middle = ev.ChatMessage(f"{ROOT}:user:1", "system", "Be brief.", ms(0))
    result = encoded_messages(turn(messages=[*old, user_text("How are you?"), middle]))
    assert outline(result)[:5] == [
        ("user_message", "history:1", None),
        ("assistant_message", "history:2", None),
        ("user_message", USER, None),
        ("system_message", f"{ROOT}:user:1", None),
        ("chain_start", ROOT, USER),
    ]
    assert result[3]["output"] == {"text": "Be brief."}
    assert "content" not in result[3]


def test_node_has_only_its_changes():
    event = node(2, "plan", 1, 1)
    assert isinstance(event, ev.NodeExecutionEvent)
    event.state_before, event.state_after, event.attempt = {"x": 1}, {"y": 2}, 2
    task = message_of_type(encoded_messages(turn(event)), "task")
    assert task["output"] == {"y": 2}
    assert "input" not in task
    assert task["properties"] == {"node": "plan", "step": 1, "latency_ms": 100.0, "status": "completed", "attempt": 2}


def test_custom_events_and_interrupts_are_callbacks():
    asked = ev.CustomEvent(
        event_id=f"{ROOT}:interrupt:0", parent_event_id=ROOT, name="interrupt", status="waiting",
        payload={"name": "interrupt", "data": {"value": {"tool": "mail"}}}, started_ns=ms(5),
    )  # fmt: skip
    callback = message_of_type(encoded_messages(turn(asked, status="waiting", answer=None)), "callback")
    assert callback["output"] == {"name": "interrupt", "data": {"value": {"tool": "mail"}}}
    assert callback["properties"]["status"] == "waiting"


def test_failed_step_has_its_error_and_the_event_is_unchanged():
    step = ev.StepEvent(step_name="s", output={"a": 1}, status="error", error_type="E", error_message="m", started_ns=1)
    assert message_of_type(encoded_messages(turn(step)), "task")["output"] == {
        "a": 1,
        "error": {"type": "E", "message": "m"},
    }
    assert step.output == {"a": 1}


def test_all_eighteen_message_types():
    every = [
        node(2, "n", 1, 1),
        llm(3, reasoning="Hm."),
        tool(4),
        tool(5, status="error"),
        ev.StepEvent(step_name="s", workflow=True, started_ns=ms(6)),
        ev.RetrievalEvent(query="q", started_ns=ms(7)),
        ev.EmbeddingEvent(input={"texts": 2}, started_ns=ms(8)),
        ev.MemoryEvent(started_ns=ms(9)),
        ev.MemoryEvent(write=True, started_ns=ms(10)),
        ev.CustomEvent(name="c", started_ns=ms(11)),
    ]
    texts = [
        ev.ChatMessage("h:1", "assistant", "Ho", ms(-1)),
        user_text("Hi"),
        ev.ChatMessage("s", "system", "Be brief.", ms(1)),
    ]
    assert {m["messageType"] for m in encoded_messages(turn(*every, messages=texts))} == {
        "user_message", "assistant_message", "system_message", "final_response", "thought", "tool_call", "observation",
        "retrieval", "memory_read", "memory_write", "chain_start", "chain_end", "embedding", "tool_error", "callback",
        "llm", "task", "workflow",
    }  # fmt: skip


def test_detail_conversation():
    result = encoded_messages(agent_turn(), detail="conversation")
    assert outline(result) == [
        ("user_message", USER, None),
        ("tool_call", run_id(5), USER),
        ("observation", f"{run_id(5)}:result", run_id(5)),
        ("final_response", ANSWER, USER),
    ]
    assert result[-1]["properties"]["cost_usd"] == 0.002


def test_capture_content_false_sends_no_content():
    secret = "s3cret"
    full = turn(
        tool(3, input={secret: secret}, output={"o": secret}, tags=[secret], metadata={"m": secret}, data={"d": secret}),
        tool(4, status="error", error_type="ValueError", error_message=secret),
        llm(5, completion=secret, reasoning=secret, system_prompt=secret, finish_reason="stop", tokens_in=3,
            parameters={"stop": secret}, usage=ev.Usage(3, raw={"x": secret}), new_messages=[{"content": secret}]),
        ev.RetrievalEvent(query=secret, documents=[{"text": secret, "metadata": {"name": secret}}], started_ns=ms(6)),
        ev.CustomEvent(name="progress", payload={"x": secret}, started_ns=ms(7)),
        messages=[user_text(secret), ev.ChatMessage("s", "system", secret, ms(1), properties={"who": secret, "age": 7})],
        answer=answer(secret),
        context=secret,
        status="error",
    )  # fmt: skip
    full.events[0].metadata = {"m": secret}
    full.events[-1].error_message = secret
    full.conversation.properties = {"note": secret, "age": 7}
    full.conversation.prompt = ev.Prompt(secret)
    manual = ev.LLMCallEvent(prompt=secret, completion=secret, system_prompt=secret, data={"d": secret}, run_id=ROOT)
    requests = GreenflashEncoder(settings(capture_content=False)).encode([full, manual])
    assert secret not in str([request.body for request in requests])
    result = messages(requests)
    assert message_of_type(result[:-1], "llm")["properties"]["finish_reason"] == "stop"
    assert message_of_type(result, "tool_error")["properties"]["error_type"] == "ValueError"
    assert result[0]["properties"] == {"content_length": 6}
    assert requests[0].body["properties"] == {"age": 7, "agent_name": "tutor"}


def test_work_after_the_turns_end_keeps_its_parent():
    encoder = GreenflashEncoder(settings())
    encoder.encode([agent_turn()])
    late = ev.Turn(ROOT, ev.Conversation("c-1", "u-7"), events=[llm(20, run_id(4), at=2000)], partial=True)
    (message,) = messages(encoder.encode([late]))
    assert message["parentExternalMessageId"] == run_id(4)


def test_turn_in_parts_equals_the_whole_turn():
    whole = agent_turn()
    first = ev.Turn(ROOT, whole.conversation, messages=whole.messages, events=whole.events[:4], partial=True)
    last = ev.Turn(ROOT, whole.conversation, answer=whole.answer, events=whole.events[4:], partial=True)
    encoder = GreenflashEncoder(settings())
    parts = outline(messages(encoder.encode([first]))) + outline(messages(encoder.encode([last])))
    assert parts == outline(encoded_messages(whole))


def test_answer_in_a_later_part_is_a_final_response():
    whole = agent_turn()
    first = ev.Turn(ROOT, whole.conversation, messages=whole.messages, events=whole.events[:-1], partial=True)
    last = ev.Turn(ROOT, whole.conversation, answer=whole.answer, events=whole.events[-1:], partial=True)
    encoder = GreenflashEncoder(settings())
    encoder.encode([first])
    assert [m["messageType"] for m in messages(encoder.encode([last]))] == ["final_response", "chain_end"]
    assert encoder._context.open_agents == {}


def test_user_defined_event_class_is_encoded_as_its_base():
    class Mail(ev.ToolCallEvent):
        pass

    result = encoded_messages(Mail(tool_name="mail", conversation_id="c-1"))
    assert [m["messageType"] for m in result] == ["tool_call", "observation"]


def test_manual_events_contain_prompt_and_completion():
    call = ev.LLMCallEvent(prompt="Hi", completion="Ho", system_prompt="Be kind.", model="m", metadata={"k": 1})
    requests = GreenflashEncoder(settings()).encode([call])
    (message,) = messages(requests)
    assert message["input"] == {"prompt": "Hi"}
    assert message["output"] == {"text": "Ho"}
    assert message["properties"]["metadata"] == {"k": 1}
    assert requests[0].body["system_prompt"] == "Be kind."


def bare(**fields: Any) -> ev.Turn:
    """Return the turn of a model called outside any chain."""
    call = llm(1, None, at=0, event_id=ROOT, completion="Ho", is_answer=True)
    given: dict[str, Any] = {"messages": [user_text("Hi")], "answer": answer("Ho"), "events": [call]}
    return ev.Turn(ROOT, ev.Conversation("c-1"), agentic=False, started_ns=ms(0), ended_ns=ms(9), **{**given, **fields})


def test_question_to_a_human_is_an_assistant_message():
    assert message_of_type(encoded_messages(agent_turn(status="waiting")), "assistant_message")["properties"] == {
        "status": "waiting"
    }


def test_failed_call_with_incomplete_error():
    call = message_of_type(encoded_messages(turn(llm(3, status="error", error_type="Timeout"))), "llm")
    assert call["output"] == {"error": {"type": "Timeout", "message": ""}}
    assert call["properties"]["error_type"] == "Timeout"
    call = message_of_type(encoded_messages(turn(llm(3, status="error", error_message="late"))), "llm")
    assert call["output"] == {"error": {"type": "Error", "message": "late"}}


def test_waiting_tool_has_its_error_type_in_the_call():
    call = message_of_type(
        encoded_messages(turn(tool(3, status="waiting", output={}, error_type="Interrupt"))), "tool_call"
    )
    assert call["properties"]["error_type"] == "Interrupt"
    assert "output" not in call


def test_tags_and_data_of_an_event_are_sent():
    result = encoded_messages(turn(tool(3, tags=["vip"], data={"tenant": 3}, metadata={"plan": "pro"})))
    assert message_of_type(result, "tool_call")["properties"] == {
        "tags": ["vip"],
        "data": {"tenant": 3},
    }  # metadata is its run's


def test_event_without_valid_parent_is_a_child_of_the_root():
    for parent in (None, run_id(3), "elsewhere"):
        call = message_of_type(encoded_messages(turn(llm(3, parent))), "llm")
        assert call["parentExternalMessageId"] == ROOT
        assert "parent_id" not in call["properties"]
    for parent in (None, run_id(3)):
        (message,) = encoded_messages(ev.Event(event_id=run_id(3), parent_event_id=parent))
        assert "parentExternalMessageId" not in message
        assert "parent_id" not in message["properties"]


def test_detail_conversation_keeps_system_messages_and_retrievals():
    result = encoded_messages(
        turn(
            ev.RetrievalEvent(event_id=run_id(2), parent_event_id=ROOT, query="q", started_ns=ms(1)),
            tool(3, run_id(2), status="error", error_type="E"),
            ev.EmbeddingEvent(started_ns=ms(30)),
            ev.MemoryEvent(started_ns=ms(31)),
            ev.StepEvent(started_ns=ms(32)),
            llm(4, at=40, reasoning="Hm.", is_answer=True),
            messages=[user_text("Hi"), ev.ChatMessage(f"{ROOT}:user:1", "system", "Be brief.", ms(0))],
            status="waiting",
        ),
        detail="conversation",
    )
    assert outline(result) == [
        ("user_message", USER, None),
        ("system_message", f"{ROOT}:user:1", None),
        ("retrieval", run_id(2), USER),
        ("tool_call", run_id(3), run_id(2)),
        ("tool_error", f"{run_id(3)}:error", run_id(3)),
        ("assistant_message", ANSWER, USER),
    ]


def test_capture_content_false_keeps_names_and_numbers():
    secret = "s3cret"
    result = encoded_messages(
        turn(
            node(2, "plan", 1, 1),
            llm(3, run_id(2), 2, provider="openai", finish_reason="stop", structured_prompt=ev.Prompt(secret, "lineage"),
                parameters={"stop": secret}, cached=True, error_type="E", completion=secret),
            tool(4, run_id(2), 200, tool_call_id="call_1", requested_by=run_id(3)),
            ev.CustomEvent(event_id=run_id(5), name="progress", payload={"x": secret}, status="waiting", started_ns=ms(300)),
        ),
        capture_content=False,
        environment="production",
    )  # fmt: skip
    properties = {m["messageType"]: m.get("properties") for m in result}
    assert len(properties["llm"].pop("prompt_version")) == 12
    assert properties == {
        "user_message": {"content_length": 31},
        "chain_start": {"name": "LangGraph", "agent_name": "tutor", "environment": "production"},
        "task": {"node": "plan", "step": 1, "latency_ms": 100.0, "status": "completed"},
        "llm": {
            "tokens_in": None, "tokens_out": None, "cost_usd": None, "latency_ms": 100.0, "status": "completed",
            "provider": "openai", "cached": True, "prompt_id": "lineage", "error_type": "E",
            "finish_reason": "stop",
        },
        "tool_call": {"tool_call_id": "call_1", "requested_by": run_id(3)},
        "observation": {"latency_ms": 10.0},
        "callback": {"name": "progress", "status": "waiting"},
        "final_response": {"content_length": 29},
        "chain_end": {
            "tokens_in": 151, "tokens_out": 29, "cost_usd": 0.002, "model_calls": 2, "tool_calls": 1,
            "latency_ms": 1441.0, "status": "completed",
        },
    }  # fmt: skip
    assert secret not in str(result)


def test_capture_content_false_keeps_the_parent_id_of_manual_events():
    event = ev.Event(event_type="checkout", parent_event_id="elsewhere", conversation_id="c-9")
    (message,) = encoded_messages(event, capture_content=False)
    assert message["properties"] == {"name": "checkout", "status": "completed", "parent_id": "elsewhere"}


def test_manual_end_is_a_child_of_its_start():
    made: dict[str, Any] = {"run_id": ROOT, "conversation_id": "c-1"}
    result = encoded_messages(
        ev.AgentStartEvent(event_id=ROOT, input={"x": 1}, agent_name="mine", **made),
        ev.AgentEndEvent(event_id=f"{ROOT}:end", parent_event_id=ROOT, total_duration_ms=5.0, **made),
    )
    assert outline(result) == [("chain_start", ROOT, None), ("chain_end", f"{ROOT}:end", ROOT)]
    assert result[0]["properties"]["agent_name"] == "mine"


def test_manual_result_is_dated_at_the_end_of_its_call():
    call = ev.ToolCallEvent(tool_name="mail", latency_ms=250.0, timestamp="2026-11-20T08:00:00Z", conversation_id="c-1")
    assert [m["createdAt"] for m in encoded_messages(call)] == ["2026-11-20T08:00:00.000Z", "2026-11-20T08:00:00.250Z"]
    at_once = ev.ToolCallEvent(tool_name="mail", started_ns=ms(5), conversation_id="c-1")
    assert [m["createdAt"] for m in encoded_messages(at_once)] == [
        "2027-01-15T08:00:00.005Z",
        "2027-01-15T08:00:00.006Z",
    ]
    hour = ev.ToolCallEvent(tool_name="mail", started_ns=ms(0), latency_ms=3_600_000.0, conversation_id="c-1")
    assert [m["createdAt"] for m in encoded_messages(hour)] == ["2027-01-15T08:00:00.000Z", "2027-01-15T09:00:00.000Z"]


def test_child_is_never_earlier_than_its_parent():
    result = encoded_messages(turn(node(2, "n", 1, 100), llm(3, run_id(2), at=50)))
    assert [m["externalMessageId"] for m in result][2:4] == [run_id(2), run_id(3)]


def test_manual_event_below_the_start_of_a_bare_model_call():
    start = ev.AgentStartEvent(event_id=run_id(9), run_id=ROOT, started_ns=ms(0))
    encoder = GreenflashEncoder(settings())
    encoder.encode([bare(events=[start, llm(8, run_id(9), at=0, completion="Ho", is_answer=True)])])
    (message,) = messages(encoder.encode([ev.Event(run_id=ROOT, parent_event_id=run_id(9))]))
    assert message["parentExternalMessageId"] == USER
    assert "parent_id" not in message["properties"]


def test_a_call_names_the_variant_of_its_managed_prompt():
    def properties(managed: ev.ManagedVersion | None) -> dict[str, Any]:
        prompt = ev.Prompt("Be kind", external_id="tutor", managed=managed)
        found: dict[str, Any] = message_of_type(encoded_messages(turn(llm(3, structured_prompt=prompt))), "llm")
        return found["properties"]

    version = "6f1d2c3b-4a59-4e68-8d7c-0b1a2f3e4d5c"
    assert properties(ev.ManagedVersion(version, "brief"))["prompt_variant"] == "brief"
    assert "prompt_variant" not in properties(ev.ManagedVersion(version))
    assert "prompt_variant" not in properties(None)
