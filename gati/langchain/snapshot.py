"""The user's objects → plain values that nobody else holds, in the user's thread.

Strings are shared (they cannot change), containers are copied within a budget, everything
else is described by its type. No code of the user's runs: no ``__repr__``, no property, no
iterator is called. A ``repr`` may query a database, and a generator may be read only once.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from pathlib import PurePath
from types import MemberDescriptorType, NoneType
from typing import Any, TypeAlias
from uuid import UUID

from pydantic import BaseModel

from gati.trace.records import COMMAND, ErrorInfo

BUDGET = 2_000
"""Most values copied by one snapshot; what is beyond is counted, not copied."""
DEPTH = 16
"""Deepest nesting copied."""
CUT = "…"
SMALL = 16

SHARED = frozenset({str, int, float, bool, NoneType, bytes})
KEYS = frozenset({str})
_TEXTUAL = (UUID, datetime, date, time, timedelta, Decimal, PurePath)
_ORDERED = (list, tuple, set, frozenset, deque)


def freeze(value: Any, budget: int = BUDGET) -> Any:
    """A copy of `value` made of str, int, float, bool, None, bytes, dict, list and `Message`."""
    kind = type(value)
    if kind in SHARED:
        return value
    if kind is dict and (copied := few(value, budget)) is not None:
        return copied
    return Copier(budget).copy(value, DEPTH)


def few(value: dict[Any, Any], budget: int) -> dict[str, Any] | None:
    """A copy of a small dict of plain values and of small lists and dicts of such; None if it is something else.

    Most arguments, results and states are: C calls copy them.
    """
    if len(value) > SMALL:
        return None
    copied = value.copy()
    if not KEYS.issuperset(map(type, copied)):
        return None
    if SHARED.issuperset(map(type, copied.values())):
        return copied
    if budget <= SMALL * SMALL:
        return None
    for key, item in copied.items():
        if type(item) not in SHARED:
            if (flat := flat_copy(item)) is None:
                return None
            copied[key] = flat
    return copied


def flat_copy(value: Any) -> Any:
    """A copy of a small list or dict of values that need none; None if it is something else."""
    kind = type(value)
    if kind is list and len(value) <= SMALL:
        items = value.copy()
        return items if SHARED.issuperset(map(type, items)) else None
    if kind is dict and len(value) <= SMALL:
        pairs = value.copy()
        return pairs if SHARED.issuperset(map(type, pairs.values())) and KEYS.issuperset(map(type, pairs)) else None
    return None


class Copier:
    """One snapshot: what is left of its budget, and the containers it stands in."""

    __slots__ = ("inside", "left")

    def __init__(self, budget: int) -> None:
        self.left = budget
        self.inside: set[int] = set()

    def copy(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind in SHARED:
            return value
        if depth <= 0 or id(value) in self.inside:
            return CUT
        self.inside.add(id(value))
        try:
            return (_SHAPES.get(kind) or _shape_of(kind))(self, value, depth - 1)
        except Exception:  # noqa: BLE001 - an exotic class may fail in any way; its type is still worth telling
            return describe(value)
        finally:
            self.inside.discard(id(value))

    def mapping(self, pairs: Iterable[tuple[Any, Any]], size: int, depth: int) -> dict[Any, Any]:
        copied: dict[Any, Any] = {}
        for key, item in pairs:
            if self.left <= 0:
                copied[CUT] = f"{size - len(copied)} more"
                break
            self.left -= 1
            copied[key if type(key) is str else self._key(key)] = (
                item if type(item) in SHARED else self.copy(item, depth)
            )
        return copied

    def _key(self, key: Any) -> str:
        plain = self.copy(key, 1)
        return plain if type(plain) is str else str(plain)

    def sequence(self, items: Iterable[Any], size: int, depth: int) -> list[Any]:
        copied: list[Any] = []
        for item in items:
            if self.left <= 0:
                copied.append(f"{CUT} {size - len(copied)} more")
                break
            self.left -= 1
            copied.append(item if type(item) in SHARED else self.copy(item, depth))
        return copied


# -- one function a shape -------------------------------------------------------------------
# Which one is looked up by class: `isinstance` would ask the object itself for its class. They
# call the methods of the base class, never those that a class of the user's puts in their place.


def _dict(copier: Copier, value: Any, depth: int) -> Any:
    size, pairs = dict.__len__(value), dict.items(value)
    # A list is made in one step, so another thread may write meanwhile; a huge one would take too long.
    return copier.mapping(list(pairs) if size <= BUDGET else pairs, size, depth)


def _sequence(base: Any, copier: Copier, value: Any, depth: int) -> Any:
    size, items = base.__len__(value), base.__iter__(value)
    return copier.sequence(tuple(items) if size <= BUDGET else items, size, depth)


def _fields_of(names: tuple[str, ...], copier: Copier, value: Any, depth: int) -> Any:
    return copier.mapping(list(zip(names, tuple.__iter__(value), strict=False)), len(names), depth)


def _model(copier: Copier, value: Any, depth: int) -> Any:
    pairs = list(own_dict(value).items())
    extra = getattr(value, "__pydantic_extra__", None)
    if type(extra) is dict:
        pairs += extra.items()
    return copier.mapping(pairs, len(pairs), depth)


def _dataclass(slots: tuple[tuple[str, Any], ...], copier: Copier, value: Any, depth: int) -> Any:
    own = own_dict(value)
    pairs = []
    for name, slot in slots:
        if slot is not None:
            pairs.append((name, slot.__get__(value)))
        elif name in own:
            pairs.append((name, own[name]))
    copied = copier.mapping(pairs, len(pairs), depth)
    # Control flow looks like data once it is copied; the mark tells the assembler.
    return {COMMAND: copied} if is_command(value) else copied


def own_dict(value: Any) -> dict[str, Any]:
    """An object's fields, past every `__getattribute__` of its own; empty if they stand in slots."""
    try:
        own = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return own if type(own) is dict else {}


def _enum(copier: Copier, value: Any, depth: int) -> Any:
    return copier.copy(own_dict(value).get("_value_"), depth)


def _error(copier: Copier, value: Any, depth: int) -> Any:
    info = error_info(value)
    return {"type": info.type, "message": info.message}


def _number(copier: Copier, value: Any, depth: int) -> Any:
    """A number of numpy's, or one of its arrays, if it is one of a single number."""
    if value.ndim:
        return describe(value)
    item = value.item()
    return item if type(item) in SHARED else str(item)


_Shape: TypeAlias = "Callable[[Copier, Any, int], Any]"
_SHAPES: dict[type, _Shape] = {}
_OTHERS: list[tuple[type, _Shape]] = []
_STANDARD = frozenset({"uuid", "datetime", "decimal", "pathlib", "pathlib._local"})


def copied_by(base: type, shape: _Shape) -> None:
    """Say how objects of a class are copied that is not known here."""
    _OTHERS.append((base, shape))


def _shape_of(kind: type) -> _Shape:
    if len(_SHAPES) > 1_000:  # a program that makes classes as it runs
        _SHAPES.clear()
    shape = _SHAPES[kind] = _find_shape(kind)
    return shape


def _find_shape(kind: type) -> _Shape:  # noqa: C901 - a table; the order matters, since a class may be several
    for base, shape in _OTHERS:
        if issubclass(kind, base):
            return shape
    if issubclass(kind, Enum):
        return _enum
    if issubclass(kind, dict):
        return _dict
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return partial(_fields_of, tuple(kind._fields))
    for base in _ORDERED:
        if issubclass(kind, base):
            return partial(_sequence, base)
    for plain, made in ((str, str.__str__), (int, int.__int__), (float, float.__float__)):
        if issubclass(kind, plain):
            return lambda copier, value, depth: made(value)
    if issubclass(kind, BaseModel):
        return _model
    if dataclasses.is_dataclass(kind):
        return partial(_dataclass, tuple((name, _slot(kind, name)) for name in kind.__dataclass_fields__))
    if issubclass(kind, BaseException):
        return _error
    if issubclass(kind, _TEXTUAL) and kind.__module__ in _STANDARD:
        return lambda copier, value, depth: str(value)
    if kind.__module__ == "numpy" and hasattr(kind, "item"):
        return _number
    return lambda copier, value, depth: describe(value)


def _slot(kind: type, name: str) -> Any:
    """The slot that holds a field, if the class keeps it in one; a property of that name is none."""
    for base in kind.__mro__:
        if name in base.__dict__:
            found = base.__dict__[name]
            return found if type(found) is MemberDescriptorType else None
    return None


def is_command(value: Any) -> bool:
    """Whether this is LangGraph's `Command`: control flow with a state update in it."""
    kind = type(value)
    return kind.__name__ == "Command" and kind.__module__ == "langgraph.types"


def describe(value: Any) -> str:
    """What stands for an object that is not copied: its type's name."""
    kind = type(value)
    return f"<{kind.__module__}.{kind.__qualname__}>"


_INTERRUPTS = ("GraphInterrupt", "NodeInterrupt")


def error_info(error: BaseException) -> ErrorInfo:
    """The exception as text, and which kind of control flow it is, if it is none of error's."""
    kind = type(error)
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - the user's __str__ may raise; the type is still known
        text = ""
    if kind.__module__.startswith("langgraph."):
        names = {base.__name__ for base in kind.__mro__}
        if "ParentCommand" in names:
            return ErrorInfo(kind.__name__, "", "parent_command")
        if not names.isdisjoint(_INTERRUPTS):
            return ErrorInfo(kind.__name__, "", "interrupt", freeze(error.args[0] if error.args else None))
    return ErrorInfo(kind.__name__, text, _control_of(error))


def _control_of(error: BaseException) -> str | None:
    if isinstance(error, Exception):
        return None
    if isinstance(error, GeneratorExit):
        return "closed"
    if isinstance(error, KeyboardInterrupt):
        return "keyboard"
    return "cancelled" if type(error).__name__ == "CancelledError" else None
