"""The user's objects → plain values that nobody else holds, in the user's thread.

Strings are shared (they cannot change), containers are copied within a budget, everything
else is described by its type. No code of the user's runs: no ``__repr__``, no property, no
iterator is called. A ``repr`` may query a database, and a generator may be read only once.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from types import NoneType
from typing import Any
from uuid import UUID

from langchain_core.messages import BaseMessage
from pydantic import BaseModel

from gati.trace.records import COMMAND, Fault, Message

BUDGET = 2_000
"""Most values copied by one snapshot; what is beyond is counted, not copied."""
DEPTH = 16
"""Deepest nesting copied."""
CUT = "…"
_SMALL = 16

_SHARED = frozenset({str, int, float, bool, NoneType, bytes})
_TEXTUAL = (UUID, datetime, date, time, timedelta, Decimal, PurePath)
_ORDERED = (list, tuple, set, frozenset, deque)
_NOT_KEPT = frozenset({"tool_calls", "function_call", "parsed", "logprobs"})
"""Parts of a message's extra data that stand elsewhere or are of no use to a reader."""


def freeze(value: Any, budget: int = BUDGET) -> Any:
    """A copy of `value` made of str, int, float, bool, None, bytes, dict, list and `Message`."""
    kind = type(value)
    if kind in _SHARED:
        return value
    if kind is dict and len(value) <= _SMALL:
        # Most arguments and results are flat: one C call copies them.
        copied = value.copy()
        for key, item in copied.items():
            if type(item) not in _SHARED or type(key) is not str:
                break
        else:
            return copied
    return _Copier(budget).copy(value, DEPTH)


_MESSAGE_CLASSES: dict[type, bool] = {}


def is_message(value: Any) -> bool:
    """`isinstance(value, BaseMessage)`, remembered by class: pydantic makes the check itself slow."""
    kind = type(value)
    known = _MESSAGE_CLASSES.get(kind)
    if known is None:
        if len(_MESSAGE_CLASSES) > 1_000:  # a program that makes classes as it runs
            _MESSAGE_CLASSES.clear()
        known = _MESSAGE_CLASSES[kind] = issubclass(kind, BaseMessage)
    return known


class _Copier:
    """One snapshot: what is left of its budget, and the containers it stands in."""

    __slots__ = ("inside", "left")

    def __init__(self, budget: int) -> None:
        self.left = budget
        self.inside: set[int] = set()

    def copy(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind in _SHARED:
            return value
        if depth <= 0 or id(value) in self.inside:
            return CUT
        if is_message(value):
            return message(value)
        self.inside.add(id(value))
        try:
            return self._container(value, kind, depth - 1)
        except Exception:  # an exotic class may fail in any way; its type is still worth telling
            return describe(value)
        finally:
            self.inside.discard(id(value))

    def _container(self, value: Any, kind: type, depth: int) -> Any:
        if isinstance(value, dict):
            return self._mapping(list(dict.items(value)), depth)
        if isinstance(value, tuple) and hasattr(kind, "_fields"):
            return self._mapping(list(zip(kind._fields, tuple.__iter__(value), strict=False)), depth)
        if isinstance(value, _ORDERED):
            return self._sequence(value, depth)
        if isinstance(value, BaseModel):
            return self._mapping(list(value.__dict__.items()), depth)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            pairs = [(f.name, object.__getattribute__(value, f.name)) for f in dataclasses.fields(value)]
            copied = self._mapping(pairs, depth)
            # Control flow looks like data once it is copied; the mark tells the assembler.
            return {COMMAND: copied} if is_command(value) else copied
        if isinstance(value, Enum):
            return self.copy(value._value_, depth)
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, _TEXTUAL):
            return str(value) if kind.__module__ in _STANDARD else describe(value)
        if isinstance(value, BaseException):
            fault = fault_of(value)
            return {"type": fault.type, "message": fault.message}
        return describe(value)

    def _mapping(self, pairs: list[tuple[Any, Any]], depth: int) -> dict[Any, Any]:
        copied: dict[Any, Any] = {}
        for key, item in pairs:
            if self.left <= 0:
                copied[CUT] = f"{len(pairs) - len(copied)} more"
                break
            self.left -= 1
            copied[key if type(key) is str else self._key(key)] = self.copy(item, depth)
        return copied

    def _key(self, key: Any) -> str:
        plain = self.copy(key, 1)
        return plain if type(plain) is str else str(plain)

    def _sequence(self, value: Any, depth: int) -> list[Any]:
        copied: list[Any] = []
        for item in tuple(value):
            if self.left <= 0:
                copied.append(f"{CUT} {len(value) - len(copied)} more")
                break
            self.left -= 1
            copied.append(self.copy(item, depth))
        return copied


_STANDARD = frozenset({"uuid", "datetime", "decimal", "pathlib", "pathlib._local"})


def is_command(value: Any) -> bool:
    """Whether this is LangGraph's `Command`: control flow with a state update in it."""
    kind = type(value)
    return kind.__name__ == "Command" and kind.__module__ == "langgraph.types"


def describe(value: Any) -> str:
    """What stands for an object that is not copied: its type's name."""
    kind = type(value)
    if kind.__module__ == "numpy" and getattr(value, "ndim", None) == 0 and hasattr(kind, "item"):
        return str(value.item())
    return f"<{kind.__module__}.{kind.__qualname__}>"


def message(value: BaseMessage, result: bool = False) -> Message:
    """A chat message as it stands now; `result` adds what only a model's answer carries."""
    # A pydantic model keeps its fields in its __dict__; reading them there runs no code.
    get = value.__dict__.get
    content = get("content", "")
    extra = get("additional_kwargs")
    kept = _extra(extra, get("artifact")) if extra or "artifact" in value.__dict__ else None
    return _new(
        Message,
        (
            get("type", ""),
            content if type(content) is str else freeze(content),
            get("id"),
            get("name"),
            _calls(calls) if (calls := get("tool_calls")) else (),
            _calls(bad) if (bad := get("invalid_tool_calls")) else (),
            get("tool_call_id"),
            get("status"),
            kept,
            freeze(get("usage_metadata"), 100) if result else None,
            response_metadata(get("response_metadata")) if result else None,
        ),
    )


_new = tuple.__new__
"""Makes a NamedTuple at half the cost of calling it."""


def _calls(calls: list[Any]) -> tuple[Any, ...]:
    copied = []
    for call in calls:
        if type(call) is dict:
            call = call.copy()
            call["args"] = freeze(call.get("args"))
            copied.append(call)
        else:
            copied.append(freeze(call))
    return tuple(copied)


def _extra(extra: Any, artifact: Any) -> dict[str, Any] | None:
    kept = {k: freeze(v, 200) for k, v in extra.items() if k not in _NOT_KEPT and v is not None} if extra else {}
    if artifact is not None:
        kept["artifact"] = freeze(artifact, 200)
    return kept or None


def response_metadata(value: Any) -> dict[str, Any] | None:
    """A model's `response_metadata` or `llm_output` without the bulky parts."""
    if not value:
        return None
    return {k: v if type(v) in _SHARED else freeze(v, 200) for k, v in dict.items(value) if k not in _NOT_KEPT}


_INTERRUPTS = ("GraphInterrupt", "NodeInterrupt")


def fault_of(error: BaseException) -> Fault:
    """The exception as text, and which kind of control flow it is, if it is none of error's."""
    kind = type(error)
    try:
        text = str(error)
    except Exception:  # the user's __str__ may raise; the type is still known
        text = ""
    if kind.__module__.startswith("langgraph."):
        names = {base.__name__ for base in kind.__mro__}
        if "ParentCommand" in names:
            return Fault(kind.__name__, "", "parent_command")
        if not names.isdisjoint(_INTERRUPTS):
            return Fault(kind.__name__, "", "interrupt", freeze(error.args[0] if error.args else None))
    return Fault(kind.__name__, text, _control_of(error))


def _control_of(error: BaseException) -> str | None:
    if isinstance(error, Exception):
        return None
    if isinstance(error, GeneratorExit):
        return "closed"
    if isinstance(error, KeyboardInterrupt):
        return "keyboard"
    return "cancelled" if type(error).__name__ == "CancelledError" else None
