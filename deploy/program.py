"""A program of the fleet: a LangGraph agent with a tool, asked once a second. It needs no key of a model.

The queue comes from GATI_QUEUE. SIGTERM ends the program after its exit hooks have published what is finished.
"""

import itertools
import os
import signal
import sys
import threading

from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.graph import MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from gati import observe
from gati.testing import ScriptedChatModel

CUSTOMERS = ("ada", "grace", "alan", "edsger")


@tool
def order_status(number: int) -> str:
    """Look up an order."""
    return f"Order {number} has left the warehouse."


def respond(messages: list) -> AIMessage:
    """Call the tool, then answer with its result."""
    if messages[-1].type == "tool":
        return AIMessage(messages[-1].text)
    call = {"name": "order_status", "args": {"number": 1_000 + len(messages)}, "id": f"call-{len(messages)}"}
    return AIMessage("", tool_calls=[call])


def needs_tool(state: MessagesState) -> str:
    """Return the next node."""
    return "tools" if state["messages"][-1].tool_calls else "__end__"


def build_agent():
    """Return a graph with a model and a tool."""
    model = ScriptedChatModel(respond=respond)
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_node("tools", ToolNode([order_status]))
    graph.set_entry_point("model")
    graph.add_conditional_edges("model", needs_tool)
    graph.add_edge("tools", "model")
    return graph.compile()


def main() -> None:
    """Ask until SIGTERM, or `TURNS` times."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    observe.init(agent_name="support")
    agent = build_agent()
    turns = int(os.environ.get("TURNS", "0"))
    for number in itertools.count(1):
        customer = CUSTOMERS[number % len(CUSTOMERS)]
        with observe.conversation(f"{os.environ.get('HOSTNAME', 'program')}-{customer}", user_id=customer):
            agent.invoke({"messages": [{"role": "user", "content": f"Where is my order? I ask for time {number}."}]})
        if number == turns or stopping.wait(float(os.environ.get("SECONDS_BETWEEN_TURNS", "1"))):
            break
    sys.exit(0 if observe.shutdown() else 1)


if __name__ == "__main__":
    main()
