"""`gati.trace.requested_calls`: a tool that the program calls itself belongs to the conversation that requested it."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool

from gati import observe
from gati.events import ToolCallEvent
from gati.testing import ScriptedChatModel, capture
from gati.trace.records import Message
from gati.trace.requested_calls import MAX_CONVERSATIONS, RequestedCalls, WaitingCall, requests_in

How = Literal["call", "arguments"]


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def request(call_id: str, **arguments: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": "add", "args": arguments, "id": call_id, "type": "tool_call"}])


def run_loop(how: How, config: Any = None) -> None:
    """Run the tool loop of LangChain's guides."""
    model = ScriptedChatModel(replies=[request("c1", a=1, b=2), "It is 3."]).bind_tools([add])
    messages: list[Any] = [HumanMessage("Add them.")]
    messages.append(model.invoke(messages, config))
    for call in messages[-1].tool_calls:
        if how == "call":
            messages.append(add.invoke(call))
        else:
            messages.append(ToolMessage(str(add.invoke(call["args"])), tool_call_id=call["id"]))
    model.invoke(messages, config)


def in_scope(how: How) -> None:
    with observe.conversation("c", user_id="ann"):
        run_loop(how)


def in_config(how: How) -> None:
    run_loop(how, {"metadata": {"conversation_id": "c", "user_id": "ann"}})


@pytest.mark.parametrize("how", ["call", "arguments"])
@pytest.mark.parametrize("program", [run_loop, in_scope, in_config])
def test_a_tool_loop_of_the_program_is_one_conversation_with_one_call(program: Any, how: How) -> None:
    with capture(local=False) as captured:
        program(how)
    assert len({(turn.conversation.id, turn.conversation.user_id) for turn in captured.turns}) == 1
    calls = [event for turn in captured.turns for event in turn.events if isinstance(event, ToolCallEvent)]
    assert [(call.tool_call_id, bool(call.requested_by)) for call in calls] == [("c1", True)]
    assert captured.transcript() == [("user", "Add them."), ("assistant", "It is 3.")]


def test_a_call_that_two_conversations_requested_belongs_to_neither() -> None:
    with capture(local=False) as captured:
        for name in ("ann", "bob"):
            model = ScriptedChatModel(replies=[request("call_0", a=1, b=2)])
            model.invoke("Add.", {"metadata": {"conversation_id": name, "user_id": name}})
        add.invoke({"a": 1, "b": 2})
        add.invoke({"name": "add", "args": {"a": 1, "b": 2}, "id": "call_0", "type": "tool_call"})
    owners = [turn.conversation.user_id for turn in captured.turns if turn.name == "add"]
    assert owners == ["anonymous", "anonymous"]


def test_a_tool_that_the_program_calls_again_after_a_failure_stays_in_the_conversation() -> None:
    tries: list[int] = []

    @tool
    def busy(a: int) -> str:
        """Fail once."""
        tries.append(a)
        if len(tries) == 1:
            raise ValueError("busy")
        return "done"

    call: Any = {"name": "busy", "args": {"a": 1}, "id": "c1", "type": "tool_call"}
    with capture(local=False) as captured:
        ScriptedChatModel(replies=[AIMessage("", tool_calls=[call])]).invoke(
            "Try.", {"metadata": {"conversation_id": "c", "user_id": "ann"}}
        )
        with pytest.raises(ValueError, match="busy"):
            busy.invoke(call)
        busy.invoke(call)
    assert [turn.conversation.id for turn in captured.turns] == ["c", "c", "c"]


def test_a_tool_that_nobody_requested_has_a_conversation_of_its_own() -> None:
    with capture(local=False) as captured:
        in_config("call")
        add.invoke({"a": 1, "b": 2})
    assert captured.turns[-1].conversation.id == captured.turns[-1].run_id


def test_the_latest_conversations_are_kept() -> None:
    from gati.events import Conversation

    class Run:
        name, inputs = "add", {"a": 1}

        def __init__(self, call_id: str) -> None:
            self.extra = call_id

    calls = RequestedCalls()
    for number in range(MAX_CONVERSATIONS + 1):
        calls.note(Conversation(f"c{number}"), {f"id{number}": WaitingCall({"name": "add", "args": {"a": 1}}, "m")})
    find: Any = calls.conversation_of
    assert find(Run("id0")) is None
    assert find(Run("id1")).id == "c1"
    calls.note(Conversation("c1"), {})
    assert find(Run("id1")) is None


def test_the_requests_in_messages_have_ids_as_text() -> None:
    first, second = {"id": 7, "name": "add", "args": {}}, {"id": "c2", "name": "add", "args": {}}
    messages = [
        Message("ai", "", tool_calls=("search", None, {}, {"id": ""}, first)),
        Message("ai", "", tool_calls=(second,)),
    ]
    assert requests_in(messages) == [("7", first), ("c2", second)]
