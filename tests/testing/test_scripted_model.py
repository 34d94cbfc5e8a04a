"""The scripted chat model behaves as a real one."""

from __future__ import annotations

import copy

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.tools import tool

from gati.testing.scripted_model import ScriptedChatModel

CALL = AIMessage("Wait.", tool_calls=[{"name": "add", "args": {"a": 1}, "id": "call_1", "type": "tool_call"}])


@tool
def add(a: int) -> int:
    """Add one."""
    return a + 1


def test_replies_come_in_order_and_the_last_one_repeats():
    model = ScriptedChatModel(replies=["one", "two"])
    assert [model.invoke("x").text for _ in range(3)] == ["one", "two", "two"]


def test_a_function_of_the_messages_can_make_the_reply():
    model = ScriptedChatModel(respond=lambda messages: f"{len(messages)} messages")
    assert model.invoke([SystemMessage("a"), HumanMessage("b")]).text == "2 messages"


def test_an_exception_among_the_replies_is_raised():
    with pytest.raises(TimeoutError):
        ScriptedChatModel(replies=[TimeoutError()]).invoke("x")
    with pytest.raises(ValueError, match="needs"):
        ScriptedChatModel().invoke("x")


def test_the_chunks_of_a_stream_add_up_to_the_reply():
    whole = ScriptedChatModel(replies=[CALL]).invoke("x")
    total: AIMessageChunk | None = None
    pieces = list(ScriptedChatModel(replies=[CALL]).stream("x"))
    for piece in pieces:
        total = piece if total is None else total + piece
    assert total is not None
    assert len(pieces) > 2
    assert (total.content, total.tool_calls, total.usage_metadata) == (
        whole.content, whole.tool_calls, whole.usage_metadata,
    )  # fmt: skip


async def test_it_works_in_async_code():
    model = ScriptedChatModel(replies=["one two three"])
    assert (await model.ainvoke("x")).text == "one two three"
    assert [piece.text async for piece in model.astream("x") if piece.text] == ["one ", "two ", "three"]


def test_it_accepts_tools():
    message = ScriptedChatModel(replies=[CALL]).bind_tools([add]).invoke("x")
    assert [call["name"] for call in message.tool_calls] == ["add"]


def test_messages_up_to_the_last_reply_count_as_cached():
    model = ScriptedChatModel(replies=["A longer answer."])
    first = [SystemMessage("You are a tutor."), HumanMessage("What is it?")]
    one = model.invoke(first)
    two = model.invoke([*first, one, HumanMessage("And now?")])
    assert one.usage_metadata is not None
    assert two.usage_metadata is not None
    assert one.usage_metadata["input_token_details"] == {"cache_read": 0}
    assert two.usage_metadata["input_token_details"] == {"cache_read": one.usage_metadata["input_tokens"]}


def test_usage_given_with_a_reply_is_kept():
    usage = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    reply = AIMessage("x", usage_metadata=usage, response_metadata={"model_name": "other"})
    message = ScriptedChatModel(replies=[reply]).invoke("x")
    assert message.usage_metadata == usage
    assert message.response_metadata["model_name"] == "other"


def test_it_can_be_copied():
    model = ScriptedChatModel(replies=["one"])
    assert copy.deepcopy(model).invoke("x").text == "one"
    assert model.model_copy(deep=True).invoke("x").text == "one"
