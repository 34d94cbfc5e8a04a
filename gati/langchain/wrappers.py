"""Embeddings and stores that tell what they do: LangChain gives no callback for either.

Each wrapper stands in for the object it wraps, everywhere that object may stand.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langchain_core.embeddings import Embeddings
from langgraph.store.base import BaseStore, GetOp, ListNamespacesOp, Op, PutOp, SearchOp

from gati._spans import span


class WatchedEmbeddings(Embeddings):
    """Embeddings whose calls are `embedding` steps: the texts, and how many numbers came back."""

    def __init__(self, inner: Embeddings) -> None:
        self._inner = inner

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """As of the wrapped object."""
        with span("embed_documents", kind="embedding", input={"texts": texts}) as step:
            vectors = self._inner.embed_documents(texts)
            step.output = _size(vectors)
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """As of the wrapped object."""
        with span("embed_query", kind="embedding", input={"text": text}) as step:
            vector = self._inner.embed_query(text)
            step.output = _size([vector])
        return vector

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """As of the wrapped object."""
        with span("embed_documents", kind="embedding", input={"texts": texts}) as step:
            vectors = await self._inner.aembed_documents(texts)
            step.output = _size(vectors)
        return vectors

    async def aembed_query(self, text: str) -> list[float]:
        """As of the wrapped object."""
        with span("embed_query", kind="embedding", input={"text": text}) as step:
            vector = await self._inner.aembed_query(text)
            step.output = _size([vector])
        return vector

    def __getattr__(self, name: str) -> Any:
        return _inner(self, name)


class WatchedStore(BaseStore):
    """A LangGraph store whose operations are `memory_read` and `memory_write` steps.

    All methods of a store lead to `batch` and `abatch`.
    """

    def __init__(self, inner: BaseStore) -> None:
        self._inner = inner
        self.supports_ttl = inner.supports_ttl
        self.ttl_config = inner.ttl_config

    def batch(self, ops: Iterable[Op]) -> list[Any]:
        """As of the wrapped store."""
        operations = list(ops)
        with _step(operations) as step:
            results = self._inner.batch(operations)
            step.output = _found(operations, results)
        return results

    async def abatch(self, ops: Iterable[Op]) -> list[Any]:
        """As of the wrapped store."""
        operations = list(ops)
        with _step(operations) as step:
            results = await self._inner.abatch(operations)
            step.output = _found(operations, results)
        return results

    def __getattr__(self, name: str) -> Any:
        return _inner(self, name)


def _inner(wrapper: Any, name: str) -> Any:
    # Not set yet while being copied or unpickled; and how the wrapped object is copied (Python 3.10 asks for
    # `__getstate__`) is not how the wrapper is.
    if name == "_inner" or (name.startswith("__") and name.endswith("__")):
        raise AttributeError(name)
    return getattr(wrapper._inner, name)


def _size(vectors: list[list[float]]) -> dict[str, int]:
    return {"vectors": len(vectors), "dimensions": len(vectors[0]) if vectors else 0}


def _step(ops: list[Op]) -> span:
    writes = any(isinstance(op, PutOp) for op in ops)
    name = "store." + (_verb(ops[0]) if len(ops) == 1 else "batch")
    told = [_told(op) for op in ops]
    given = told[0] if len(told) == 1 else {"operations": told}
    return span(name, kind="memory_write" if writes else "memory_read", input=given)


def _verb(op: Op) -> str:
    if isinstance(op, PutOp):
        return "delete" if op.value is None else "put"
    return {GetOp: "get", SearchOp: "search", ListNamespacesOp: "list_namespaces"}.get(type(op), "operation")


def _told(op: Op) -> dict[str, Any]:
    if isinstance(op, PutOp):
        return {"namespace": list(op.namespace), "key": op.key, "value": op.value}
    if isinstance(op, GetOp):
        return {"namespace": list(op.namespace), "key": op.key}
    if isinstance(op, SearchOp):
        asked = {"query": op.query, "filter": op.filter, "limit": op.limit}
        return {"namespace": list(op.namespace_prefix), **{k: v for k, v in asked.items() if v is not None}}
    return {"operation": _verb(op)}


def _found(ops: list[Op], results: list[Any]) -> Any:
    told = [_value(result) for op, result in zip(ops, results, strict=False) if not isinstance(op, PutOp)]
    if not told:
        return None
    return {"output": told[0]} if len(told) == 1 else {"outputs": told}


def _value(result: Any) -> Any:
    if isinstance(result, list):
        return [_value(item) for item in result]
    value = getattr(result, "value", result)
    key = getattr(result, "key", None)
    return {"key": key, "value": value} if key is not None else value
