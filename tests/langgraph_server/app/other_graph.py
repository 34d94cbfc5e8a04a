"""A second module that calls `init` with the same options, as projects with several graphs do."""

from __future__ import annotations

from typing import Any

from langgraph.graph import START, MessagesState, StateGraph

from gati import observe
from gati.testing import ScriptedChatModel

observe.init()
model = ScriptedChatModel(respond=lambda messages: f"Noted: {messages[-1].text}")


async def answer(state: MessagesState) -> dict[str, Any]:
    return {"messages": [await model.ainvoke(state["messages"])]}


graph = StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").compile()
