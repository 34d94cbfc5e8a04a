"""Words that a program writes into the thread: with `update_state`, or beside the value that resumes a graph."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from tests.scenarios.harness import Config, Program, Watch
from tests.scenarios.scripts import model


def graph_of(*replies: Any, node: Any = None, **more: Any) -> Any:
    speaker = model(*replies)
    builder = StateGraph(MessagesState)
    builder.add_node("model", node or (lambda state: {"messages": [speaker.invoke(state["messages"])]}))
    builder.add_edge(START, "model")
    return builder.compile(checkpointer=InMemorySaver(), name="graph", **more)


def own(config: Config) -> Config:
    return {**config, "configurable": {"thread_id": "c-1"}}


def wrote(graph: Any, config: Config, text: str, as_node: str | None = "__start__", **more: Any) -> Any:
    return graph.update_state(own(config), {"messages": [HumanMessage(text, **more)]}, as_node=as_node)


def first(config: Config) -> Any:
    graph = graph_of("One.")
    wrote(graph, config, "Hello there")
    return graph.invoke(None, own(config))["messages"][-1].text


async def first_async(config: Config) -> Any:
    graph = graph_of("One.")
    await graph.aupdate_state(own(config), {"messages": [HumanMessage("Hello there")]}, as_node="__start__")
    return (await graph.ainvoke(None, own(config)))["messages"][-1].text


def first_streamed(config: Config) -> Any:
    graph = graph_of("One.")
    wrote(graph, config, "Hello there")
    return [chunk["messages"][-1].text for chunk in graph.stream(None, own(config), stream_mode="values")]


def test_a_question_in_the_thread_is_the_users(watch: Watch) -> None:
    watch(
        """
        conversation c-1 of anonymous
        user_message   "Hello there"
        chain_start    graph
          task         model
            llm        gpt-4o-mini 10>5 $
          final_response "One."
          chain_end    completed
        """,
        first,
        first_async,
        first_streamed,
    )


def later(config: Config) -> Any:
    graph = graph_of("One.", "Two.", "Three.")
    graph.invoke({"messages": [("user", "First?")]}, own(config))
    wrote(graph, config, "Second?")
    graph.invoke(None, own(config))
    return graph.invoke({"messages": [("user", "Third?")]}, own(config))["messages"][-1].text


def test_each_question_is_reported_once(watch: Watch) -> None:
    for options in ({}, {"submission": "incremental"}):
        traced = watch.trace(later, **options)
        assert traced.transcript() == [
            ("user", "First?"), ("assistant", "One."), ("user", "Second?"), ("assistant", "Two."), ("user", "Third?"),
            ("assistant", "Three."),
        ]  # fmt: skip
        assert traced.of_type("callback") == []


def test_an_edited_question_is_reported_again_and_a_repeated_run_is_not(watch: Watch) -> None:
    def program(config: Config) -> Any:
        graph = graph_of("One.", "Two.", "Three.")
        graph.invoke({"messages": [("user", "First?")]}, own(config))
        before = next(state for state in graph.get_state_history(own(config)) if state.next == ("model",))
        graph.invoke(None, {**config, **before.config})
        edited = HumanMessage("Edited?", id=before.values["messages"][-1].id)
        graph.invoke(None, {**config, **graph.update_state(before.config, {"messages": [edited]})})

    assert [text for role, text in watch.trace(program).transcript() if role == "user"] == ["First?", "Edited?"]


class WithoutIds(TypedDict):
    """A thread whose reducer adds no ids."""

    messages: Annotated[list[Any], lambda old, new: old + new]


def test_a_question_is_recognized_without_message_ids(watch: Watch) -> None:
    def program(config: Config) -> Any:
        speaker = model("One.", "Two.")
        builder = StateGraph(WithoutIds)
        builder.add_node("model", lambda state: {"messages": [AIMessage(speaker.invoke(state["messages"]).text)]})
        builder.add_edge(START, "model")
        graph = builder.compile(checkpointer=InMemorySaver())
        graph.invoke({"messages": [HumanMessage("First?")]}, own(config))
        wrote(graph, config, "Second?")
        graph.invoke(None, own(config))

    assert watch.trace(program).transcript() == [
        ("user", "First?"), ("assistant", "One."), ("user", "Second?"), ("assistant", "Two."),
    ]  # fmt: skip


def test_a_graph_without_a_model_has_its_question(watch: Watch) -> None:
    def program(config: Config) -> Any:
        graph = graph_of(node=lambda state: {"messages": [AIMessage(f"{len(state['messages'])} messages.")]})
        wrote(graph, config, "How many?")
        graph.invoke(None, own(config))

    assert watch.trace(program).transcript() == [("user", "How many?"), ("assistant", "1 messages.")]


def test_a_failed_turn_that_is_retried_has_its_question_once(watch: Watch) -> None:
    def program(config: Config) -> Any:
        graph = graph_of(ConnectionError("lost"), "One.")
        with pytest.raises(ConnectionError):
            graph.invoke({"messages": [("user", "First?")]}, own(config))
        graph.invoke(None, own(config))

    assert watch.trace(program).transcript() == [("user", "First?"), ("assistant", "One.")]


def test_a_static_pause_does_not_repeat_its_question(watch: Watch) -> None:
    def program(config: Config) -> Any:
        graph = graph_of("One.", interrupt_before=["model"])
        graph.invoke({"messages": [("user", "First?")]}, own(config))
        graph.invoke(None, own(config))

    traced = watch.trace(program)
    assert traced.transcript() == [("user", "First?"), ("assistant", "One.")]


def test_words_written_during_a_static_pause_are_the_users(watch: Watch) -> None:
    def program(config: Config) -> Any:
        graph = graph_of("One.", interrupt_before=["model"])
        graph.invoke({"messages": [("user", "First?")]}, own(config))
        wrote(graph, config, "And hurry.", as_node=None)
        graph.invoke(None, own(config))

    assert watch.trace(program).transcript() == [("user", "First?"), ("user", "And hurry."), ("assistant", "One.")]


def booking(*inputs: Any) -> Program:
    def program(config: Config) -> Any:
        graph = graph_of(node=lambda state: {"messages": [AIMessage(f"Done: {interrupt('Sure?')}", id="a1")]})
        for given in inputs:
            result = graph.invoke(given, own(config))
        return result["messages"][-1].text

    return program


BOOK = {"messages": [HumanMessage("Book it", id="h1")]}


def test_words_beside_a_resume_are_the_users(watch: Watch) -> None:
    watch(
        """
        conversation c-1 of anonymous
        user_message   "Book it"
        chain_start    graph
          task         model waiting
          assistant_message "Sure?" waiting
          chain_end    waiting
        user_message   "yes" resumed
        user_message   "and hurry"
        chain_start    graph
          task         model
          final_response "Done: yes"
          chain_end    completed
        """,
        booking(BOOK, Command(resume="yes", update={"messages": [HumanMessage("and hurry")]})),
        booking(BOOK, Command(resume="yes", update={"messages": [("user", "and hurry")]})),
        booking(BOOK, Command(resume="yes", update={"messages": [{"role": "user", "content": "and hurry"}]})),
        booking(BOOK, Command(resume="yes", update=[("messages", [HumanMessage("and hurry")])])),
        booking(BOOK, Command(resume="yes", update={"messages": ("user", "and hurry")})),
    )


@pytest.mark.parametrize(
    ("resume", "words"), [({"approved": True}, ["Book it", "and hurry"]), ("and hurry", ["Book it", "and hurry"])]
)
def test_words_beside_any_value_are_reported_once(watch: Watch, resume: Any, words: list[str]) -> None:
    traced = watch.trace(booking(BOOK, Command(resume=resume, update={"messages": [HumanMessage("and hurry")]})))
    assert [text for role, text in traced.transcript() if role == "user"] == words
