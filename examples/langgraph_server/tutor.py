"""Requires: gati-greenflash langgraph-cli[inmem]; with OPENAI_API_KEY also langchain-openai

The graph that the server runs (`langgraph dev`). The server loads this module, so this is the place for `observe.init`.
"""

import os
from typing import Any

from langchain_core.messages import BaseMessage
from langgraph.graph import START, MessagesState, StateGraph

from gati import observe
from gati.testing import ScriptedChatModel

observe.init(agent_name="tutor")


def echo(messages: list[BaseMessage]) -> str:
    return f"You asked: {messages[-1].text}"


model: Any = ScriptedChatModel(respond=echo)
if os.environ.get("OPENAI_API_KEY"):
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model="gpt-4o-mini")


async def answer(state: MessagesState) -> dict[str, Any]:
    return {"messages": [await model.ainvoke([("system", "You are a tutor."), *state["messages"]])]}


graph = StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").compile()
