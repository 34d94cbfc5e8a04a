"""Several agents in one conversation: sub-agents, supervisors and handoffs. Each keeps its prompt."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import InjectedToolCallId, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command
from typing_extensions import TypedDict

from tests.optional import create_agent
from tests.scenarios.harness import Config, Watch, each_method
from tests.scenarios.scripts import call, model, tool_request, weather

ASKED = {"messages": [("user", "Plan a day in Oslo.")]}
BOTH = "invoke ainvoke"


def test_a_sub_agent_in_a_tool_is_internal(watch: Watch):
    def planner() -> Any:
        forecaster = create_agent(
            model(tool_request(call("weather", "w1", city="Oslo")), "Sunny all day."),
            [weather],
            system_prompt="You are a forecaster.",
            name="forecaster",
        )

        @tool
        def forecast(city: str) -> str:
            """Return a forecast."""
            state = forecaster.invoke({"messages": [HumanMessage(f"Forecast for {city}, please.")]})
            return str(state["messages"][-1].text)

        return create_agent(
            model(tool_request(call("forecast", "f1", city="Oslo")), "Take a walk."),
            [forecast],
            system_prompt="You plan days.",
            name="planner",
        )

    watch(
        """
        prompt @1 planner/model "You plan days."
        prompt @2 forecaster/model "You are a forecaster."
        user_message   "Plan a day in Oslo."
        chain_start    planner
          task         model
            llm        gpt-4o-mini 10>5 $ calls=forecast @1
          task         tools
            tool_call  forecast {"city":"Oslo"}
              workflow forecaster
                task   model
                  llm  gpt-4o-mini 10>5 $ internal calls=weather input human:"Forecast for Oslo, please." @2
                task   tools
                  tool_call weather {"city":"Oslo"}
                    observation {"output":"sunny in Oslo"}
                task   model
                  llm  gpt-4o-mini 10>5 $ internal => "Sunny all day." @2
              observation {"output":"Sunny all day."}
          task         model
            llm        gpt-4o-mini 10>5 $ @1
          final_response "Take a walk." @1
          chain_end    completed
        """,
        *each_method(planner, ASKED, only=BOTH),
    )


def test_a_direct_answer_from_a_sub_agent_is_reported_once(watch: Watch):
    """A tool with `return_direct` returns the answer of the sub-agent, which is recorded once."""

    def front() -> Any:
        @tool(return_direct=True)
        def ask_expert(question: str) -> str:
            """Ask the expert."""
            state = create_agent(model("Forty-two."), name="expert").invoke({"messages": [HumanMessage(question)]})
            return str(state["messages"][-1].text)

        return create_agent(model(tool_request(call("ask_expert", question="The answer?"))), [ask_expert])

    watch(
        """
        user_message   "Plan a day in Oslo."
        chain_start    LangGraph
          task         model
            llm        gpt-4o-mini 10>5 $ calls=ask_expert
          task         tools
            tool_call  ask_expert {"question":"The answer?"}
              workflow expert
                task   model
                  llm  gpt-4o-mini 10>5 $ internal input human:"The answer?" => "Forty-two."
              observation {"output":"Forty-two."}
          final_response "Forty-two."
          chain_end    completed
        """,
        *each_method(front, ASKED, only=BOTH),
    )


def test_a_supervisor_hands_over_with_a_command(watch: Watch):
    class Route(TypedDict):
        next: Literal["painter", "done"]

    def supervised() -> Any:
        router = model('{"next": "painter"}', '{"next": "done"}')

        def supervisor(state: MessagesState) -> Command[Any]:
            answer = router.invoke([("system", "You route."), *state["messages"]]).text
            return Command(goto="painter" if "painter" in answer else END)

        builder = StateGraph(MessagesState)
        builder.add_node("supervisor", supervisor, destinations=("painter", END))
        builder.add_node(
            "painter", create_agent(model("It is painted blue."), system_prompt="You paint.", name="painter")
        )
        builder.add_edge(START, "supervisor")
        builder.add_edge("painter", "supervisor")
        return builder.compile(name="studio")

    watch(
        """
        prompt @1 painter/model "You paint."
        prompt @2 agent/supervisor "You route."
        user_message   "Plan a day in Oslo."
        chain_start    studio
          task         supervisor
            llm        gpt-4o-mini 10>5 $ internal => "{\\"next\\": \\"painter\\"}" @2
          task         painter
            workflow   painter
              task     model
                llm    gpt-4o-mini 10>5 $ @1
          task         supervisor
            llm        gpt-4o-mini 10>5 $ internal => "{\\"next\\": \\"done\\"}" @2
          final_response "It is painted blue." @1
          chain_end    completed
        """,
        *each_method(supervised, ASKED),
    )


def transfer_to(name: str) -> Any:
    """Return a handoff tool as swarms use it: it leaves its own graph."""

    @tool(f"transfer_to_{name}")
    def transfer(tool_call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
        """Hand the conversation over."""
        done = ToolMessage(f"now with {name}", name=f"transfer_to_{name}", tool_call_id=tool_call_id)
        return Command(goto=name, graph=Command.PARENT, update={"messages": [done], "active": name})

    return transfer


class Swarm(MessagesState):
    active: str


def swarm(first: list[Any], second: list[Any]) -> Any:
    sales = create_agent(model(*first), [transfer_to("support")], system_prompt="You sell.", name="sales")
    support = create_agent(model(*second), [transfer_to("sales")], system_prompt="You help.", name="support")
    builder = StateGraph(Swarm)
    builder.add_node("sales", sales, destinations=("support",))
    builder.add_node("support", support, destinations=("sales",))
    builder.add_conditional_edges(START, lambda state: state.get("active") or "sales", ["sales", "support"])
    return builder.compile(name="shop", checkpointer=InMemorySaver())


def test_a_swarm_handoff_is_not_an_error(watch: Watch):
    def program(config: Config) -> Any:
        graph = swarm(
            [tool_request(call("transfer_to_support", "t1"))],
            ["How can I help?", "Restart it."],
        )
        own = {**config, "configurable": {"thread_id": "c-1"}}
        graph.invoke({"messages": [HumanMessage("My bike is broken.", id="h1")]}, own)
        return graph.invoke({"messages": [HumanMessage("It does not start.", id="h2")]}, own)["messages"][-1].text

    watch(
        """
        conversation c-1 of anonymous
        prompt @1 support/model "You help."
        prompt @2 sales/model "You sell."
        user_message   "My bike is broken."
        chain_start    shop
          task         sales
            workflow   sales
              task     model
                llm    gpt-4o-mini 10>5 $ calls=transfer_to_support @2
              task     tools
                tool_call transfer_to_support {}
                  observation {"output":"now with support","goto":"support","graph":"__parent__"}
          task         support
            workflow   support
              task     model
                llm    gpt-4o-mini 10>5 $ @1
          final_response "How can I help?" @1
          chain_end    completed
        user_message   "It does not start."
        chain_start    shop
          task         support
            workflow   support
              task     model
                llm    gpt-4o-mini 10>5 $ @1
          final_response "Restart it." @1
          chain_end    completed
        """,
        program,
    )


def test_agents_in_parallel_keep_their_prompts(watch: Watch):
    def team() -> Any:
        def speaker_node(name: str, text: str) -> Any:
            def node(state: MessagesState) -> dict[str, Any]:
                message = model(text).invoke([("system", f"You are {name}."), *state["messages"]])
                return {"messages": [message]} if name == "speaker" else {}

            return node

        builder = StateGraph(MessagesState)
        for name, text in (("critic", "Too long."), ("fact_checker", "True."), ("speaker", "Walk to the opera.")):
            builder.add_node(name, speaker_node(name, text))
            builder.add_edge(START, name)
        return builder.compile(name="team")

    watch(
        """
        prompt @1 agent/critic "You are critic."
        prompt @2 agent/fact_checker "You are fact_checker."
        prompt @3 agent/speaker "You are speaker."
        user_message   "Plan a day in Oslo."
        chain_start    team
          task         critic
            llm        gpt-4o-mini 10>5 $ internal => "Too long." @1
          task         fact_checker
            llm        gpt-4o-mini 10>5 $ internal => "True." @2
          task         speaker
            llm        gpt-4o-mini 10>5 $ @3
          final_response "Walk to the opera." @3
          chain_end    completed
        """,
        *each_method(team, ASKED, only="ainvoke"),
        unordered=True,
    )
