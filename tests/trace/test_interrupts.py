"""A step around a graph that waits: its own words are the question, and what it answers itself does not wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from gati import observe
from gati.events import CustomEvent
from gati.testing import capture
from gati.trace.interrupts import interrupts_of
from gati.trace.records import ErrorInfo, RunStarted
from gati.trace.run_tree import Run, Trace, appended

THREAD: Any = {"configurable": {"thread_id": "t"}}
ASKED: Any = {"messages": [("user", "Book it.")]}


def booking(*questions: Any, name: str = "booking") -> Any:
    """Return a graph that asks these questions, one after the other, in one node."""

    def book(state: MessagesState) -> Any:
        return {"messages": [AIMessage("Booked: " + ", ".join([interrupt(question) for question in questions]))]}

    builder = StateGraph(MessagesState)
    builder.add_node("book", book)
    builder.add_edge(START, "book")
    return builder.compile(checkpointer=InMemorySaver(), name=name)


def step_around(graph: Any, words: Callable[[Any], Any]) -> Callable[[str], Any]:
    @observe.step
    def handle(text: str) -> Any:
        waits = graph.get_state(THREAD).next
        state = graph.invoke(Command(resume=text) if waits else {"messages": [("user", text)]}, THREAD)
        return words(state) if "__interrupt__" in state else state["messages"][-1].text

    return handle


@pytest.mark.parametrize("question", ["Which day?", {"kind": "date", "options": ["Mon", "Tue"]}, {"choose": [1, 2]}])
def test_the_question_of_a_step_is_what_it_returns(question: Any) -> None:
    handle = step_around(booking(question), lambda state: "Mon or Tue, please?")
    with capture() as captured:
        handle("Book it.")
        handle("Tue")
    assert captured.transcript() == [
        ("user", "Book it."),
        ("assistant", "Mon or Tue, please?"),
        ("user", "Tue"),
        ("assistant", "Booked: Tue"),
    ]
    assert [turn.status for turn in captured.turns] == ["waiting", "completed"]


@pytest.mark.parametrize(
    "words", [":) Shall I send it now?", ": Which day do you mean?", ":-) Monday?\nOr Tuesday at noon?"]
)
def test_a_question_of_a_step_may_begin_with_a_colon(words: str) -> None:
    handle = step_around(booking({"choose": [1, 2]}), lambda state: words)
    with capture() as captured:
        handle("Book it.")
    assert captured.transcript() == [("user", "Book it."), ("assistant", words)]


@pytest.mark.parametrize(
    "words",
    [
        lambda state: None,
        lambda state: state,
        lambda state: "",
        lambda state: "waiting",
        lambda state: "HTTP 202 Accepted",
        lambda state: "3b241101-e2bb-4255-8caf-4136c566a962",
        lambda state: '{"status": "waiting", "thread": "of the user"}',
        lambda state: 'data: {"waiting for": "the user now"}\n\n',
        lambda state: str({key: len(value) for key, value in state.items()}),
        lambda state: ": ping\n\nevent: question\ndata: it waits for the user",
        lambda state: state["messages"][-1].text,
        lambda state: state["__interrupt__"][0].value,
    ],
    ids=[
        "nothing",
        "the state",
        "no words",
        "a word for the state",
        "a status",
        "an id",
        "an object",
        "an event",
        "a representation",
        "an event after a comment",
        "the user's message",
        "the question",
    ],
)
def test_a_step_that_words_no_question_asks_that_of_the_graph(words: Callable[[Any], Any]) -> None:
    handle = step_around(booking("Which day is it?"), words)
    with capture() as captured:
        handle("Book it.")
    assert captured.transcript() == [("user", "Book it."), ("assistant", "Which day is it?")]


@pytest.mark.parametrize("explicit", [False, True], ids=["injected", "explicit"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_step_that_answers_every_question_itself_is_completed(number: int, explicit: bool) -> None:
    with capture() as captured:
        config = {**THREAD, "callbacks": observe.get_callbacks()} if explicit else THREAD

        @observe.step
        def handle(graph: Any) -> str:
            state = graph.invoke(ASKED, config)
            while "__interrupt__" in state:
                state = graph.invoke(Command(resume="by rule"), config)
            return str(state["messages"][-1].text)

        handle(booking(*["Which day?", {"kind": "hour"}][:number]))
    (turn,) = captured.turns
    assert turn.status == "completed"
    assert captured.transcript()[-1] == ("assistant", "Booked: " + ", ".join(["by rule"] * number))
    assert not [event for event in turn.events if isinstance(event, CustomEvent) and event.name == "interrupt"]


def test_only_the_question_that_a_step_leaves_open_is_asked() -> None:
    graph = booking("Which day?", "Which hour?")

    @observe.step
    async def handle(text: str) -> Any:
        await graph.ainvoke(ASKED, THREAD)
        return await graph.ainvoke(Command(resume="Monday"), THREAD)

    with capture() as captured:
        asyncio.run(handle("Book it."))
    assert captured.transcript() == [("user", "Book it."), ("assistant", "Which hour?")]
    assert [turn.status for turn in captured.turns] == ["waiting"]


def test_another_graph_or_thread_does_not_answer_a_question() -> None:
    asking, silent = booking("Which day?"), booking(name="silent")
    other: Any = {"configurable": {"thread_id": "other"}}

    @observe.step
    def handle(text: str) -> None:
        asking.invoke(ASKED, THREAD)
        silent.invoke(ASKED, THREAD)
        asking.invoke(ASKED, other)

    with capture() as captured:
        handle("Book it.")
    assert [turn.status for turn in captured.turns] == ["waiting"]


@pytest.mark.parametrize("kind", ["step", "lambda"])
def test_another_graph_with_the_same_names_does_not_answer_a_question(kind: str) -> None:
    asking, silent = booking("Which day?", name="LangGraph"), booking(name="LangGraph")

    def handle(text: str) -> Any:
        state = asking.invoke(ASKED, THREAD)
        silent.invoke(ASKED, THREAD)
        return state

    with capture() as captured, observe.conversation("c"):
        observe.step(handle)("Book it.") if kind == "step" else RunnableLambda(handle).invoke("Book it.")
    assert captured.transcript() == [("user", "Book it."), ("assistant", "Which day?")]
    assert [turn.status for turn in captured.turns] == ["waiting"]


class Counted(dict[str, Any]):
    """Metadata of a run that counts how often it is read."""

    reads = 0

    def get(self, *arguments: Any) -> Any:
        Counted.reads += 1
        return super().get(*arguments)


def trace_of_paused(tasks: int, resumed: int) -> Trace:
    """Return a step with a graph in a graph whose tasks all wait, and then run it again for some of them."""

    def started(parent: Run | None, at: int, inputs: Any = None, **metadata: Any) -> Run:
        record = RunStarted(uuid4(), parent.id if parent else None, "chain", "graph", at, inputs, (), metadata)
        run = Run(record, parent)
        run.metadata, run.ended = Counted(metadata), at + 1
        if parent is not None:
            run.trace = parent.trace
            parent.children = appended(parent.children, run)
            run.trace.size += 1
        return run

    step = started(None, 0, "Go.")
    trace = step.trace = Trace(step, None, 0)
    outer = started(step, 1, {}, thread_id="t")
    inner = started(outer, 1, {}, thread_id="t")
    for number in range(tasks):
        task = started(inner, 2, {}, langgraph_checkpoint_ns=f"task:{number}")
        task.error = ErrorInfo("GraphInterrupt", "", "interrupt", [{"value": f"Question {number}", "id": str(number)}])
        trace.interrupts += [(graph, {"value": f"Question {number}", "id": str(number)}) for graph in (outer, inner)]
    again = started(step, 10, {}, thread_id="t")
    for number in range(resumed):
        started(again, 11, {}, langgraph_checkpoint_ns=f"task:{number}")
    return trace


@pytest.mark.parametrize("resumed", [0, 100, 200])
def test_the_cost_of_many_interrupts_is_linear_in_their_number(resumed: int) -> None:
    def reads(factor: int) -> int:
        trace, Counted.reads = trace_of_paused(200 * factor, resumed * factor), 0
        assert len(interrupts_of(trace)) == (0 if resumed == 200 else 200 * factor)
        return Counted.reads

    assert reads(2) < 2.2 * reads(1)


def test_a_static_pause_that_a_step_resumes_is_over() -> None:
    graph = booking()

    def handle(resumes: bool) -> None:
        config = {"configurable": {"thread_id": str(resumes)}, "callbacks": observe.get_callbacks()}
        with observe.span("handle", input="Book it."):
            graph.invoke(ASKED, config, interrupt_before=["book"])
            if resumes:
                graph.invoke(None, config)

    with capture() as captured:
        handle(False)
        handle(True)
    assert [turn.status for turn in captured.turns] == ["waiting", "completed"]
