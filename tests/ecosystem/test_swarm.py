"""Swarms of langgraph-swarm: agents hand the conversation to each other."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from tests.optional import import_optional
from tests.scenarios.harness import Watch, each_method
from tests.scenarios.scripts import call, model, tool_request, turns, weather

pytest.importorskip("langgraph_swarm", reason="needs langgraph-swarm")

ASKED = {"messages": [HumanMessage("My bike is broken.", id="h1")]}


def shop(first: list[Any], second: list[Any], checkpointer: Any = None) -> Any:
    handoff = import_optional("langgraph_swarm", "create_handoff_tool")

    def agent(name: str, other: str, replies: list[Any]) -> Any:
        tools = [handoff(agent_name=other, description=f"Hand over to {other}."), weather]
        return create_agent(model(*replies), tools, system_prompt=f"You are {name}.", name=name)

    agents = [agent("sales", "support", first), agent("support", "sales", second)]
    swarm = import_optional("langgraph_swarm", "create_swarm")(agents, default_active_agent="sales")
    return swarm.compile(name="shop", checkpointer=checkpointer)


def test_a_handoff_is_a_tool_call_and_the_second_agent_answers(watch: Watch):
    def make() -> Any:
        return shop([tool_request(call("transfer_to_support", "t1"))], ["How can I help?"])

    watch(
        """
        prompt @1 support/model "You are support."
        prompt @2 sales/model "You are sales."
        user_message   "My bike is broken."
        chain_start    shop
          task         sales
            workflow   sales
              task     model
                llm    gpt-4o-mini 10>5 $ calls=transfer_to_support @2
              task     tools
                tool_call transfer_to_support {}
                  observation {"output":"Successfully transferred to support","goto":"support","graph":"__parent__"}
          task         support
            workflow   support
              task     model
                llm    gpt-4o-mini 10>5 $ @1
          final_response "How can I help?" @1
          chain_end    completed
        """,
        *each_method(make, ASKED, only="invoke ainvoke"),
    )


@pytest.mark.slow
def test_the_active_agent_answers_the_next_turn(watch: Watch):
    def make() -> Any:
        return shop(
            [tool_request(call("transfer_to_support", "t1")), "It costs 10."],
            ["How can I help?", tool_request(call("transfer_to_sales", "t2"))],
            InMemorySaver(),
        )

    watch(
        """
        conversation c-1 of anonymous
        prompt @1 support/model "You are support."
        prompt @2 sales/model "You are sales."
        user_message   "My bike is broken."
        chain_start    shop
          task         sales
            workflow   sales
              task     model
                llm    gpt-4o-mini 10>5 $ calls=transfer_to_support @2
              task     tools
                tool_call transfer_to_support {}
                  observation {"output":"Successfully transferred to support","goto":"support","graph":"__parent__"}
          task         support
            workflow   support
              task     model
                llm    gpt-4o-mini 10>5 $ @1
          final_response "How can I help?" @1
          chain_end    completed
        user_message   "How much is a new one?"
        chain_start    shop
          task         support
            workflow   support
              task     model
                llm    gpt-4o-mini 10>5 $ calls=transfer_to_sales @1
              task     tools
                tool_call transfer_to_sales {}
                  observation {"output":"Successfully transferred to sales","goto":"sales","graph":"__parent__"}
          task         sales
            workflow   sales
              task     model
                llm    gpt-4o-mini 10>5 $ @2
          final_response "It costs 10." @2
          chain_end    completed
        """,
        *turns(make, ASKED, {"messages": [HumanMessage("How much is a new one?", id="h2")]}),
    )
