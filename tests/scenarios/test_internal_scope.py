"""`observe.internal()` and the metadata `gati_internal`: root calls whose text is not for the user."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.messages import SystemMessage
from langchain_core.prompts import ChatPromptTemplate
from langgraph.graph import START, MessagesState, StateGraph

from gati import observe
from gati.testing import capture
from tests.scenarios.harness import Config, Watch
from tests.scenarios.scripts import model

TITLE = ChatPromptTemplate([("system", "Make a title."), ("human", "{text}")])
MARK: Config = {"metadata": {"gati_internal": True}}


def answer(config: Config) -> Any:
    return model("Twelve.").invoke("144?", config)


def title(config: Config) -> Any:
    return (TITLE | model("Square roots")).invoke({"text": "144?"}, config)


def in_a_scope(config: Config) -> None:
    with observe.conversation("c-1"):
        answer(config)
        with observe.internal():
            title(config)


def by_a_decorator(config: Config) -> None:
    with observe.conversation("c-1"):
        answer(config)
        observe.internal()(title)(config)


def by_an_async_decorator(config: Config) -> None:
    @observe.internal()
    async def async_title() -> None:
        await (TITLE | model("Square roots")).ainvoke({"text": "144?"}, config)

    with observe.conversation("c-1"):
        answer(config)
        asyncio.run(async_title())


def by_metadata(config: Config) -> None:
    with observe.conversation("c-1"):
        answer(config)
        title({**config, **MARK})


def by_metadata_and_thread(config: Config) -> None:
    answer({**config, "metadata": {"thread_id": "c-1"}})
    title({**config, "metadata": {"thread_id": "c-1", "gati_internal": True}})


@pytest.mark.parametrize(
    "program", [in_a_scope, by_a_decorator, by_an_async_decorator, by_metadata, by_metadata_and_thread]
)
def test_an_internal_root_is_an_internal_call_of_its_conversation(watch: Watch, program: Any):
    traced = watch.trace(program)
    assert traced.transcript() == [("user", "144?"), ("assistant", "Twelve.")]
    first, second = traced.of_type("llm")
    assert not (first["properties"] or {}).get("internal")
    assert second["properties"]["internal"] is True
    assert second["conversation"] == first["conversation"] == "c-1"
    assert second["properties"]["prompt_id"] == "agent"
    assert [m["prompt"] for m in traced.messages if m["messageType"] in ("user_message", "assistant_message")] == [
        None,
        None,
    ]


def test_an_internal_root_outside_any_conversation_is_only_counted(watch: Watch):
    def program(config: Config) -> None:
        with observe.internal():
            title(config)
        title({**config, **MARK})

    traced = watch.trace(program)
    assert traced.messages == []
    assert traced.stats.outside_conversation == 2


def test_an_internal_root_does_not_continue_a_conversation(watch: Watch):
    def program(config: Config) -> None:
        history = [("user", "144?")]
        with observe.internal():
            model("Square roots").invoke(history, config)
        model("Twelve.").invoke(history, config)

    traced = watch.trace(program)
    assert traced.transcript() == [("user", "144?"), ("assistant", "Twelve.")]


def test_an_internal_graph_is_a_workflow_without_messages(watch: Watch):
    builder = StateGraph(MessagesState)
    builder.add_node("judge", lambda s: {"messages": [model("good").invoke([SystemMessage("Judge."), *s["messages"]])]})
    builder.add_edge(START, "judge")
    graph = builder.compile(name="judge")

    def program(config: Config) -> None:
        with observe.conversation("c-1"), observe.internal():
            graph.invoke({"messages": [("user", "144? Twelve.")]}, config)

    traced = watch.trace(program)
    assert [m["messageType"] for m in traced.messages] == ["workflow", "task", "llm"]
    assert traced.of_type("llm")[0]["properties"]["internal"] is True


def test_a_call_in_a_node_can_be_marked(watch: Watch):
    builder = StateGraph(MessagesState)

    def work(state: MessagesState) -> dict[str, Any]:
        with observe.internal():
            model("maths").invoke("Route")
        model("safe").invoke("Guard", {"metadata": {"gati_internal": True}})
        return {"messages": [model("Twelve.").invoke(state["messages"])]}

    builder.add_node("work", work)
    builder.add_edge(START, "work")
    traced = watch.trace(lambda config: builder.compile().invoke({"messages": [("user", "144?")]}, config))
    assert [bool(m["properties"].get("internal")) for m in traced.of_type("llm")] == [True, True, False]


def test_the_scope_ends_with_its_block(watch: Watch):
    def program(config: Config) -> None:
        with observe.internal():
            pass
        answer(config)

    assert watch.trace(program).transcript() == [("user", "144?"), ("assistant", "Twelve.")]


@pytest.mark.parametrize("submission", ["turn", "incremental"])
def test_an_internal_graph_has_no_user_message_however_it_is_delivered(submission: str):
    def answer_in_node(state: MessagesState) -> Config:
        return {"messages": [model("Square roots").invoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("title", answer_in_node).add_edge(START, "title").compile()
    with capture(local=False, submission=submission) as captured, observe.conversation("c-1"):
        graph.invoke({"messages": [("user", "144?")]}, MARK)
    assert captured.transcript() == []
    assert [event.kind for turn in captured.turns for event in turn.events].count("llm_call") == 1
