"""Messages by example; what holds of any message is in `test_snapshot_properties.py`."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ChatMessage, HumanMessage, ToolMessage

from gati.langchain.message_snapshot import ROLE_BY_CLASS, snapshot_message, snapshot_response_metadata
from gati.langchain.snapshot import take_snapshot
from gati.trace.records import Message


class Told(BaseMessage):
    """A class whose messages say their role themselves."""

    type: str


def test_a_message_keeps_what_tells_something():
    call = {"name": "f", "args": {"x": 1}, "id": "c1", "type": "tool_call"}
    taken = snapshot_message(
        AIMessage("Hi", id="a1", tool_calls=[call], additional_kwargs={"refusal": None, "tool_calls": ["raw"], "x": 1})
    )
    assert taken == Message("ai", "Hi", "a1", tool_calls=(call,), additional={"x": 1})
    answer = snapshot_message(ToolMessage("12", tool_call_id="c1", artifact=[1], status="error", name="f"))
    assert (answer.tool_call_id, answer.status, answer.name, answer.additional) == (
        "c1",
        "error",
        "f",
        {"artifact": [1]},
    )


def test_only_a_result_carries_usage_and_metadata():
    usage: Any = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    made = AIMessage(
        "Hi", usage_metadata=usage, response_metadata={"model_name": "m", "logprobs": [1], "parsed": object()}
    )
    assert (snapshot_message(made).usage, snapshot_message(made).response) == (None, None)
    assert (snapshot_message(made, result=True).usage, snapshot_message(made, result=True).response) == (
        usage,
        {"model_name": "m"},
    )


def test_a_message_inside_a_value_is_a_message():
    assert take_snapshot({"said": HumanMessage("Hi")}) == {"said": Message("human", "Hi")}


@pytest.mark.parametrize("value", [None, {}, "text", [1]])
def test_metadata_that_is_none_is_none(value: Any):
    assert snapshot_response_metadata(value) is None


def test_an_artifact_is_kept_whatever_kind_of_message_has_it():
    class Report(HumanMessage):
        artifact: Any = None
        status: str = "success"

    told = snapshot_message(Report("done", artifact={"rows": 3}))
    assert (told.additional, told.status) == ({"artifact": {"rows": 3}}, "success")


@pytest.mark.parametrize(
    ("kind", "role"),
    [(HumanMessage, "human"), (AIMessageChunk, "AIMessageChunk"), (ChatMessage, "chat"), (Told, ""), (str, None)],
)
def test_a_class_tells_the_role_of_its_messages(kind: type, role: str | None):
    assert ROLE_BY_CLASS[kind] == role


def test_a_program_that_makes_classes_as_it_runs_does_not_fill_the_memory():
    for number in range(3_000):
        assert ROLE_BY_CLASS[type(f"Made{number}", (), {})] is None
    assert len(ROLE_BY_CLASS) < 1_100
    assert ROLE_BY_CLASS[HumanMessage] == "human"


@pytest.mark.parametrize("kind", [HumanMessage, AIMessage, Told])
def test_what_was_assigned_to_a_message_later_is_copied(kind: type[BaseMessage]):
    said = kind(content="Hi", type="human") if kind is Told else kind(content="Hi")
    blocks: list[Any] = [{"type": "text", "text": "Ho"}]
    said.content, said.additional_kwargs["x"] = blocks, blocks
    taken = snapshot_message(said)
    blocks[0]["text"] = "changed"
    assert taken.content == [{"type": "text", "text": "Ho"}]
    assert taken.additional == {"x": [{"type": "text", "text": "Ho"}]}


def test_a_message_without_its_usual_fields_is_one_all_the_same():
    said = ToolMessage("12", tool_call_id="c1")
    del said.__dict__["name"], said.__dict__["status"]
    assert snapshot_message(said) == Message("tool", "12", tool_call_id="c1")
