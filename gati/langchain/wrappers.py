"""Wrappers that record embeddings and LangGraph stores, for which LangChain has no callbacks.

A wrapper behaves like the object it wraps and can be used in its place everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from langchain_core.embeddings import Embeddings
from langgraph.store.base import BaseStore, GetOp, ListNamespacesOp, Op, PutOp, SearchOp

from gati.langchain.snapshot import instance_dict

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


class RecordedSpan(Protocol):
    """The part of `observe.span` that wrappers use."""

    output: Any


class SpanFactory(Protocol):
    """The signature of `observe.span`. It is passed in, so this package does not depend on the public API."""

    def __call__(self, name: str, *, input: Any, kind: Any) -> AbstractContextManager[RecordedSpan]:  # noqa: A002 - the public name
        ...


class TracedEmbeddings(Embeddings):
    """Embeddings that record each call as an `embedding` step: the texts, and the size of the result.

    Args:
        inner: the embeddings to wrap.
        span: opens a span, as `observe.span` does.
    """

    def __init__(self, inner: Embeddings, span: SpanFactory) -> None:
        self._inner = inner
        self._span = span

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Call the wrapped object."""
        with self._open_span("embed_documents", texts=texts) as step:
            vectors = self._inner.embed_documents(texts)
            step.output = _vector_sizes(vectors)
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """Call the wrapped object."""
        with self._open_span("embed_query", text=text) as step:
            vector = self._inner.embed_query(text)
            step.output = _vector_sizes([vector])
        return vector

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Call the wrapped object."""
        with self._open_span("embed_documents", texts=texts) as step:
            vectors = await self._inner.aembed_documents(texts)
            step.output = _vector_sizes(vectors)
        return vectors

    async def aembed_query(self, text: str) -> list[float]:
        """Call the wrapped object."""
        with self._open_span("embed_query", text=text) as step:
            vector = await self._inner.aembed_query(text)
            step.output = _vector_sizes([vector])
        return vector

    def _open_span(self, name: str, **given: Any) -> AbstractContextManager[RecordedSpan]:
        model = _model_name(self._inner)
        return self._span(name, kind="embedding", input={"model": model, **given} if model else given)

    def __getattr__(self, name: str) -> Any:
        return _wrapped_attribute(self, name)


class TracedStore(BaseStore):
    """A LangGraph store that records its operations as `memory_read` and `memory_write` steps.

    Wrapping `batch` and `abatch` is enough: all other methods of a store call them.

    Args:
        inner: the store to wrap.
        span: opens a span, as `observe.span` does.
    """

    def __init__(self, inner: BaseStore, span: SpanFactory) -> None:
        self._inner = inner
        self._span = span
        self.supports_ttl = inner.supports_ttl
        self.ttl_config = inner.ttl_config

    def batch(self, ops: Iterable[Op]) -> list[Any]:
        """Call the wrapped store."""
        operations = list(ops)
        with self._open_span(operations) as step:
            results = self._inner.batch(operations)
            step.output = _describe_results(operations, results)
        return results

    async def abatch(self, ops: Iterable[Op]) -> list[Any]:
        """Call the wrapped store."""
        operations = list(ops)
        with self._open_span(operations) as step:
            results = await self._inner.abatch(operations)
            step.output = _describe_results(operations, results)
        return results

    def _open_span(self, ops: list[Op]) -> AbstractContextManager[RecordedSpan]:
        writes = any(isinstance(op, PutOp) for op in ops)
        name = "store." + (_operation_name(ops[0]) if len(ops) == 1 else "batch")
        described = [_describe_operation(op) for op in ops]
        given = described[0] if len(described) == 1 else {"operations": described}
        return self._span(name, kind="memory_write" if writes else "memory_read", input=given)

    def __getattr__(self, name: str) -> Any:
        return _wrapped_attribute(self, name)


def _wrapped_attribute(wrapper: Any, name: str) -> Any:
    # `_inner` is missing while a wrapper is copied or unpickled. Dunder methods of the wrapped object, such as
    # `__deepcopy__`, do not apply to the wrapper.
    if name == "_inner" or (name.startswith("__") and name.endswith("__")):
        raise AttributeError(name)
    return getattr(wrapper._inner, name)


_MODEL_ATTRIBUTES = ("model", "model_name", "model_id", "deployment", "deployment_name")


def _model_name(embeddings: Embeddings) -> str | None:
    """Return the name of an embeddings model, which each integration keeps in an attribute of its own."""
    own = instance_dict(embeddings)
    return next((name for key in _MODEL_ATTRIBUTES if type(name := own.get(key)) is str and name), None)


def _vector_sizes(vectors: list[list[float]]) -> dict[str, int]:
    return {"vectors": len(vectors), "dimensions": len(vectors[0]) if vectors else 0}


def _operation_name(op: Op) -> str:
    if isinstance(op, PutOp):
        return "delete" if op.value is None else "put"
    return {GetOp: "get", SearchOp: "search", ListNamespacesOp: "list_namespaces"}.get(type(op), "operation")


def _describe_operation(op: Op) -> dict[str, Any]:
    if isinstance(op, PutOp):
        return {"namespace": list(op.namespace), "key": op.key, "value": op.value}
    if isinstance(op, GetOp):
        return {"namespace": list(op.namespace), "key": op.key}
    if isinstance(op, SearchOp):
        options = {"query": op.query, "filter": op.filter, "limit": op.limit}
        return {"namespace": list(op.namespace_prefix), **{k: v for k, v in options.items() if v is not None}}
    return {"operation": _operation_name(op)}


def _describe_results(ops: list[Op], results: list[Any]) -> Any:
    values = [_stored_value(result) for op, result in zip(ops, results, strict=False) if not isinstance(op, PutOp)]
    if not values:
        return None
    return {"output": values[0]} if len(values) == 1 else {"outputs": values}


def _stored_value(result: Any) -> Any:
    if isinstance(result, list):
        return [_stored_value(item) for item in result]
    value = getattr(result, "value", result)
    key = getattr(result, "key", None)
    return {"key": key, "value": value} if key is not None else value
