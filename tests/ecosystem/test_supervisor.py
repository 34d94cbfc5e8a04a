"""Teams of langgraph-supervisor: the supervisor hands over, and experts answer."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from tests.optional import import_optional
from tests.scenarios.harness import Watch, each_method
from tests.scenarios.scripts import call, model, tool_request, turns, weather

pytest.importorskip("langgraph_supervisor", reason="needs langgraph-supervisor")
pytestmark = pytest.mark.filterwarnings("ignore:create_react_agent")

ASKED = {"messages": [HumanMessage("How is the weather in Oslo?", id="h1")]}


def team(*replies: Any, tools: Any = (), checkpointer: Any = None, **more: Any) -> Any:
    expert = create_agent(
        model(tool_request(call("weather", "w1", city="Oslo")), "Sunny all day.", "Still sunny."),
        [weather],
        system_prompt="You forecast.",
        name="forecaster",
    )
    create_supervisor = import_optional("langgraph_supervisor", "create_supervisor")
    built = create_supervisor(
        [expert], model=model(*replies), prompt="You supervise.", tools=list(tools) or None, **more
    )
    return built.compile(name="team", checkpointer=checkpointer)


def handover(id: str = "s1") -> Any:
    return tool_request(call("transfer_to_forecaster", id))


def test_the_supervisor_answers_after_its_expert(watch: Watch):
    watch(
        """
        prompt @1 agent/supervisor/agent "You supervise."
        prompt @2 forecaster/model "You forecast."
        user_message   "How is the weather in Oslo?"
        chain_start    team
          task         supervisor
            workflow   supervisor
              task     agent
                llm    gpt-4o-mini 10>5 $ calls=transfer_to_forecaster @1
              task     tools
                tool_call transfer_to_forecaster {}
                  observation {"output":"Successfully transferred to forecaster","goto":"forecaster","graph":"__parent__"}
          task         forecaster
            workflow   forecaster
              task     model
                llm    gpt-4o-mini 10>5 $ calls=weather @2
              task     tools
                tool_call weather {"city":"Oslo"}
                  observation {"output":"sunny in Oslo"}
              task     model
                llm    gpt-4o-mini 10>5 $ internal => "Sunny all day." @2
          task         supervisor
            workflow   supervisor
              task     agent
                llm    gpt-4o-mini 10>5 $ input ai:"Transferring back to supervisor" input tool:"Successfully transferred back to supervisor" @1
          final_response "It is sunny in Oslo." @1
          chain_end    completed
        """,
        *each_method(lambda: team(handover(), "It is sunny in Oslo."), ASKED, only="invoke ainvoke"),
    )


@pytest.mark.slow
def test_the_whole_history_of_an_expert_makes_no_second_answer(watch: Watch):
    watch(
        """
        prompt @1 agent/supervisor/agent "You supervise."
        prompt @2 forecaster/model "You forecast."
        user_message   "How is the weather in Oslo?"
        chain_start    team
          task         supervisor
            workflow   supervisor
              task     agent
                llm    gpt-4o-mini 10>5 $ calls=transfer_to_forecaster @1
              task     tools
                tool_call transfer_to_forecaster {}
                  observation {"output":"Successfully transferred to forecaster","goto":"forecaster","graph":"__parent__"}
          task         forecaster
            workflow   forecaster
              task     model
                llm    gpt-4o-mini 10>5 $ calls=weather @2
              task     tools
                tool_call weather {"city":"Oslo"}
                  observation {"output":"sunny in Oslo"}
              task     model
                llm    gpt-4o-mini 10>5 $ internal => "Sunny all day." @2
          task         supervisor
            workflow   supervisor
              task     agent
                llm    gpt-4o-mini 10>5 $ input ai:"Transferring back to supervisor" input tool:"Successfully transferred back to supervisor" @1
          final_response "It is sunny." @1
          chain_end    completed
        """,
        *each_method(lambda: team(handover(), "It is sunny.", output_mode="full_history"), ASKED, only="invoke"),
    )


@pytest.mark.slow
def test_a_forwarded_message_is_the_answer_of_the_expert(watch: Watch):
    create_forward = import_optional("langgraph_supervisor.handoff", "create_forward_message_tool")

    def make() -> Any:
        forward = tool_request(call("forward_message", "f1", from_agent="forecaster"))
        return team(handover(), forward, tools=[create_forward("supervisor")])

    watch(
        """
        prompt @1 forecaster/model "You forecast."
        prompt @2 agent/supervisor/agent "You supervise."
        user_message   "How is the weather in Oslo?"
        chain_start    team
          task         supervisor
            workflow   supervisor
              task     agent
                llm    gpt-4o-mini 10>5 $ calls=transfer_to_forecaster @2
              task     tools
                tool_call transfer_to_forecaster {}
                  observation {"output":"Successfully transferred to forecaster","goto":"forecaster","graph":"__parent__"}
          task         forecaster
            workflow   forecaster
              task     model
                llm    gpt-4o-mini 10>5 $ calls=weather @1
              task     tools
                tool_call weather {"city":"Oslo"}
                  observation {"output":"sunny in Oslo"}
              task     model
                llm    gpt-4o-mini 10>5 $ @1
          task         supervisor
            workflow   supervisor
              task     agent
                llm    gpt-4o-mini 10>5 $ calls=forward_message input ai:"Transferring back to supervisor" input tool:"Successfully transferred back to supervisor" @2
              task     tools
                tool_call forward_message {"from_agent":"forecaster"}
                  observation {"goto":"__end__","graph":"__parent__"}
          final_response "Sunny all day." @1
          chain_end    completed
        """,
        *each_method(make, ASKED, only="invoke ainvoke"),
    )


@pytest.mark.slow
def test_two_turns_of_a_team_are_one_conversation(watch: Watch):
    def make() -> Any:
        return team(handover(), "It is sunny.", handover("s2"), "Still sunny.", checkpointer=InMemorySaver())

    watch(
        """
        conversation c-1 of anonymous
        prompt @1 agent/supervisor/agent "You supervise."
        prompt @2 forecaster/model "You forecast."
        user_message   "How is the weather in Oslo?"
        chain_start    team
          task         supervisor
            workflow   supervisor
              task     agent
                llm    gpt-4o-mini 10>5 $ calls=transfer_to_forecaster @1
              task     tools
                tool_call transfer_to_forecaster {}
                  observation {"output":"Successfully transferred to forecaster","goto":"forecaster","graph":"__parent__"}
          task         forecaster
            workflow   forecaster
              task     model
                llm    gpt-4o-mini 10>5 $ calls=weather @2
              task     tools
                tool_call weather {"city":"Oslo"}
                  observation {"output":"sunny in Oslo"}
              task     model
                llm    gpt-4o-mini 10>5 $ internal => "Sunny all day." @2
          task         supervisor
            workflow   supervisor
              task     agent
                llm    gpt-4o-mini 10>5 $ input ai:"Transferring back to supervisor" input tool:"Successfully transferred back to supervisor" @1
          final_response "It is sunny." @1
          chain_end    completed
        user_message   "And now?"
        chain_start    team
          task         supervisor
            workflow   supervisor
              task     agent
                llm    gpt-4o-mini 10>5 $ calls=transfer_to_forecaster @1
              task     tools
                tool_call transfer_to_forecaster {}
                  observation {"output":"Successfully transferred to forecaster","goto":"forecaster","graph":"__parent__"}
          task         forecaster
            workflow   forecaster
              task     model
                llm    gpt-4o-mini 10>5 $ internal => "Still sunny." @2
          task         supervisor
            workflow   supervisor
              task     agent
                llm    gpt-4o-mini 10>5 $ input ai:"Transferring back to supervisor" input tool:"Successfully transferred back to supervisor" @1
          final_response "Still sunny." @1
          chain_end    completed
        """,
        *turns(make, ASKED, {"messages": [HumanMessage("And now?", id="h2")]}),
    )
