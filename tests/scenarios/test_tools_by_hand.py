"""Nodes that call tools themselves: after a person's decision, in a nested graph, and tools that call tools."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import StructuredTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from gati.events import ToolCallEvent
from gati.testing import capture
from tests.optional import create_agent
from tests.scenarios.harness import Config, TracedRun, Watch
from tests.scenarios.scripts import ASKED, call, model, tool_request

ACCEPT, IGNORE = {"type": "accept"}, {"type": "ignore"}
Told = list[tuple[str, dict[str, Any], str | None]]


@tool
def meet(subject: str) -> str:
    """Schedule a meeting."""
    return f"{subject} is scheduled"


def edit(**args: Any) -> dict[str, Any]:
    return {"type": "edit", "args": {"args": args}}


def results_as_dicts(text: str, call_id: str) -> Any:
    return {"role": "tool", "content": text, "tool_call_id": call_id}


def results_as_messages(text: str, call_id: str) -> Any:
    return ToolMessage(text, tool_call_id=call_id)


def reviewed(
    *requests: dict[str, Any],
    result: Callable[[str, str], Any] = results_as_dicts,
    command: bool = False,
    nested: int = 0,
) -> Any:
    """Return a graph whose node asks about each requested meeting and schedules it itself."""
    writer = model(tool_request(*requests), "Done.")

    def review(state: MessagesState) -> Any:
        asked: Any = state["messages"][-1]
        written: list[Any] = []
        for request in asked.tool_calls:
            decision = interrupt([{"action_request": {"action": request["name"], "args": request["args"]}}])[0]
            if decision["type"] == "ignore":
                written.append(result("The user ignored this.", request["id"]))
                continue
            arguments = request["args"]
            if decision["type"] == "edit":
                arguments = decision["args"]["args"]
                others = [other for other in asked.tool_calls if other is not request]
                written.append(asked.model_copy(update={"tool_calls": [*others, {**request, "args": arguments}]}))
            written.append(result(meet.invoke(arguments), request["id"]))
        return Command(goto="write", update={"messages": written}) if command else {"messages": written}

    def write(state: MessagesState) -> Any:
        return {"messages": [writer.invoke(state["messages"])]}

    return compiled(write, review, nested)


def compiled(write: Any, work: Any, nested: int) -> Any:
    """Return an agent loop of two nodes, in as many outer graphs."""
    builder = StateGraph(MessagesState)
    builder.add_node("write", write)
    builder.add_node("work", work)
    builder.add_edge(START, "write")
    builder.add_conditional_edges("write", lambda s: "work" if s["messages"][-1].tool_calls else END, ["work", END])
    builder.add_edge("work", "write")
    for _ in range(nested):
        outer = StateGraph(MessagesState)
        outer.add_node("agent", builder.compile())
        outer.add_edge(START, "agent")
        builder = outer
    return builder.compile(checkpointer=InMemorySaver(), name="assistant")


def decided(make: Callable[[], Any], *decisions: Any, is_async: bool = False) -> Callable[[Config], Any]:
    """Return a program that asks, and resumes the graph with each decision."""

    def program(config: Config) -> Any:
        graph, thread = make(), {**config, "configurable": {"thread_id": "c-1"}}
        for item in (ASKED, *(Command(resume=decision) for decision in decisions)):
            done = asyncio.run(graph.ainvoke(item, thread)) if is_async else graph.invoke(item, thread)
        return done["messages"][-1].text

    return program


def told(traced: TracedRun, turn: int = -1) -> Told:
    """Return the tool calls of one turn."""
    starts = [m["externalMessageId"] for m in traced.of_type("chain_start")]
    order = [m["externalMessageId"] for m in traced.messages]
    begin = order.index(starts[turn])
    end = order.index(starts[turn] + ":end")
    calls = [m for m in traced.messages[begin:end] if m["messageType"] == "tool_call"]
    assert traced.of_type("chain_end")[turn]["properties"]["tool_calls"] == len(calls)
    return [(m["toolName"], m["input"], m.get("properties", {}).get("tool_call_id")) for m in calls]


TAX, LAW = call("meet", "c1", subject="Tax"), call("meet", "c2", subject="Law")


@pytest.mark.parametrize("result", [results_as_dicts, results_as_messages])
@pytest.mark.parametrize("command", [False, True])
@pytest.mark.parametrize(("nested", "is_async"), [(0, False), (0, True), (1, False), (2, True)])
@pytest.mark.parametrize(("decision", "subject"), [(ACCEPT, "Tax"), (edit(subject="Tax, short"), "Tax, short")])
def test_a_call_that_a_node_runs_itself_is_told_once_with_the_arguments_it_ran_with(
    watch: Watch, result: Any, command: bool, nested: int, is_async: bool, decision: Any, subject: str
) -> None:
    def make() -> Any:
        return reviewed(TAX, result=result, command=command, nested=nested)

    traced = watch.trace(decided(make, [decision], is_async=is_async))
    assert told(traced) == [("meet", {"subject": subject}, "c1")]
    (called,) = traced.of_type("tool_call")
    assert called["properties"]["requested_by"] == traced.of_type("llm")[0]["externalMessageId"]


@pytest.mark.parametrize(
    ("first", "second", "subjects"),
    [
        (edit(subject="Sea"), edit(subject="Sky"), ("Sea", "Sky")),
        (edit(subject="Sea"), ACCEPT, ("Sea", "Law")),
        (ACCEPT, edit(subject="Sky"), ("Tax", "Sky")),
        (IGNORE, edit(subject="Sky"), ("Tax", "Sky")),
        (edit(subject="Sea"), IGNORE, ("Sea", "Law")),
        (edit(subject="Law"), edit(subject="Tax"), ("Law", "Tax")),
    ],
)
def test_each_of_two_calls_keeps_its_id_whatever_the_person_decides(
    watch: Watch, first: Any, second: Any, subjects: tuple[str, str]
) -> None:
    traced = watch.trace(decided(lambda: reviewed(TAX, LAW), [first], [second]))
    expected = [
        ("meet", {"subject": subject}, call_id) for subject, call_id in zip(subjects, ("c1", "c2"), strict=True)
    ]
    assert sorted(told(traced), key=str) == sorted(expected, key=str)


def test_a_call_that_a_node_repeats_after_its_next_question_has_its_id_in_both_turns(watch: Watch) -> None:
    traced = watch.trace(decided(lambda: reviewed(TAX, LAW), [edit(subject="Sea")], [ACCEPT]))
    assert told(traced, 1) == [("meet", {"subject": "Sea"}, "c1")]
    assert told(traced, 2) == [("meet", {"subject": "Sea"}, "c1"), ("meet", {"subject": "Law"}, "c2")]


@pytest.mark.parametrize("nested", [0, 1, 2])
@pytest.mark.parametrize("result", [results_as_dicts, results_as_messages])
def test_a_nested_thread_tells_no_result_of_an_earlier_turn_again(watch: Watch, nested: int, result: Any) -> None:
    def make() -> Any:
        asked = [tool_request(call("meet", "c1", subject="Tax"))]
        asked += [tool_request(call("send", call_id, to=to)) for call_id, to in (("c2", "ann"), ("c3", "bob"))]
        writer = model(*asked, "All sent.")

        def work(state: MessagesState) -> Any:
            written = []
            asked: Any = state["messages"][-1]
            for request in asked.tool_calls:
                if request["name"] == "meet":
                    text = meet.invoke(request["args"])
                else:
                    interrupt([request["args"]])
                    text = "sent to " + request["args"]["to"]
                written.append(result(text, request["id"]))
            return {"messages": written}

        return compiled(lambda s: {"messages": [writer.invoke(s["messages"])]}, work, nested)

    traced = watch.trace(decided(make, [ACCEPT], [ACCEPT]))
    assert [told(traced, turn) for turn in range(3)] == [
        [("meet", {"subject": "Tax"}, "c1")],
        [("send", {"to": "ann"}, "c2")],
        [("send", {"to": "bob"}, "c3")],
    ]


@pytest.mark.parametrize("requests", [[TAX], [TAX, call("meet", "c2", subject="Tax")], [TAX, LAW]])
@pytest.mark.parametrize("wrappers", [1, 2])
@pytest.mark.parametrize("with_config", [True, False])
def test_only_the_outermost_of_nested_tools_has_the_id_of_the_request(
    watch: Watch, requests: list[dict[str, Any]], wrappers: int, with_config: bool
) -> None:
    def wrapper(wrapped: Any) -> Any:
        def run(config: RunnableConfig, **arguments: Any) -> Any:
            return wrapped.invoke(arguments, config if with_config else None)

        return StructuredTool.from_function(run, name="meet", description="Schedule.", args_schema=meet.args_schema)

    outer: Any = meet
    for _ in range(wrappers):
        outer = wrapper(outer)
    agent = create_agent(model(tool_request(*requests), "Done."), [outer], checkpointer=InMemorySaver())
    traced = watch.trace(decided(lambda: agent))
    assert sorted(call_id for _, _, call_id in told(traced) if call_id) == [request["id"] for request in requests]
    calls = traced.of_type("tool_call")
    assert len(calls) == len(requests) * (wrappers + 1)
    inner = {m["externalMessageId"] for m in calls if "tool_call_id" not in m.get("properties", {})}
    assert not inner & {m["parentExternalMessageId"] for m in calls if m["externalMessageId"] not in inner}


@tool
def book(hotel: str) -> str:
    """Book a hotel."""
    return "ok"


def review_of(requests: list[Any], handle: Callable[[], dict[str, str]]) -> list[Any]:
    """Return id, hotel and result of the calls that are told, if a node writes these results after a question."""

    def human(state: MessagesState) -> Any:
        interrupt("Run it?")
        return {"messages": [ToolMessage(text, tool_call_id=call_id) for call_id, text in handle().items()]}

    builder = StateGraph(MessagesState)
    builder.add_node("ask", lambda s: {"messages": [model(tool_request(*requests)).invoke(s["messages"])]})
    builder.add_node("human", human)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", "human")
    graph = builder.compile(checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "t"}}
    with capture() as captured:
        graph.invoke({"messages": [("user", "Book both.")]}, thread)
        graph.invoke(Command(resume="see the form"), thread)
    calls = [event for turn in captured.turns for event in turn.events if isinstance(event, ToolCallEvent)]
    return sorted((event.tool_call_id or "", event.input["hotel"], event.output.get("output")) for event in calls)


REJECTED = "Look, do not book this."


def test_a_short_result_inside_the_words_of_a_rejection_is_no_evidence() -> None:
    both = [call("book", id="c1", hotel="Ritz"), call("book", id="c2", hotel="Astoria")]
    found = review_of(both, lambda: {"c1": REJECTED, "c2": book.invoke({"hotel": "Astoria Garden"})})
    assert found == [("c1", "Ritz", REJECTED), ("c2", "Astoria Garden", "ok")]


def test_a_call_of_the_program_beside_a_rejected_one_has_no_id() -> None:
    found = review_of(
        [call("book", id="c1", hotel="Ritz")], lambda: book.invoke({"hotel": "audit"}) and {"c1": REJECTED}
    )
    assert found == [("", "audit", "ok"), ("c1", "Ritz", REJECTED)]
