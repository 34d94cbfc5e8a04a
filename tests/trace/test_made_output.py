"""`gati.trace.made_output`: which messages of a graph's output its turn made."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from gati.trace.made_output import made_output
from gati.trace.records import COMMAND, Message, ModelResult, RunStarted
from gati.trace.run_tree import Run, Trace, appended

RESUMED: Any = {COMMAND: {"resume": [{"type": "reject"}]}}


def below(parent: Run, kind: str, output: Any, **more: Any) -> Run:
    run = Run(RunStarted(uuid4(), parent.id, kind, "work", 0, **more), parent)
    run.output, run.ended = output, 1
    parent.children = appended(parent.children, run)
    return run


def trace_of(messages: list[Message], *results: Any, inputs: Any = RESUMED, **state: Any) -> Trace:
    """Return a graph whose node ran a tool for each of these results and wrote the messages."""
    root = Run(RunStarted(uuid4(), None, "chain", "graph", 0, inputs=inputs), None)
    root.output, root.ended = {"messages": messages, **state}, 1
    trace = Trace(root, None, 0)
    node = below(root, "chain", {"messages": messages}, tags=("graph:step:1",))
    for result in results:
        below(node, "tool", result)
    trace.size += 1 + len(results)
    return trace


def written(text: str, call_id: str = "c1") -> Message:
    return Message("tool", text, tool_call_id=call_id)


def is_made(message: Message, trace: Trace) -> bool:
    return message in (made_output(trace).get("messages") or ())


@pytest.mark.parametrize(
    ("result", "decision"),
    [
        ("1", "Declined: the budget is 10"),
        ("ok", "Look, do not book this."),
        ("a", "'a' is not on the list"),
        (3, "33 are too many"),
        ({"n": "no"}, "Do not do it now."),
        (["in stock"], "It is in stock, but too expensive."),
        (Message("tool", "12", tool_call_id="c2"), "Not before the 12th."),
    ],
)
def test_a_decision_that_contains_a_short_result_of_another_call_is_a_decision(result: Any, decision: str) -> None:
    message = written(decision)
    assert not is_made(message, trace_of([message], result))


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("1", "1"),
        (12, "12"),
        ({"n": 3}, '{"n": 3}'),
        ({"n": 3}, '{\n  "n": 3\n}'),
        ({"text": "It is sunny"}, "It is sunny"),
        ("It is sunny today", "Weather: It is sunny today."),
        ({"title": "Sun", "text": "It is sunny today"}, "Weather: It is sunny today."),
        (Message("tool", "12", tool_call_id="c1"), "12, rounded"),
    ],
)
def test_a_result_that_a_node_wrote_is_made_also_after_a_decision(result: Any, text: str) -> None:
    message = written(text)
    assert is_made(message, trace_of([message], "another", result))


class Counted(dict[str, Any]):
    """A result that counts how often it is serialized."""

    times = 0

    def __str__(self) -> str:
        self.times += 1
        return super().__repr__()


@pytest.mark.parametrize("text", ["Result: {}", "Declined: {}"])
def test_each_result_is_serialized_once_for_any_number_of_messages(text: str) -> None:
    results = [Counted(number=number) for number in range(30)]
    messages = [written(text.format(number), f"c{number}") for number in range(30)]
    made_output(trace_of(messages, *results))
    assert {result.times for result in results} == {1}


@pytest.mark.parametrize("odd", ["search", None, 5, ["x"], {}, {"id": ["x"]}, {"id": {"a": 1}, "args": {}}])
def test_the_requests_of_a_model_may_have_any_shape(odd: Any) -> None:
    arguments = {"city": "Rome"}
    note, request = written("Complete."), {"id": "c1", "name": "Info", "args": arguments}
    trace = trace_of([note], inputs={"topic": "Rome"}, info=arguments)
    below(trace.root, "model", ModelResult((Message("ai", "", tool_calls=(odd, request)),)))
    trace.size += 1
    assert not is_made(note, trace)
    other = written("Complete.", "c2")
    assert is_made(other, trace_of([other], inputs={"topic": "Rome"}, info=arguments))
