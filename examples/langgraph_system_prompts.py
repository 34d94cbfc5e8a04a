"""Requires: gati-greenflash[cli]; with OPENAI_API_KEY also langchain-openai

A LangGraph program whose nodes have different system prompts, in one conversation of two turns.
"""

import os
import uuid
from typing import Any

try:
    from langchain_core.messages import HumanMessage, SystemMessage
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.graph import END, START, MessagesState, StateGraph

    from gati import observe
    from gati.cli.show import print_conversation
    from gati.testing import ScriptedChatModel

    if os.environ.get("OPENAI_API_KEY"):
        from langchain_openai import ChatOpenAI
except ModuleNotFoundError:
    raise SystemExit(str(__doc__).splitlines()[0]) from None

router: Any = ScriptedChatModel(replies=["billing", "technique"])
expert: Any = ScriptedChatModel(replies=["Your invoice is in the account's menu.", "Hold the button for ten seconds."])
if os.environ.get("OPENAI_API_KEY"):
    router = expert = ChatOpenAI(model="gpt-4o-mini")

observe.init(agent_name="help-desk")

EXPERTS = {
    "billing": "You answer questions about invoices, in one sentence.",
    "technique": "You answer questions about the router, in one sentence.",
}


class State(MessagesState, total=False):
    topic: str


def route(state: State) -> dict[str, Any]:
    topics = " or ".join(EXPERTS)
    reply = router.invoke(
        [SystemMessage(f"Is this about {topics}? Answer with that word only."), state["messages"][-1]]
    )
    return {"topic": next((topic for topic in EXPERTS if topic in reply.text.lower()), "technique")}


def answer(state: State) -> dict[str, Any]:
    return {"messages": [expert.invoke([SystemMessage(EXPERTS[state["topic"]]), *state["messages"]])]}


graph = StateGraph(State)
graph.add_node("route", route)
graph.add_node("answer", answer)
graph.add_edge(START, "route")
graph.add_edge("route", "answer")
graph.add_edge("answer", END)
help_desk = graph.compile(checkpointer=InMemorySaver())

conversation = f"help-{uuid.uuid4()}"  # the LangGraph thread id is the conversation id
config: RunnableConfig = {"configurable": {"thread_id": conversation, "user_id": "ada"}}
for question in ("Where do I find my invoice?", "And how do I restart the router?"):
    print(help_desk.invoke({"messages": [HumanMessage(question)]}, config)["messages"][-1].text)

print(f"{observe.flush().delivered} messages delivered")
if "GREENFLASH_API_KEY" not in os.environ:
    print_conversation(conversation)
