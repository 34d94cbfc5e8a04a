"""Wrapped stores and embeddings record their operations."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest
from langgraph.config import get_store
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore

from gati import observe
from gati.events import EmbeddingEvent, Event, MemoryEvent
from gati.testing import Captured, capture


def memory(captured: Captured) -> list[tuple[str, bool, dict[str, Any], dict[str, Any]]]:
    found: list[Event] = [event for turn in captured.turns for event in turn.events]
    return [(e.name, e.write, e.input, e.output) for e in found if isinstance(e, MemoryEvent)]


def test_reads_and_writes_are_recorded_with_their_results() -> None:
    store = observe.wrap_store(InMemoryStore())
    with capture(conversation_id="c") as captured:
        store.put(("users", "ada"), "likes", {"bike": "red"})
        found = store.get(("users", "ada"), "likes")
        store.search(("users",))
        store.delete(("users", "ada"), "likes")
    assert found is not None
    assert found.value == {"bike": "red"}
    where = {"namespace": ["users", "ada"], "key": "likes"}
    assert memory(captured) == [
        ("store.put", True, {**where, "value": {"bike": "red"}}, {}),
        ("store.get", False, where, {"output": {"key": "likes", "value": {"bike": "red"}}}),
        (
            "store.search",
            False,
            {"namespace": ["users"], "limit": 10},
            {"output": [{"key": "likes", "value": {"bike": "red"}}]},
        ),
        ("store.delete", True, {**where, "value": None}, {}),
    ]


def test_async_operations_are_recorded() -> None:
    store = observe.wrap_store(InMemoryStore())

    async def program() -> None:
        await store.aput(("a",), "k", {"v": 1})
        await store.aget(("a",), "k")

    with capture(conversation_id="c") as captured:
        asyncio.run(program())
    assert [name for name, *_ in memory(captured)] == ["store.put", "store.get"]


def test_store_operations_are_children_of_the_graph_node() -> None:
    def remember(state: MessagesState) -> dict[str, Any]:
        get_store().put(("notes",), "last", {"text": str(state["messages"][-1].content)})
        return {}

    graph = StateGraph(MessagesState)
    graph.add_node("remember", remember)
    graph.add_edge(START, "remember")
    app = graph.compile(store=observe.wrap_store(InMemoryStore()))
    with capture(conversation_id="c") as captured:
        app.invoke({"messages": [("user", "I like red bikes.")]})
    turn = captured.turns[0]
    node = next(event for event in turn.events if event.name == "remember")
    write = next(event for event in turn.events if isinstance(event, MemoryEvent))
    assert write.parent_event_id == node.event_id


def test_the_store_wrapper_delegates_other_attributes() -> None:
    class Special(InMemoryStore):
        motto = "kept"

    store: Any = observe.wrap_store(Special())
    assert isinstance(store, BaseStore)
    assert store.motto == "kept"
    assert copy.copy(store).motto == "kept"


def test_the_embeddings_wrapper_delegates_other_attributes() -> None:
    pytest.importorskip("numpy", reason="needs numpy")
    from langchain_core.embeddings import DeterministicFakeEmbedding

    inner = DeterministicFakeEmbedding(size=3)
    watched: Any = observe.wrap_embeddings(inner)
    with capture(conversation_id="c") as captured:
        assert asyncio.run(watched.aembed_query("a")) == inner.embed_query("a")
    (event,) = [event for turn in captured.turns for event in turn.events if isinstance(event, EmbeddingEvent)]
    assert (event.input, event.output) == ({"text": "a"}, {"vectors": 1, "dimensions": 3})
    assert watched.size == 3
    assert copy.copy(watched).size == 3


def test_an_operation_without_a_key_is_recorded_by_name() -> None:
    store = observe.wrap_store(InMemoryStore())
    with capture(conversation_id="c") as captured:
        store.put(("a",), "k", {"v": 1})
        assert store.list_namespaces() == [("a",)]
    name, write, given, _ = memory(captured)[-1]
    assert (name, write, given) == ("store.list_namespaces", False, {"operation": "list_namespaces"})
