"""A step that resumes a waiting graph tells what the person answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from gati import observe
from gati.events import CustomEvent, Turn
from gati.testing import ScriptedChatModel, capture
from gati.trace.known_messages import calls_before_question
from gati.trace.records import Message

THREAD: Any = {"configurable": {"thread_id": "t"}}
Handler = Callable[[Any], Any]


def asking_graph() -> Any:
    def ask(state: MessagesState) -> Any:
        answer = interrupt("Your name?")
        name = answer["name"] if isinstance(answer, dict) else answer
        return {"messages": [AIMessage(f"Hi {name}")]}

    builder = StateGraph(MessagesState)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    return builder.compile(checkpointer=InMemorySaver())


def invoke(graph: Any, value: Any) -> Any:
    given = value if isinstance(value, Command) or value is None else {"messages": [("user", value)]}
    return graph.invoke(given, THREAD)["messages"][-1].text


def in_a_step(function: Handler) -> Handler:
    return observe.step(name="handle")(function)


def in_two_steps(function: Handler) -> Handler:
    return in_a_step(in_a_step(function))


def in_a_span(function: Handler) -> Handler:
    def run(value: Any) -> Any:
        with observe.span("request", input=value):
            return function(value)

    return run


def resumes_of(turn: Turn) -> list[Any]:
    return [e.payload["data"] for e in turn.events if isinstance(e, CustomEvent) and e.name == "resume"]


@pytest.mark.parametrize("wrap", [in_a_step, in_two_steps, in_a_span])
def test_the_text_that_resumes_a_graph_in_a_step_is_the_users(wrap: Callable[[Handler], Handler]) -> None:
    graph = asking_graph()
    handle = wrap(lambda value: invoke(graph, value))
    with capture() as captured:
        handle("Hello")
        handle(Command(resume="Ann"))
    assert captured.transcript() == [
        ("user", "Hello"),
        ("assistant", "Your name?"),
        ("user", "Ann"),
        ("assistant", "Hi Ann"),
    ]
    assert {turn.conversation.id for turn in captured.turns} == {"t"}
    assert captured.turns[1].messages[0].properties == {"status": "resumed"}
    assert resumes_of(captured.turns[1]) == []


def test_a_step_may_make_the_command_of_its_request() -> None:
    graph = asking_graph()

    @observe.step
    def handle(body: dict[str, Any]) -> Any:
        return invoke(graph, Command(resume={"name": body["text"]}) if body["resume"] else body["text"])

    with capture() as captured:
        handle({"text": "Hello", "resume": False, "client": "web-1"})
        handle({"text": "Ann", "resume": True, "client": "web-1"})
    assert captured.transcript()[-2:] == [("user", "Ann"), ("assistant", "Hi Ann")]
    assert resumes_of(captured.turns[1]) == [{"value": {"name": "Ann"}}]


def test_what_a_step_answers_itself_is_not_the_users() -> None:
    graph = asking_graph()

    @observe.step
    def handle(messages: list[Any]) -> Any:
        graph.invoke({"messages": messages}, THREAD)
        return graph.invoke(Command(resume="Bot"), THREAD)["messages"][-1].text

    with capture() as captured:
        handle([("user", "Hello")])
    assert ("user", "Hello") in captured.transcript()
    assert ("user", "Bot") not in captured.transcript()
    assert resumes_of(captured.turns[0]) == []


def test_a_step_that_continues_a_paused_graph_reports_it() -> None:
    model = ScriptedChatModel(replies=["Done."])
    builder = StateGraph(MessagesState)
    builder.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    builder.add_edge(START, "model")
    graph = builder.compile(checkpointer=InMemorySaver(), interrupt_before=["model"])

    @observe.step
    def handle(text: str | None) -> Any:
        return invoke(graph, text)

    with capture() as captured:
        handle("Hello")
        handle(None)
    assert [text for role, text in captured.transcript() if role == "user"] == ["Hello"]
    assert captured.transcript()[-1] == ("assistant", "Done.")
    assert resumes_of(captured.turns[-1]) == [{"value": None}]


def test_words_of_which_a_step_makes_a_decision_are_the_users() -> None:
    def ask(state: Any) -> Any:
        return {"messages": [AIMessage("Booked." if interrupt("Shall I book?") else "Not booked.")]}

    graph = StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask").compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "s"}}

    @observe.step
    def handle(text: str, session: str) -> Any:
        given: Any = {"messages": [("user", text)]}
        if graph.get_state(config).next:
            given = Command(resume="yes" in text.lower())
        made = graph.invoke(given, config)
        return made["__interrupt__"][0].value if "__interrupt__" in made else made["messages"][-1].text

    with capture() as captured, observe.conversation("c"):
        handle("Book it.", "s")
        handle("Yes, go ahead.", "s")
    assert captured.transcript() == [
        ("user", "Book it."), ("assistant", "Shall I book?"), ("user", "Yes, go ahead."), ("assistant", "Booked."),
    ]  # fmt: skip


@pytest.mark.parametrize("odd", ["search", None, 5, ["x"], {}, {"id": ["x"]}])
def test_the_calls_before_a_question_are_found_beside_requests_of_any_shape(odd: Any) -> None:
    asked = Message("ai", "", tool_calls=(odd, {"id": "c1", "name": "look", "args": {}}))
    answers = [Message("tool", "seen", tool_call_id=call_id) for call_id in ("c1", "c2")]
    later = Message("ai", "", tool_calls=({"id": "c3"},))
    assert {"c1", "c2"} <= calls_before_question([asked, *answers, Message("human", "And now?"), later])
    assert "c3" not in calls_before_question([asked, *answers, Message("human", "And now?"), later])
