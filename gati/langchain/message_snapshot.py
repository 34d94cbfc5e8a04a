"""LangChain's chat messages → `Message`, in the user's thread: the fields that tell something, as they stand now.

A pydantic model keeps its fields in its `__dict__`; reading them there runs no code. LangChain does
not check what is assigned to them later: any of them may hold anything.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from operator import itemgetter
from types import NoneType
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from gati.langchain import snapshot
from gati.langchain.snapshot import BUDGET, KEYS, SHARED, freeze
from gati.trace.records import Message

_NOT_KEPT = frozenset({"tool_calls", "function_call", "parsed", "logprobs"})
"""Parts of a message's extra data that stand elsewhere or are of no use to a reader."""
_Frozen = Callable[[Any, int], Any]
"""Copies a value within a budget."""


class _Roles(dict[type, "str | None"]):
    def __missing__(self, kind: type) -> str | None:
        if len(self) > 1_000:  # a program that makes classes as it runs
            self.clear()
        role: str | None = None
        if issubclass(kind, BaseMessage):
            default = kind.model_fields["type"].default
            role = default if type(default) is str else ""
        self[kind] = role
        return role


ROLES = _Roles()
"""The role of a class's messages: "" where each says it itself, None where the objects are no messages.
One look into a dict, because pydantic makes `isinstance` slow."""

_COMMON = itemgetter("type", "content", "id", "name", "additional_kwargs")
_BLANK = {"type": "", "content": "", "id": None, "name": None, "additional_kwargs": None}
_USUAL = frozenset(product((str,), (str,), (str, NoneType), (str, NoneType)))
"""Types of the first four fields in nearly every message: those need no copy."""
_PLAIN = frozenset({HumanMessage, SystemMessage})
"""Classes whose messages have no further fields."""
_new = tuple.__new__
"""Makes a NamedTuple at half the cost of calling it."""


def message(value: BaseMessage, result: bool = False, frozen: _Frozen = freeze) -> Message:
    """A chat message as it stands now; `result` adds what only a model's answer carries."""
    have = value.__dict__
    try:
        role, content, id_, name, extra = _COMMON(have)
    except KeyError:
        role, content, id_, name, extra = _COMMON({**_BLANK, **have})
    if (type(role), type(content), type(id_), type(name)) not in _USUAL:
        role = role if type(role) is str else ""
        content, id_, name = frozen(content, BUDGET), frozen(id_, 1), frozen(name, 1)
    kind, get = type(value), have.get
    if type(extra) is dict and not extra and not result and kind in _PLAIN:
        return _new(Message, (role, content, id_, name, (), (), None, None, None, None, None))
    calls, bad = get("tool_calls"), get("invalid_tool_calls")
    call_id = status = artifact = None
    if kind is not AIMessage:
        call_id, status, artifact = get("tool_call_id"), get("status"), get("artifact")
        if type(call_id) not in SHARED or type(status) not in SHARED:
            call_id, status = frozen(call_id, 1), frozen(status, 1)
    return _new(
        Message,
        (
            role,
            content,
            id_,
            name,
            () if calls is None or (type(calls) is list and not calls) else _calls(calls, frozen),
            () if bad is None or (type(bad) is list and not bad) else _calls(bad, frozen),
            call_id,
            status,
            _extra(extra, artifact, frozen) if artifact is not None or type(extra) is not dict or extra else None,
            freeze(get("usage_metadata"), 300) if result else None,
            response_metadata(get("response_metadata")) if result else None,
        ),
    )


def tool_message(value: BaseMessage) -> Message:
    """What a tool returned, with its artifact as a whole: here it is told, and nowhere else."""
    return message(value, frozen=lambda inner, _: freeze(inner))


def _calls(calls: Any, frozen: _Frozen) -> tuple[Any, ...]:
    copied = []
    for call in calls if type(calls) is list or type(calls) is tuple else (calls,):
        if type(call) is not dict:
            copied.append(frozen(call, BUDGET))
            continue
        own = call.copy()
        arguments = own.get("args")
        if arguments is not None:
            own["args"] = None
        if not (SHARED.issuperset(map(type, own.values())) and KEYS.issuperset(map(type, own))):
            own = {k: frozen(v, BUDGET) for k, v in own.items() if type(k) is str}
        if arguments is not None:
            own["args"] = frozen(arguments, BUDGET)
        copied.append(own)
    return tuple(copied)


def _extra(extra: Any, artifact: Any, frozen: _Frozen) -> dict[str, Any] | None:
    kept: dict[str, Any] = {}
    if type(extra) is dict:
        kept = {k: frozen(v, 200) for k, v in extra.items() if k not in _NOT_KEPT and v is not None}
    elif extra is not None:
        kept["additional_kwargs"] = frozen(extra, 200)
    if artifact is not None:
        kept["artifact"] = frozen(artifact, 200)
    return kept or None


def response_metadata(value: Any) -> dict[str, Any] | None:
    """A model's `response_metadata` or `llm_output` without the bulky parts."""
    if type(value) is not dict:
        frozen = freeze(value, 200)
        return frozen if type(frozen) is dict and frozen else None
    copied = value.copy()
    if SHARED.issuperset(map(type, copied.values())) and _NOT_KEPT.isdisjoint(copied):
        return copied or None
    return {k: v if type(v) in SHARED else freeze(v, 200) for k, v in copied.items() if k not in _NOT_KEPT} or None


def _nested(copier: snapshot.Copier, value: Any, depth: int) -> Message:
    # With the budget of the whole: messages that hold each other would else be copied without end.
    return message(value, frozen=lambda inner, _: copier.copy(inner, depth))


snapshot.copied_by(BaseMessage, _nested)
