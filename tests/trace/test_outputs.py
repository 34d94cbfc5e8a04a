"""`gati.trace.outputs`: outputs of tools, nodes and retrievers as objects."""

from __future__ import annotations

from typing import Any

import pytest

from gati.trace.outputs import (
    as_object,
    normalize_document,
    read_json,
    result_of,
    state_of,
    tool_message_in,
    tool_messages_in,
    tool_output,
    updates_of,
)
from gati.trace.records import COMMAND, Message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ("[1, 2]", [1, 2]),
        ("null", None),
        ("12.0", "12.0"),
        ("true", "true"),
        ("{not json}", "{not json}"),
        ("[see the list]", "[see the list]"),
        ("", ""),
    ],
)
def test_json_objects_lists_and_null_are_parsed(text: str, value: Any):
    assert read_json(text) == value


def test_long_text_stays_text():
    text = "[" + "1," * 200_000 + "1]"
    assert read_json(text) is text


def test_a_scalar_becomes_an_object_under_its_key():
    assert as_object("Oslo", "input") == {"input": "Oslo"}
    assert as_object({"city": "Oslo"}, "input") == {"city": "Oslo"}
    assert as_object(None, "input") == {}


def command(update: Any, **more: Any) -> dict[str, Any]:
    return {COMMAND: {"update": update, **more}}


@pytest.mark.parametrize(
    ("output", "updates"),
    [
        ({"a": 1}, [{"a": 1}]),
        (command({"a": 1}), [{"a": 1}]),
        (command([["a", 1], ["b", 2]]), [{"a": 1, "b": 2}]),
        ([command({"a": 1}), {"b": 2}], [{"a": 1}, {"b": 2}]),
        (command(None, goto="there"), []),
        (None, []),
        ("text", []),
    ],
)
def test_every_form_of_state_update_is_found(output: Any, updates: list[Any]):
    assert updates_of(output) == updates


def test_a_nodes_state_excludes_messages_and_empty_values():
    output = {"messages": [Message("ai", "Hello.")], "one": Message("ai", "Hi."), "none": None, "list": [], "total": 0}
    assert state_of(output) == {"total": 0}


def test_the_return_value_of_a_task_is_an_object():
    assert result_of("done") == {"output": "done"}
    assert result_of({"a": 1}) == {"a": 1}
    assert result_of(Message("ai", "Hello.")) == {}
    assert result_of(None) == {}


def test_the_tool_message_is_found_in_every_form_of_output():
    answer = Message("tool", "kept", tool_call_id="c1")
    other = Message("tool", "other", tool_call_id="c2")
    assert tool_message_in(answer, "c1") is answer
    assert tool_message_in(command({"messages": [other, answer]}), "c1") is answer
    assert tool_message_in([command({"x": 1}), answer], "c1") is answer
    assert tool_message_in({"plain": 1}, "c1") is None


def test_a_tools_output_has_content_artifact_and_goto():
    answer = Message("tool", '{"rows": 2}', tool_call_id="c1", additional={"artifact": [1, 2]})
    assert tool_output(answer, answer) == {"rows": 2, "artifact": [1, 2]}
    moved = Message("tool", "moved", tool_call_id="c1")
    assert tool_output(command({}, goto="b", graph="__parent__"), moved) == {
        "output": "moved",
        "goto": "b",
        "graph": "__parent__",
    }
    assert tool_output(3, None) == {"output": 3}


def test_documents_of_every_class_have_text_metadata_and_score():
    assert normalize_document({"page_content": "a", "metadata": {"score": 0.5}}) == {
        "text": "a",
        "metadata": {"score": 0.5},
        "score": 0.5,
    }
    assert normalize_document({"text": "b"}) == {"text": "b", "metadata": {}, "score": None}
    assert normalize_document("c") == {"text": "c", "metadata": {}, "score": None}


def test_all_tool_messages_of_an_output_are_found():
    first, second, third = (Message("tool", "done", tool_call_id=call_id) for call_id in ("c1", "c2", "c3"))
    written = command({"messages": [Message("ai", "Done."), first, second]})
    assert list(tool_messages_in([written, third])) == [first, second, third]
    assert [list(tool_messages_in(output)) for output in ("text", None, {"messages": [first]}, 3)] == [[], [], [], []]
