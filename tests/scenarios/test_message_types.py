"""All 18 message types in one conversation, each in its place."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
from langchain_core.callbacks import dispatch_custom_event
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_core.vectorstores import InMemoryVectorStore
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, interrupt

from gati import observe
from tests.scenarios.harness import Config, Watch
from tests.scenarios.scripts import model, reply

pytestmark = pytest.mark.skipif(find_spec("numpy") is None, reason="the embeddings need numpy")

TYPES = {
    "assistant_message", "callback", "chain_end", "chain_start", "embedding", "final_response", "llm", "memory_read",
    "memory_write", "observation", "retrieval", "system_message", "task", "thought", "tool_call", "tool_error",
    "user_message", "workflow",
}  # fmt: skip


@tool
def length(text: str) -> int:
    """Return the length of a text."""
    if not text:
        raise ValueError("nothing to measure")
    return len(text)


def everything() -> Any:
    """Return a graph that produces every message type."""
    store = observe.wrap_store(InMemoryStore())
    embeddings = observe.wrap_embeddings(DeterministicFakeEmbedding(size=4))
    library = InMemoryVectorStore(embeddings)

    def recall(state: MessagesState) -> dict[str, Any]:
        store.put(("users", "ada"), "tea", {"likes": "green"})
        store.get(("users", "ada"), "tea")
        return {}

    def seek(state: MessagesState) -> dict[str, Any]:
        library.add_documents([Document("Tea is brewed at 80 degrees.", id="d1")])
        library.as_retriever(search_kwargs={"k": 1}).invoke("tea")
        return {}

    def use(state: MessagesState) -> dict[str, Any]:
        length.invoke({"text": "tea"})
        try:
            length.invoke({"text": ""})
        except ValueError:
            dispatch_custom_event("nothing_measured", {"tries": 1})
        return {}

    thinker = model(
        reply([{"type": "reasoning", "reasoning": "Green, then."}, {"type": "text", "text": "80 degrees."}])
    )
    inner = StateGraph(MessagesState)
    inner.add_node("think", lambda state: {"messages": [thinker.invoke(state["messages"])]})
    inner.add_edge(START, "think")

    builder = StateGraph(MessagesState)
    builder.add_sequence([recall, seek, use])
    builder.add_node("ask", lambda state: {"messages": [HumanMessage("Sort: " + interrupt("Which tea?"), id="h9")]})
    builder.add_node("answer", inner.compile(name="thinking"))
    builder.add_edge(START, "recall")
    builder.add_edge("use", "ask")
    builder.add_edge("ask", "answer")
    return builder.compile(name="tea", checkpointer=InMemorySaver())


def test_each_message_type_appears_in_its_place(watch: Watch):
    def program(config: Config) -> Any:
        graph, own = everything(), {**config, "configurable": {"thread_id": "c-1"}}
        messages = [HumanMessage("How hot is tea?", id="h1"), SystemMessage("Be brief.", id="s1")]
        graph.invoke({"messages": messages}, own)
        return graph.invoke(Command(resume="green"), own)["messages"][-1].text

    traced = watch(
        """
        conversation c-1 of anonymous
        user_message   "How hot is tea?"
        system_message "Be brief."
        chain_start    tea
          task         recall
            memory_write store.put {"namespace":["users","ada"],"key":"tea","value":{"likes":"green"}}
            memory_read store.get {"namespace":["users","ada"],"key":"tea"} => {"output":{"key":"tea",\
"value":{"likes":"green"}}}
          task         seek
            embedding  embed_documents {"texts":["Tea is brewed at 80 degrees."]} => {"vectors":1,"dimensions":4}
            retrieval  "tea" => "Tea is brewed at 80 degrees."
            embedding  embed_query {"text":"tea"} => {"vectors":1,"dimensions":4}
          task         use
            tool_call  length {"text":"tea"}
              observation {"output":3}
            tool_call  length {"text":""}
              tool_error ValueError: nothing to measure handled
            callback   nothing_measured {"tries":1}
          task         ask waiting
          assistant_message "Which tea?" waiting context="Tea is brewed at 80 degrees."
          chain_end    waiting
        user_message   "green" resumed
        chain_start    tea
          task         ask
          task         answer
            workflow   thinking
              task     think
                llm    gpt-4o-mini 10>5 $ input human:"Sort: green"
                  thought "Green, then."
          final_response "80 degrees."
          chain_end    completed
        """,
        program,
    )
    assert {message["messageType"] for message in traced.messages} == TYPES


def test_detail_conversation_delivers_only_messages_tools_and_retrievals(watch: Watch):
    def program(config: Config) -> Any:
        graph, own = everything(), {**config, "configurable": {"thread_id": "c-1"}}
        graph.invoke({"messages": [HumanMessage("How hot is tea?", id="h1")]}, own)
        return graph.invoke(Command(resume="green"), own)["messages"][-1].text

    watch(
        """
        conversation c-1 of anonymous
        user_message   "How hot is tea?"
        retrieval      "tea" => "Tea is brewed at 80 degrees."
        tool_call      length {"text":"tea"}
          observation  {"output":3}
        tool_call      length {"text":""}
          tool_error   ValueError: nothing to measure handled
        assistant_message "Which tea?" waiting context="Tea is brewed at 80 degrees."
        user_message   "green" resumed
        final_response "80 degrees."
        """,
        program,
        detail="conversation",
    )
