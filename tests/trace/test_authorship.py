"""`gati.trace.authorship`: what a person wrote, and what is no turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypedDict

import pytest
from langchain_core.documents import Document
from langchain_core.messages import HumanMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

from gati import observe
from gati.events import CustomEvent
from gati.testing import ScriptedChatModel, capture
from gati.trace.authorship import is_from_person
from gati.trace.conversation_state import ConversationState
from gati.trace.records import Message


@observe.step
def index(path: str) -> int:
    return 3


@observe.tool
def sync(tenant: str) -> str:
    return f"{tenant} is in sync"


@tool
def weather(city: str) -> str:
    """Report the weather."""
    return f"sunny in {city}"


class Shelf(BaseRetriever):
    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return [Document("a page")]


class Query(TypedDict):
    query: str
    rows: int


def span(kind: Any) -> None:
    with observe.span("nightly-index", input={"path": "docs/a.md"}, kind=kind) as opened:
        opened.output = "done"


WORK: dict[str, Callable[[], Any]] = {
    "a step": lambda: index("docs/a.md"),
    "a retriever": lambda: Shelf().invoke("bikes"),
    "a span": lambda: span("step"),
    "a memory read": lambda: span("memory_read"),
    "an embedding": lambda: span("embedding"),
    "a runnable on a dict": lambda: RunnableLambda(lambda x: 1, name="sync").invoke({"tenant": "acme"}),
    "a runnable on a text": lambda: RunnableLambda(lambda text: text.upper()).invoke("docs/a.md"),
    "parallel runnables": lambda: RunnableParallel(a=RunnableLambda(len), b=RunnableLambda(len)).invoke("docs/a.md"),
    "a coroutine": lambda: asyncio.run(RunnableLambda(lambda x: 1).ainvoke({"query": "select 1"})),
    "a stream": lambda: list(RunnableLambda(lambda x: 1).stream({"text": "docs/a.md"})),
}


@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
@pytest.mark.parametrize("submission", ["turn", "incremental"])
def test_work_outside_a_conversation_is_counted_but_not_delivered(work: Callable[[], Any], submission: str) -> None:
    with capture(local=False, submission=submission) as captured:
        work()
        observe.flush()
        assert observe.stats().outside_conversation == 1
    assert captured.turns == []


@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_the_same_work_in_a_conversation_is_delivered(work: Callable[[], Any]) -> None:
    with capture(local=False) as captured, observe.conversation("c"):
        work()
        observe.flush()
        assert observe.stats().outside_conversation == 0
    assert [turn.conversation.id for turn in captured.turns] == ["c"]


@pytest.mark.parametrize("work", [lambda: sync("acme"), lambda: weather.invoke({"city": "Oslo"})])
def test_a_tool_that_is_called_directly_is_a_tool_call_and_nobodys_words(work: Callable[[], Any]) -> None:
    with capture(local=False) as captured:
        work()
    (turn,) = captured.turns
    assert [event.kind for event in turn.events] == ["tool_call"]
    assert captured.transcript() == []


def test_a_runnable_that_calls_tools_is_an_agent_without_a_model() -> None:
    agent = RunnableLambda(lambda city: weather.invoke({"city": city}))
    with capture(local=False) as captured:
        agent.invoke("Oslo")
        agent.map().invoke(["Oslo"])
    assert captured.transcript()[:2] == [("user", "Oslo"), ("assistant", "sunny in Oslo")]


def test_an_event_that_the_program_reports_inside_such_work_is_delivered() -> None:
    with capture(local=False) as captured, observe.span("nightly-index"):
        observe.track_event(CustomEvent(name="indexed"))
    assert captured.turns == []
    assert [event.name for event in captured.events] == ["indexed"]


def test_a_job_that_asks_a_model_reports_what_the_model_was_asked() -> None:
    @observe.step
    def summarize(path: str) -> str:
        return ScriptedChatModel(replies=["Short."]).invoke("Summarize: a long text").text

    job = RunnableLambda(lambda given: ScriptedChatModel(replies=["Short."]).invoke("Summarize: a long text").text)
    with capture(local=False) as captured:
        summarize("docs/a.md")
        job.invoke({"tenant": "acme"})
    assert captured.transcript() == [("user", "Summarize: a long text"), ("assistant", "Short.")] * 2


def test_a_message_of_a_person_is_delivered_without_a_model_and_a_conversation() -> None:
    echo = RunnableLambda(lambda messages: "Hello, " + messages[-1].content)
    with capture(local=False) as captured:
        echo.invoke([HumanMessage("Ada")])
    assert captured.transcript() == [("user", "Ada"), ("assistant", "Hello, Ada")]


def test_values_of_a_graph_without_a_model_and_a_conversation_are_nobodys_words() -> None:
    graph = StateGraph(Query).add_node("count", lambda state: {"rows": 3}).add_edge(START, "count").compile()
    with capture(local=False) as captured:
        graph.invoke({"query": "select 1", "rows": 0})
    assert captured.transcript() == []


@pytest.mark.parametrize("is_async", [False, True])
def test_update_state_is_no_turn(is_async: bool) -> None:
    graph = (
        StateGraph(MessagesState)
        .add_node(
            "answer", lambda state: {"messages": [ScriptedChatModel(replies=["Hello."]).invoke(state["messages"])]}
        )
        .add_edge(START, "answer")
        .add_conditional_edges("answer", lambda state: "__end__", ["__end__"])
        .compile(checkpointer=InMemorySaver())
    )
    where: Any = {"configurable": {"thread_id": "t"}}
    values = {"messages": [("assistant", "The customer is angry.")]}
    with capture(local=False) as captured:
        graph.invoke({"messages": [("user", "Hi")]}, where)
        if is_async:
            asyncio.run(graph.aupdate_state(where, values))
        else:
            graph.update_state(where, values)
        observe.flush()
        assert observe.stats().outside_conversation == 0
    assert captured.transcript() == [("user", "Hi"), ("assistant", "Hello.")]


def test_messages_that_frameworks_mark_are_not_a_persons() -> None:
    assert is_from_person(Message("human", "Hi"))
    assert not is_from_person(Message("ai", "Hi"))
    assert not is_from_person(Message("human", "Summary", additional={"lc_source": "summarization"}))
    assert not is_from_person(Message("user", "Done", additional={"deepagents_notification": {"task_id": "1"}}))


def test_the_answer_of_an_agent_is_not_a_persons_message_in_the_next_turn() -> None:
    state = ConversationState()
    state.remember_produced("2.1m people.")
    assert not is_from_person(Message("human", "2.1m people.", name="researcher"), state)
    assert is_from_person(Message("human", "2.1m people."), state)
    assert is_from_person(Message("human", "Hi", name="Ada"), state)


def test_a_person_with_a_name_may_repeat_what_the_model_said() -> None:
    model = ScriptedChatModel(replies=["To Rome?", "Yes", "Booked."])
    builder = StateGraph(MessagesState).add_node("bot", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph = builder.add_edge(START, "bot").compile(checkpointer=InMemorySaver())
    with capture(local=False) as captured:
        for text in ("A trip.", "Is it warm there?", "Yes"):
            graph.invoke({"messages": [HumanMessage(text, name="alice")]}, {"configurable": {"thread_id": "t"}})
    assert [text for role, text in captured.transcript() if role == "user"] == ["A trip.", "Is it warm there?", "Yes"]


def test_a_text_with_which_a_model_plays_the_user_is_nobodys_message() -> None:
    assistant, customer = (
        ScriptedChatModel(replies=["How can I help?"]),
        ScriptedChatModel(replies=["A refund, please."]),
    )
    builder = StateGraph(MessagesState)
    builder.add_node("assistant", lambda state: {"messages": [assistant.invoke(state["messages"] or "")]})
    builder.add_node("customer", lambda state: {"messages": [HumanMessage(customer.invoke(state["messages"]).text)]})
    builder.add_edge(START, "assistant").add_edge("assistant", "customer")
    builder.add_node("again", lambda state: {"messages": [assistant.invoke(state["messages"])]})
    with capture(local=False) as captured:
        builder.add_edge("customer", "again").compile().invoke({"messages": []})
    assert captured.transcript() == [("assistant", "How can I help?")]
