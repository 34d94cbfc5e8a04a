"""The program recorded by all tracers: graph, tool, retriever, fallback, streams.

Needs only langchain-core and langgraph, and is deterministic.
"""

from __future__ import annotations

import asyncio
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from gati.testing.scripted_model import ScriptedChatModel

Config = dict[str, Any]


class Library(BaseRetriever):
    """Returns the same page for every query."""

    def _get_relevant_documents(self, query: str, **_: Any) -> list[Document]:
        return [Document("Paris is the capital of France.", metadata={"page": 7})]


@tool
def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


def reply(text: str, **more: Any) -> AIMessage:
    return AIMessage(text, usage_metadata=UsageMetadata(input_tokens=10, output_tokens=5, total_tokens=15), **more)


def agent() -> Any:
    """Return a graph whose model calls a tool, then answers."""
    asks = reply("", tool_calls=[{"name": "multiply", "args": {"a": 6, "b": 7}, "id": "call-1", "type": "tool_call"}])
    model = ScriptedChatModel(replies=[asks, reply("It is forty-two.")]).bind_tools([multiply])
    builder = StateGraph(MessagesState)
    builder.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    builder.add_node("tools", ToolNode([multiply]))
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", tools_condition)
    builder.add_edge("tools", "model")
    return builder.compile(checkpointer=InMemorySaver(), name="calculator")


def chain() -> Any:
    """Return a chain of a retriever, a prompt, and a failing model with a fallback."""
    prompt = ChatPromptTemplate([("system", "Answer from {found}."), ("human", "{question}")])
    broken = ScriptedChatModel(replies=[RuntimeError("no model today")])
    stand_in = ScriptedChatModel(replies=[reply("Paris.")])
    found = Library() | RunnableLambda(lambda documents: documents[0].page_content, name="page")
    question = RunnableLambda(lambda text: text, name="question")
    return {"question": question, "found": found} | prompt | broken.with_fallbacks([stand_in])


def refuses(text: str) -> str:
    raise ValueError(f"not {text}")


def run_program(handlers: list[BaseCallbackHandler] | None = None) -> list[str]:
    """Run everything once and return the results. `handlers` are passed to each call."""
    given = {"messages": [("user", "What is 6 times 7?")]}

    def config(thread: str) -> Any:
        more = {"callbacks": handlers} if handlers else {}
        return {"configurable": {"thread_id": thread, "user_id": "ada"}, **more}

    outcome: list[Any] = [agent().invoke(given, config("invoked"))["messages"][-1].content]
    outcome += [str(mode) for mode, _ in agent().stream(given, config("s"), stream_mode=["messages", "updates"])]
    outcome.append(chain().invoke("What is the capital?", config("chain")).content)
    try:
        RunnableLambda(refuses, name="refuses").invoke("today", config("failed"))
    except ValueError as error:
        outcome.append(str(error))

    async def streamed() -> None:
        async for event in agent().astream_events(given, config("events"), version="v2"):
            outcome.append(f"{event['event']} {event['name']}")
        log = [op async for patch in chain().astream_log("What is the capital?", config("log")) for op in patch.ops]
        # Concurrent steps are reported in any order.
        outcome.extend(sorted(f"{op['op']} {op['path'].split(':')[0]}" for op in log))

    asyncio.run(streamed())
    return outcome
