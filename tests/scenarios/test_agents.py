"""Agents: LangChain's `create_agent`, LangGraph's react agent and the classic executor."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool

from tests.optional import create_agent
from tests.scenarios.harness import Watch, each_method
from tests.scenarios.scripts import call, model, reply, tool_request, weather

ASKED = {"messages": [("user", "How is the weather in Oslo?")]}


def test_an_agent_calls_a_tool(watch: Watch):
    watch(
        """
        prompt forecaster/model "You know the weather."
        user_message   "How is the weather in Oslo?"
        chain_start    forecaster
          task         model
            llm        gpt-4o-mini 10>5 $ calls=weather
              thought  "Let me look."
          task         tools
            tool_call  weather {"city":"Oslo"}
              observation {"output":"sunny in Oslo"}
          task         model
            llm        gpt-4o-mini 10>5 $
          final_response "It is sunny."
          chain_end    completed
        """,
        *each_method(
            lambda: create_agent(
                model(tool_request(call("weather", city="Oslo"), text="Let me look."), "It is sunny."),
                [weather],
                system_prompt="You know the weather.",
                name="forecaster",
            ),
            ASKED,
        ),
    )


@pytest.mark.filterwarnings("ignore:create_react_agent")
def test_the_react_agent_of_langgraph_calls_a_tool(watch: Watch):
    from langgraph.prebuilt import create_react_agent

    watch(
        """
        prompt agent/agent "You know the weather."
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         agent
            llm        gpt-4o-mini 10>5 $ calls=weather
          task         tools
            tool_call  weather {"city":"Oslo"}
              observation {"output":"sunny in Oslo"}
          task         agent
            llm        gpt-4o-mini 10>5 $
          final_response "It is sunny."
          chain_end    completed
        """,
        *each_method(
            lambda: create_react_agent(
                model(tool_request(call("weather", city="Oslo")), "It is sunny."),
                [weather],
                prompt="You know the weather.",
            ),
            ASKED,
        ),
    )


def test_the_classic_agent_executor_calls_a_tool(watch: Watch):
    agents = pytest.importorskip("langchain_classic.agents")
    prompt = ChatPromptTemplate.from_messages(
        [("system", "You are {who}."), ("human", "{input}"), ("placeholder", "{agent_scratchpad}")]
    )

    def executor() -> Any:
        agent = agents.create_tool_calling_agent(
            model(tool_request(call("weather", city="Oslo")), "It is sunny."), [weather], prompt
        )
        return agents.AgentExecutor(agent=agent, tools=[weather])

    watch(
        """
        prompt agent[who]
          system "You are {{who}}."
          who = "a forecaster"
        user_message   "How is the weather in Oslo?"
        chain_start    AgentExecutor {"who":"a forecaster"}
          llm          gpt-4o-mini 10>5 $ calls=weather
          tool_call    weather {"city":"Oslo"}
            observation {"output":"sunny in Oslo"}
          llm          gpt-4o-mini 10>5 $
          final_response "It is sunny."
          chain_end    completed
        """,
        *each_method(executor, {"input": "How is the weather in Oslo?", "who": "a forecaster"}),
    )


def test_parallel_tool_calls_may_end_out_of_order(watch: Watch):
    def program(config: dict[str, Any]) -> Any:
        last_began = threading.Event()

        @tool
        def slow(city: str) -> str:
            """Return the weather of a city. The city requested first is answered last."""
            if city == "Bern":
                last_began.set()
            else:
                last_began.wait(10)
            return f"rain in {city}"

        asked = tool_request(
            call("slow", "c1", city="Oslo"), call("slow", "c2", city="Rome"), call("slow", "c3", city="Bern")
        )
        return create_agent(model(asked, "Rain."), [slow]).invoke(ASKED, config)

    traced = watch(
        """
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         model
            llm        gpt-4o-mini 10>5 $
          task         model
            llm        gpt-4o-mini 10>5 $ calls=slow,slow,slow
          task         tools
            tool_call  slow {"city":"Bern"}
              observation {"output":"rain in Bern"}
          task         tools
            tool_call  slow {"city":"Oslo"}
              observation {"output":"rain in Oslo"}
          task         tools
            tool_call  slow {"city":"Rome"}
              observation {"output":"rain in Rome"}
          final_response "Rain."
          chain_end    completed
        """,
        program,
        unordered=True,
    )
    asker = traced.of_type("llm")[0]["externalMessageId"]
    linked = {(m["input"]["city"], m["properties"]["tool_call_id"]) for m in traced.of_type("tool_call")}
    assert linked == {("Oslo", "c1"), ("Rome", "c2"), ("Bern", "c3")}
    assert {m["properties"]["requested_by"] for m in traced.of_type("tool_call")} == {asker}


def test_agent_reasoning_is_a_thought_and_not_part_of_the_answer(watch: Watch):
    thinks = reply([{"type": "reasoning", "reasoning": "Oslo is north."}, {"type": "text", "text": "It is cold."}])
    watch(
        """
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         model
            llm        gpt-4o-mini 10>5 $
              thought  "Oslo is north."
          final_response "It is cold."
          chain_end    completed
        """,
        *each_method(lambda: create_agent(model(thinks)), ASKED, only="invoke ainvoke"),
    )


def test_a_model_error_ends_the_turn_of_an_agent(watch: Watch):
    watch(
        """
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         model error RuntimeError: no model today
            llm        gpt-4o-mini ?>? error RuntimeError: no model today
          chain_end    error RuntimeError: no model today
        """,
        *each_method(lambda: create_agent(model(RuntimeError("no model today"))), ASKED),
    )


def test_an_empty_answer_is_not_reported_as_a_message(watch: Watch):
    watch(
        """
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         model
            llm        gpt-4o-mini 10>5 $
          chain_end    completed
        """,
        *each_method(lambda: create_agent(model("")), ASKED, only="invoke ainvoke"),
    )
