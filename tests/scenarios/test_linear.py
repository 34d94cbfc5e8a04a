"""The cost of a turn does not grow with the length of the conversation."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from gati._api.runtime import runtime
from gati.langchain.current import current
from gati.trace import records
from tests.scenarios.harness import Config, Watch
from tests.scenarios.scripts import call, model, reply, tool_request, weather

TURNS = (10, 50, 200)
PROMPT = ChatPromptTemplate([("system", "You are a weather clerk."), MessagesPlaceholder("messages")])


def respond(messages: list[BaseMessage]) -> Any:
    """Call the weather tool, then answer. Ids and texts have the same length in every turn."""
    number = sum(m.type == "human" for m in messages)
    if messages[-1].type == "human":
        return tool_request(call("weather", f"call_{number:05}", city="Paris"))
    return reply(f"Number {number:05}: {messages[-1].text}.")


def agent(checkpointer: Any = None) -> Any:
    chain = PROMPT | model(respond=respond).bind_tools([weather])

    def answer(state: MessagesState) -> Config:
        return {"messages": [chain.invoke({"messages": state["messages"]})]}

    graph = StateGraph(MessagesState).add_node("answer", answer).add_node("tools", ToolNode([weather]))
    graph.add_edge(START, "answer").add_conditional_edges("answer", tools_condition).add_edge("tools", "answer")
    return graph.compile(checkpointer)


def checkpointed(turns: int, config: Config) -> None:
    app = agent(InMemorySaver())
    for number in range(turns):
        asked = {"messages": [("user", f"The weather, for the {number:05}th time?")]}
        app.invoke(asked, {**config, "configurable": {"thread_id": "c-1"}, "recursion_limit": 20})


def whole_history(turns: int, config: Config) -> None:
    """Pass the whole history every turn, as most web front ends do."""
    app, history = agent(), list[Any]()
    for number in range(turns):
        history.append(HumanMessage(f"The weather, for the {number:05}th time?"))
        made = app.invoke({"messages": history}, {**config, "metadata": {"thread_id": "c-1"}})
        history.append(AIMessage(made["messages"][-1].text))


def chain_with_history(turns: int, config: Config) -> None:
    chain, history = PROMPT | model(respond=lambda m: f"Number {len(m):05}: sunny."), list[Any]()
    for number in range(turns):
        history.append(("user", f"The weather, for the {number:05}th time?"))
        answer = chain.invoke({"messages": history}, {**config, "metadata": {"thread_id": "c-1"}})
        history.append(("assistant", answer.text))


def texts_in(value: Any) -> int:
    """Count the characters in the values of a record."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(texts_in(item) for pair in value.items() for item in pair)
    if isinstance(value, (list, tuple)):
        return sum(map(texts_in, value))
    return 0


@pytest.mark.parametrize("converse", [checkpointed, whole_history, chain_with_history])
@pytest.mark.timeout(240)
def test_the_cost_of_a_turn_does_not_depend_on_the_length_of_the_conversation(
    watch: Watch, converse: Callable[[int, Config], None], monkeypatch: pytest.MonkeyPatch
):
    cost: dict[int, list[float]] = {}
    for turns in TURNS:
        kept: list[Any] = []

        def program(config: Config, turns: int = turns, kept: list[Any] = kept) -> None:
            recorder, pipeline = current.recorder, runtime.pipeline
            assert recorder is not None
            assert pipeline is not None

            def put(record: records.Record) -> None:
                kept.append(record)
                pipeline.put(record)

            recorder.put = put
            converse(turns, config)

        traced = watch.trace(program)
        sent = sum(len(json.dumps(message)) for body in traced.requests for message in body["messages"])
        whole = sum(len(json.dumps(body)) for body in traced.requests)
        cost[turns] = [
            sent / turns,
            whole / turns,
            len(traced.messages) / turns,
            len(kept) / turns,
            texts_in(kept) / turns,
        ]
        transcript = traced.transcript()
        assert len(transcript) == 2 * turns
        assert len({text for _, text in transcript}) == 2 * turns
    for turns in TURNS[1:]:
        assert cost[turns] == pytest.approx(cost[TURNS[0]], rel=0.1), cost
