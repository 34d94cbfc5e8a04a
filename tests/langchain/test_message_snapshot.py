"""Examples of message snapshots. `test_snapshot_properties.py` tests properties of all messages."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ChatMessage, HumanMessage, ToolMessage

from gati.langchain import message_snapshot
from gati.langchain.message_snapshot import ROLE_BY_CLASS, snapshot_response_metadata
from gati.langchain.snapshot import take_snapshot
from gati.trace.records import Message
from tests.unpacked import unpacks

snapshot_message = unpacks(message_snapshot.snapshot_message)


class MessageWithOwnRole(BaseMessage):
    """A class whose role is a field of each message."""

    type: str


def test_a_message_keeps_its_relevant_fields():
    call = {"name": "f", "args": {"x": 1}, "id": "c1", "type": "tool_call"}
    copied = snapshot_message(
        AIMessage("Hi", id="a1", tool_calls=[call], additional_kwargs={"refusal": None, "tool_calls": ["raw"], "x": 1})
    )
    assert copied == Message("ai", "Hi", "a1", tool_calls=(call,), additional={"x": 1})
    answer = snapshot_message(ToolMessage("12", tool_call_id="c1", artifact=[1], status="error", name="f"))
    assert (answer.tool_call_id, answer.status, answer.name, answer.additional) == (
        "c1",
        "error",
        "f",
        {"artifact": [1]},
    )


def test_only_results_contain_usage_and_response_metadata():
    usage: Any = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    answer = AIMessage(
        "Hi", usage_metadata=usage, response_metadata={"model_name": "m", "logprobs": [1], "parsed": object()}
    )
    assert (snapshot_message(answer).usage, snapshot_message(answer).response) == (None, None)
    assert (snapshot_message(answer, result=True).usage, snapshot_message(answer, result=True).response) == (
        usage,
        {"model_name": "m"},
    )


def test_a_message_nested_in_a_value_becomes_a_record():
    assert take_snapshot({"said": HumanMessage("Hi")}) == {"said": Message("human", "Hi")}


@pytest.mark.parametrize("value", [None, {}, "text", [1]])
def test_empty_response_metadata_becomes_none(value: Any):
    assert snapshot_response_metadata(value) is None


def test_artifacts_are_kept_for_every_message_class():
    class Report(HumanMessage):
        artifact: Any = None
        status: str = "success"

    copied = snapshot_message(Report("done", artifact={"rows": 3}))
    assert (copied.additional, copied.status) == ({"artifact": {"rows": 3}}, "success")


@pytest.mark.parametrize(
    ("kind", "role"),
    [
        (HumanMessage, "human"),
        (AIMessageChunk, "AIMessageChunk"),
        (ChatMessage, ""),
        (MessageWithOwnRole, ""),
        (str, None),
    ],
)
def test_the_role_is_derived_from_the_message_class(kind: type, role: str | None):
    assert ROLE_BY_CLASS[kind] == role


def test_the_role_table_stays_bounded_for_dynamically_created_classes():
    for number in range(3_000):
        assert ROLE_BY_CLASS[type(f"Made{number}", (), {})] is None
    assert len(ROLE_BY_CLASS) < 1_100
    assert ROLE_BY_CLASS[HumanMessage] == "human"


@pytest.mark.parametrize("kind", [HumanMessage, AIMessage, MessageWithOwnRole])
def test_values_assigned_after_construction_are_copied(kind: type[BaseMessage]):
    message = kind(content="Hi", type="human") if kind is MessageWithOwnRole else kind(content="Hi")
    blocks: list[Any] = [{"type": "text", "text": "Ho"}]
    message.content, message.additional_kwargs["x"] = blocks, blocks
    copied = snapshot_message(message)
    blocks[0]["text"] = "changed"
    assert copied.content == [{"type": "text", "text": "Ho"}]
    assert copied.additional == {"x": [{"type": "text", "text": "Ho"}]}


def test_a_message_with_missing_fields_is_still_copied():
    message = ToolMessage("12", tool_call_id="c1")
    del message.__dict__["name"], message.__dict__["status"]
    assert snapshot_message(message) == Message("tool", "12", tool_call_id="c1")
