"""Building blocks of the agent scenarios: scripted models and small tools."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.tools import tool

from gati.testing.scripted_model import ScriptedChatModel
from tests.scenarios.harness import Config, Program

ASKED = {"messages": [HumanMessage("Draw a cat.", id="h1")]}


def reply(text: Any, **more: Any) -> AIMessage:
    """Return an answer with 10 input and 5 output tokens."""
    return AIMessage(text, usage_metadata=UsageMetadata(input_tokens=10, output_tokens=5, total_tokens=15), **more)


def call(name: str, id: str = "c1", **args: Any) -> dict[str, Any]:
    """Return one tool call of a model."""
    return {"name": name, "args": args, "id": id, "type": "tool_call"}


def tool_request(*calls: dict[str, Any], text: str = "") -> AIMessage:
    """Return an answer that requests tool calls."""
    return reply(text, tool_calls=list(calls))


def model(*replies: Any, **more: Any) -> ScriptedChatModel:
    """Return a chat model that gives these answers in order. Texts become `reply(text)`."""
    return ScriptedChatModel(replies=[reply(r) if isinstance(r, str) else r for r in replies], **more)


@tool
def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"sunny in {city}"


@tool
def delete(path: str) -> str:
    """Delete a file."""
    return f"deleted {path}"


def turns(make: Any, *inputs: Any, only: str = "invoke ainvoke stream") -> list[Program]:
    """Return programs that run the inputs as turns of one thread."""

    def in_thread(config: Config) -> Config:
        return {**config, "configurable": {"thread_id": "c-1"}}

    def input_for(graph: Any, item: Any, config: Config) -> Any:
        return item(graph, in_thread(config)) if callable(item) else item

    def last_text(state: Any) -> Any:
        return state["messages"][-1].text if state.get("messages") else state

    def invoke(config: Config) -> Any:
        graph = make()
        return [last_text(graph.invoke(input_for(graph, item, config), in_thread(config))) for item in inputs]

    async def ainvoke(config: Config) -> Any:
        graph = make()
        return [last_text(await graph.ainvoke(input_for(graph, item, config), in_thread(config))) for item in inputs]

    def stream(config: Config) -> Any:
        graph = make()
        return [len(list(graph.stream(input_for(graph, item, config), in_thread(config)))) for item in inputs]

    return [program for program in (invoke, ainvoke, stream) if program.__name__ in only.split()]
