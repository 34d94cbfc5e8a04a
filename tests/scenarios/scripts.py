"""What the programs of the agent scenarios are made of: scripted answers and small tools."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.tools import tool

from gati.testing.scripted_model import ScriptedChatModel
from tests.scenarios.harness import Config, Program

ASKED = {"messages": [HumanMessage("Draw a cat.", id="h1")]}


def says(text: Any, **more: Any) -> AIMessage:
    """An answer that took 10 tokens and gave 5, so that goldens need no sums."""
    return AIMessage(text, usage_metadata=UsageMetadata(input_tokens=10, output_tokens=5, total_tokens=15), **more)


def call(name: str, id: str = "c1", **args: Any) -> dict[str, Any]:
    """A request of a model to run a tool."""
    return {"name": name, "args": args, "id": id, "type": "tool_call"}


def asks(*calls: dict[str, Any], text: str = "") -> AIMessage:
    """An answer that asks for tools."""
    return says(text, tool_calls=list(calls))


def model(*replies: Any, **more: Any) -> ScriptedChatModel:
    """A chat model that gives these answers in order; texts count 10 tokens in and 5 out."""
    return ScriptedChatModel(replies=[says(r) if isinstance(r, str) else r for r in replies], **more)


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


@tool
def delete(path: str) -> str:
    """Delete a file."""
    return f"deleted {path}"


def turns(make: Any, *inputs: Any, only: str = "invoke ainvoke stream") -> list[Program]:
    """Programs that run each input in one thread, one after the other."""

    def own(config: Config) -> Config:
        return {**config, "configurable": {"thread_id": "c-1"}}

    def given(graph: Any, one: Any, config: Config) -> Any:
        return one(graph, own(config)) if callable(one) else one

    def last(state: Any) -> Any:
        return state["messages"][-1].text if state.get("messages") else state

    def invoke(config: Config) -> Any:
        graph = make()
        return [last(graph.invoke(given(graph, one, config), own(config))) for one in inputs]

    async def ainvoke(config: Config) -> Any:
        graph = make()
        return [last(await graph.ainvoke(given(graph, one, config), own(config))) for one in inputs]

    def stream(config: Config) -> Any:
        graph = make()
        return [len(list(graph.stream(given(graph, one, config), own(config)))) for one in inputs]

    return [program for program in (invoke, ainvoke, stream) if program.__name__ in only.split()]
