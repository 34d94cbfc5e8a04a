"""Less common ways to resume a paused turn, and turns that are never resumed."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from tests.optional import create_agent
from tests.scenarios.harness import Config, Watch
from tests.scenarios.scripts import ASKED, call, model, tool_request, turns


def one_node(node: Any, name: str = "graph") -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    return builder.compile(name=name, checkpointer=InMemorySaver())


def test_a_user_may_ignore_a_question(watch: Watch):
    """The user writes a new message instead of an answer. The question is asked again."""
    watch(
        """
        conversation c-1 of anonymous
        user_message   "Draw a cat."
        chain_start    graph
          task         node waiting
          assistant_message "Really?" waiting
          chain_end    waiting
        user_message   "Never mind."
        chain_start    graph
          task         node waiting
          assistant_message "Really?" waiting
          chain_end    waiting
        user_message   "yes" resumed
        chain_start    graph
          task         node
          final_response "So be it: yes"
          chain_end    completed
        """,
        *turns(
            lambda: one_node(lambda s: {"messages": [AIMessage("So be it: " + interrupt("Really?"), id="a1")]}),
            ASKED,
            {"messages": [HumanMessage("Never mind.", id="h2")]},
            Command(resume="yes"),
        ),
    )


def test_a_question_may_be_asked_until_the_answer_is_valid(watch: Watch):
    def ask(state: MessagesState) -> dict[str, Any]:
        question = "How many?"
        while not (answer := interrupt(question)).isdigit():
            question = f"{answer} is no number. How many?"
        return {"messages": [AIMessage(f"{answer} cats.", id="a1")]}

    watch(
        """
        conversation c-1 of anonymous
        user_message   "Draw a cat."
        chain_start    graph
          task         node waiting
          assistant_message "How many?" waiting
          chain_end    waiting
        user_message   "some" resumed
        chain_start    graph
          task         node waiting
          assistant_message "some is no number. How many?" waiting
          chain_end    waiting
        user_message   "3" resumed
        chain_start    graph
          task         node
          final_response "3 cats."
          chain_end    completed
        """,
        *turns(lambda: one_node(ask), ASKED, Command(resume="some"), Command(resume="3"), only="invoke stream"),
    )


def test_a_question_of_one_tool_does_not_repeat_the_other(watch: Watch):
    def shop() -> Any:
        @tool
        def look(item: str) -> str:
            """Look for something."""
            return f"there is {item}"

        @tool
        def buy(item: str) -> str:
            """Buy something."""
            return f"{interrupt('Sure?')}: bought {item}"

        asked = tool_request(call("look", "l1", item="ink"), call("buy", "b1", item="ink"))
        return create_agent(model(asked, "It is yours."), [look, buy], checkpointer=InMemorySaver(), name="shop")

    watch(
        """
        conversation c-1 of anonymous
        user_message   "Draw a cat."
        chain_start    shop
          task         model
            llm        gpt-4o-mini 10>5 $ calls=look,buy
          task         tools
            tool_call  look {"item":"ink"}
              observation {"output":"there is ink"}
          task         tools waiting
            tool_call  buy {"item":"ink"} waiting
          assistant_message "Sure?" waiting
          chain_end    waiting
        user_message   "yes" resumed
        chain_start    shop
          task         model
            llm        gpt-4o-mini 10>5 $
          task         tools
            tool_call  buy {"item":"ink"}
              observation {"output":"yes: bought ink"}
          final_response "It is yours."
          chain_end    completed
        """,
        *turns(shop, ASKED, Command(resume="yes"), only="invoke ainvoke"),
        unordered=True,
    )


def test_an_entrypoint_can_ask_and_resume(watch: Watch):
    def flow() -> Any:
        @task
        def ask(question: str) -> str:
            return str(interrupt(question))

        @entrypoint(checkpointer=InMemorySaver())
        def draw(topic: str) -> str:
            return f"a {ask('What colour?').result()} cat"

        return draw

    def program(config: Config) -> Any:
        graph, own = flow(), {**config, "configurable": {"thread_id": "c-1"}}
        return [len(graph.invoke("Draw a cat.", own)), graph.invoke(Command(resume="red"), own)]

    watch(
        """
        conversation c-1 of anonymous
        user_message   "Draw a cat."
        chain_start    LangGraph
          task         draw waiting
            task       ask waiting
          assistant_message "What colour?" waiting
          chain_end    waiting
        user_message   "red" resumed
        chain_start    LangGraph
          task         draw
            task       ask => {"output":"red"}
          final_response "a red cat"
          chain_end    completed
        """,
        program,
    )


def test_a_resume_command_may_add_messages(watch: Watch):
    watch(
        """
        conversation c-1 of anonymous
        user_message   "Hi there."
        chain_start    graph
          task         node
            llm        gpt-4o-mini 10>5 $
          final_response "Hello."
          chain_end    completed
        """,
        *turns(
            lambda: one_node(lambda s: {"messages": [model("Hello.").invoke(s["messages"])]}),
            Command(goto="node", update={"messages": [HumanMessage("Hi there.", id="h1")]}),
            only="invoke",
        ),
    )


def test_a_tool_may_run_in_the_program_between_two_turns(watch: Watch):
    """The graph ends with a tool call, as for tools that run in a browser. The next turn passes the result."""

    def browsing() -> Any:
        speaker = model(tool_request(call("open_page", "p1", url="e.org")), "It is about cats.")
        return one_node(lambda s: {"messages": [speaker.invoke(s["messages"])]}, "browsing")

    traced = watch(
        """
        conversation c-1 of anonymous
        user_message   "Draw a cat."
        chain_start    browsing
          task         node
            llm        gpt-4o-mini 10>5 $ calls=open_page
          chain_end    waiting
        chain_start    browsing
          tool_call    open_page {"url":"e.org"}
            observation {"output":"Cats!"}
          task         node
            llm        gpt-4o-mini 10>5 $
          final_response "It is about cats."
          chain_end    completed
        """,
        *turns(browsing, ASKED, {"messages": [ToolMessage("Cats!", tool_call_id="p1", id="t1")]}),
    )
    (called,) = traced.of_type("tool_call")
    assert called["properties"]["requested_by"] == traced.of_type("llm")[0]["externalMessageId"]


def test_a_tool_that_runs_again_after_a_failed_turn_is_linked_to_its_request(watch: Watch) -> None:
    failures = iter([ConnectionError("net"), ConnectionError("net")])

    @tool
    def flaky(city: str) -> str:
        """Fail twice."""
        if (error := next(failures, None)) is not None:
            raise error
        return f"found {city}"

    def program(config: Config) -> Any:
        config = {**config, "configurable": {"thread_id": "c-1"}}
        agent = create_agent(
            model(tool_request(call("flaky", city="Oslo")), "Done."), [flaky], checkpointer=InMemorySaver()
        )
        for given in (ASKED, None):
            with pytest.raises(ConnectionError):
                agent.invoke(given, config)
        return agent.invoke(None, config)

    traced = watch.trace(program)
    asked = traced.of_type("llm")[0]["externalMessageId"]
    assert [made["properties"].get("requested_by") for made in traced.of_type("tool_call")] == [asked] * 3
