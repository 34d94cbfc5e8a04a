"""Copy the user's objects to plain values, in the user's thread.

Immutable values are shared, long texts are cut, containers are copied within a budget, and any other object is replaced by the name of its
type. No user code runs: no `__repr__`, property or iterator is called, because a `__repr__` may query a database and a
generator can be read only once.
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
from sys import getsizeof
from types import MemberDescriptorType, NoneType, WrapperDescriptorType
from typing import Any, TypeAlias
from uuid import UUID

from pydantic import BaseModel

from gati.limits import bounded_id, cut_text
from gati.trace.deferred_media import DeferredMedia, is_media
from gati.trace.records import COMMAND, IDENTITY_KEYS, ErrorInfo, ObjectName

BUDGET = 2_000
"""Maximum number of values copied by one snapshot. Further values are counted, not copied."""
DEPTH = 16
"""Maximum nesting depth copied."""
TRUNCATED = "…"
"""Marks values that were not copied."""
SMALL_SIZE = 16
"""Maximum length of a dict or list that is copied with its own `copy` method."""

SNAPSHOT_FIELDS = 4
"""Texts of one snapshot take at most this many times the limit of one field. Encoding keeps only one field of it."""
EXHAUSTED_CHARS = 200
"""Characters kept of each further text when a snapshot has taken that much."""


class TextLimit:
    """Characters kept of each text, as `max_field_bytes` sets it. Longer ones are cut when they are taken."""

    __slots__ = ("chars",)

    def __init__(self) -> None:
        self.chars = 64 * 1024


text_limit = TextLimit()

IMMUTABLE_TYPES = frozenset({str, int, float, bool, NoneType, bytes})
SIZED_TYPES = frozenset({str, bytes})
KEY_TYPES = frozenset({str})
_TEXTUAL = (UUID, datetime, date, time, timedelta, Decimal, PurePath)
_ORDERED = (list, tuple, set, frozenset, deque)


def take_snapshot(value: Any, budget: int = BUDGET) -> Any:
    """Return a copy of `value` built from str, int, float, bool, None, bytes, dict, list and `Message`."""
    kind = type(value)
    if kind in IMMUTABLE_TYPES:
        # The hash is for answers: a later turn may repeat them whole in its history.
        return shorten(value, whole_hash=True) if kind in SIZED_TYPES and len(value) > text_limit.chars else value
    if kind is dict and (copied := copy_small_dict(value, budget)) is not None:
        return copied
    return Copier(budget).copy(value, DEPTH)


def plain_text(value: Any) -> str | None:
    """Return a text as a `str`; None for other values.

    `message.text` and `StrOutputParser` return a subclass of `str`, whose own methods are not called.
    """
    return str.__str__(value) if issubclass(type(value), str) else None


def copy_small_dict(value: dict[Any, Any], budget: int) -> dict[str, Any] | None:
    """Copy a small dict of immutable values and of small lists and dicts of them; return None for any other dict.

    Most arguments, results and states have this shape, and a few C calls copy them.
    """
    if len(value) > SMALL_SIZE:
        return None
    copied = value.copy()
    if not KEY_TYPES.issuperset(map(type, copied)):
        return None
    if IMMUTABLE_TYPES.issuperset(map(type, copied.values())):
        # `getsizeof` of these types runs no user code. A larger dict is copied value by value.
        return copied if _is_small(copied.values()) else None
    if budget <= SMALL_SIZE * SMALL_SIZE:
        return None
    size = 0
    for key, item in copied.items():
        if type(item) in IMMUTABLE_TYPES:
            size += getsizeof(item)
            continue
        if (flat := copy_flat(item)) is None:
            return None
        copied[key] = flat
    return copied if size <= text_limit.chars else None


def copy_flat(value: Any) -> Any:
    """Copy a small list or dict of immutable values; return None for anything else."""
    kind = type(value)
    if kind is list and len(value) <= SMALL_SIZE:
        items = value.copy()
        return items if IMMUTABLE_TYPES.issuperset(map(type, items)) and _is_small(items) else None
    if kind is dict and len(value) <= SMALL_SIZE:
        pairs = value.copy()
        plain = IMMUTABLE_TYPES.issuperset(map(type, pairs.values())) and KEY_TYPES.issuperset(map(type, pairs))
        return pairs if plain and _is_small(pairs.values()) else None
    return None


def _is_small(values: Iterable[Any]) -> bool:
    """Return True if immutable values are so small together that none has to be cut. Runs no user code."""
    return sum(map(getsizeof, values)) <= text_limit.chars


def shorten(value: Any, key: Any = None, limit: int = 0, whole_hash: bool = False) -> Any:
    """Return the part of a large text or large bytes to keep: an id, a reference to media, or the beginning.

    Args:
        value: A str or bytes.
        key: Its key in a dict.
        limit: Characters to keep; 0 for the limit of a field.
        whole_hash: See `cut_text`.
    """
    if key in IDENTITY_KEYS and type(value) is str:
        return bounded_id(value)
    if is_media(value, key):
        return DeferredMedia(value)
    return cut_text(value, limit or text_limit.chars, whole_hash)


class Copier:
    """The state of one snapshot: its remaining budget, and the ids of the enclosing containers, to detect cycles."""

    __slots__ = ("ancestors", "chars", "remaining")

    def __init__(self, budget: int) -> None:
        self.remaining = budget
        self.chars = SNAPSHOT_FIELDS * text_limit.chars
        self.ancestors: set[int] = set()

    def text(self, value: Any, key: Any = None) -> Any:
        """Return the part of a str or bytes to keep."""
        size = len(value)
        limit = text_limit.chars if self.chars > 0 else EXHAUSTED_CHARS
        self.chars -= min(size, limit)
        return value if size <= limit else shorten(value, key, limit)

    def copy(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind in IMMUTABLE_TYPES:
            return self.text(value) if kind in SIZED_TYPES else value
        if depth <= 0 or id(value) in self.ancestors:
            return TRUNCATED
        self.ancestors.add(id(value))
        try:
            return (_COPY_FUNCTIONS.get(kind) or _copy_function_of(kind))(self, value, depth - 1)
        except Exception:  # noqa: BLE001 - an unusual class may fail in any way; its type is still useful
            return describe_type(value)
        finally:
            self.ancestors.discard(id(value))

    def mapping(self, pairs: Iterable[tuple[Any, Any]], size: int, depth: int) -> dict[Any, Any]:
        copied: dict[Any, Any] = {}
        for key, item in pairs:
            if self.remaining <= 0:
                copied[TRUNCATED] = f"{size - len(copied)} more"
                break
            self.remaining -= 1
            kind = type(item)
            copied[key if type(key) is str else self._key(key)] = (
                self.text(item, key)
                if kind in SIZED_TYPES
                else item
                if kind in IMMUTABLE_TYPES
                else self.copy(item, depth)
            )
        return copied

    def _key(self, key: Any) -> str:
        plain = self.copy(key, 1)
        return plain if type(plain) is str else str(plain)

    def sequence(self, items: Iterable[Any], size: int, depth: int) -> list[Any]:
        copied: list[Any] = []
        for item in items:
            if self.remaining <= 0:
                copied.append(f"{TRUNCATED} {size - len(copied)} more")
                break
            self.remaining -= 1
            kind = type(item)
            copied.append(
                self.text(item) if kind in SIZED_TYPES else item if kind in IMMUTABLE_TYPES else self.copy(item, depth)
            )
        return copied


# -- copy functions -------------------------------------------------------------------------
# A function is looked up by `type(value)`, since `isinstance` may run the object's `__class__` property. It calls
# the methods of the base class, never the overrides of a user's subclass.


def _copy_dict(copier: Copier, value: Any, depth: int) -> Any:
    size, pairs = dict.__len__(value), dict.items(value)
    # `list` is atomic, so another thread may modify the dict; for a huge dict it would take too long.
    return copier.mapping(list(pairs) if size <= BUDGET else pairs, size, depth)


def _copy_sequence(base: Any, copier: Copier, value: Any, depth: int) -> Any:
    size, items = base.__len__(value), base.__iter__(value)
    return copier.sequence(tuple(items) if size <= BUDGET else items, size, depth)


def _copy_namedtuple(names: tuple[str, ...], copier: Copier, value: Any, depth: int) -> Any:
    return copier.mapping(list(zip(names, tuple.__iter__(value), strict=False)), len(names), depth)


def _copy_pydantic_model(copier: Copier, value: Any, depth: int) -> Any:
    pairs = list(instance_dict(value).items())
    extra = getattr(value, "__pydantic_extra__", None)
    if type(extra) is dict:
        pairs += extra.items()
    return copier.mapping(pairs, len(pairs), depth)


def _copy_dataclass(slots: tuple[tuple[str, Any], ...], copier: Copier, value: Any, depth: int) -> Any:
    own = instance_dict(value)
    pairs = []
    for name, slot in slots:
        if slot is not None:
            pairs.append((name, slot.__get__(value)))
        elif name in own:
            pairs.append((name, own[name]))
    if is_overwrite(value):
        return copier.copy(value.value, depth)
    copied = copier.mapping(pairs, len(pairs), depth)
    # A copied command looks like data; the key tells the assembler that it is control flow.
    return {COMMAND: copied} if is_command(value) else copied


def instance_dict(value: Any) -> dict[str, Any]:
    """Return an object's `__dict__` without calling its `__getattribute__`; empty if it has only slots."""
    try:
        own = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return own if type(own) is dict else {}


def _copy_enum(copier: Copier, value: Any, depth: int) -> Any:
    return copier.copy(instance_dict(value).get("_value_"), depth)


def _copy_exception(copier: Copier, value: Any, depth: int) -> Any:
    info = error_info(value)
    return {"type": info.type, "message": info.message}


def _copy_time(copier: Copier, value: Any, depth: int) -> Any:
    """Convert a time to text. A time zone of the user's is left out: its methods are user code."""
    zone = type(value.tzinfo)
    is_known = zone is NoneType or zone.__module__.partition(".")[0] in _TESTED_TIMEZONES
    return str(value if is_known else value.replace(tzinfo=None))


def _copy_numpy_scalar(copier: Copier, value: Any, depth: int) -> Any:
    """Convert a numpy scalar or an array without dimensions to a Python number."""
    if value.ndim:
        return describe_type(value)
    item = value.item()
    return item if type(item) in IMMUTABLE_TYPES else str(item)


_CopyFunction: TypeAlias = "Callable[[Copier, Any, int], Any]"
_COPY_FUNCTIONS: dict[type, _CopyFunction] = {}
_REGISTERED: list[tuple[type, _CopyFunction]] = []
_STANDARD = frozenset({"uuid", "datetime", "decimal", "pathlib", "pathlib._local"})
_TESTED_TIMEZONES = frozenset({"datetime", "zoneinfo", "dateutil", "pytz"})
"""Packages of time zones whose methods are known to be harmless."""


def register_copier(base: type, copy_function: _CopyFunction) -> None:
    """Register a copy function for a class that this module does not know."""
    _REGISTERED.append((base, copy_function))


def _copy_function_of(kind: type) -> _CopyFunction:
    if len(_COPY_FUNCTIONS) > 1_000:  # the program creates classes dynamically
        _COPY_FUNCTIONS.clear()
    copy_function = _COPY_FUNCTIONS[kind] = _find_copy_function(kind)
    return copy_function


def _find_copy_function(kind: type) -> _CopyFunction:  # noqa: C901, PLR0912 - a table whose order matters, since a class may match several rows
    for base, copy_function in _REGISTERED:
        if issubclass(kind, base):
            return copy_function
    if issubclass(kind, Enum):
        return _copy_enum
    if issubclass(kind, dict):
        return _copy_dict
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return partial(_copy_namedtuple, tuple(kind._fields))
    for base in _ORDERED:
        if issubclass(kind, base):
            return partial(_copy_sequence, base)
    for plain, convert in ((str, str.__str__), (int, int.__int__), (float, float.__float__)):
        if issubclass(kind, plain):
            return lambda copier, value, depth: copier.copy(convert(value), depth)
    if issubclass(kind, BaseModel):
        return _copy_pydantic_model
    if is_entrypoint_final(kind):
        return lambda copier, value, depth: copier.copy(value.value, depth)
    if dataclasses.is_dataclass(kind):
        return partial(
            _copy_dataclass, tuple((name, _slot_descriptor(kind, name)) for name in kind.__dataclass_fields__)
        )
    if issubclass(kind, BaseException):
        return _copy_exception
    if issubclass(kind, _TEXTUAL) and kind.__module__ in _STANDARD:
        return _copy_time if issubclass(kind, (datetime, time)) else lambda copier, value, depth: str(value)
    if kind.__module__ == "numpy" and hasattr(kind, "item"):
        return _copy_numpy_scalar
    return lambda copier, value, depth: describe_type(value)


def _slot_descriptor(kind: type, name: str) -> Any:
    """Return the slot that stores a field, or None if the field is in `__dict__` or is a property."""
    for base in kind.__mro__:
        if name in base.__dict__:
            found = base.__dict__[name]
            return found if type(found) is MemberDescriptorType else None
    return None


def is_command(value: Any) -> bool:
    """Return True for LangGraph's `Command`, which combines control flow with a state update."""
    kind = type(value)
    return kind.__name__ == "Command" and kind.__module__ == "langgraph.types"


def is_overwrite(value: Any) -> bool:
    """Return True for LangGraph's `Overwrite`, which wraps a value that replaces a reducer's."""
    kind = type(value)
    return kind.__name__ == "Overwrite" and kind.__module__ == "langgraph.types"


def is_entrypoint_final(kind: type) -> bool:
    """Return True for the class of LangGraph's `entrypoint.final` and its subclasses.

    It holds an entrypoint's result and, apart from it, what the checkpoint saves for the next turn.
    """
    return any(base.__name__ == "final" and base.__module__ == "langgraph.func" for base in kind.__mro__)


def describe_type(value: Any) -> ObjectName:
    """Return the name of an object's type, which replaces an object that cannot be copied: `<module.Class>`."""
    kind = type(value)
    return ObjectName(f"<{kind.__module__}.{kind.__qualname__}>")


_INTERRUPTS = ("GraphInterrupt", "NodeInterrupt")


def error_info(error: BaseException) -> ErrorInfo:
    """Return an exception's type and text, and its kind of control flow if it does not signal an error."""
    kind = type(error)
    try:
        text = _error_text(error, DEPTH)
    except Exception:  # noqa: BLE001 - an unusual class may fail in any way; the type is still known
        text = ""
    if kind.__module__.startswith("langgraph."):
        names = {base.__name__ for base in kind.__mro__}
        if "ParentCommand" in names:
            return ErrorInfo(kind.__name__, "", "parent_command")
        if "GraphDrained" in names:
            return ErrorInfo(kind.__name__, "", "drained", take_snapshot(instance_dict(error).get("reason")))
        if not names.isdisjoint(_INTERRUPTS):
            return ErrorInfo(kind.__name__, "", "interrupt", take_snapshot(error.args[0] if error.args else None))
    return ErrorInfo(kind.__name__, cut_text(text, text_limit.chars), _control_flow_of(error))


_TESTED_PACKAGES = frozenset({"anthropic", "httpx", "langchain", "langchain_core", "langgraph", "openai", "subprocess"})
"""Packages whose `__str__` of exceptions is known to be harmless, although it is written in Python."""


def _error_text(error: BaseException, depth: int) -> str:
    """Return an exception's text without running the user's code.

    `str(error)` only if its `__str__` is a C slot or one of a tested package, and only if that calls no `__str__` of an
    argument; otherwise the plain texts among the arguments: `Custom("a", row, "b")` → `"a, b"`.
    """
    args: tuple[Any, ...] = BaseException.args.__get__(error)  # type: ignore[attr-defined]  # a C descriptor
    owner = next(base for base in type(error).__mro__ if "__str__" in base.__dict__)
    package = owner.__module__.partition(".")[0]
    is_slot = type(owner.__dict__["__str__"]) is WrapperDescriptorType
    if package in _TESTED_PACKAGES or (is_slot and package == "pydantic_core"):
        return str(error)
    if is_slot and all(type(value) in IMMUTABLE_TYPES for value in (*args, *_os_error_paths(error))):
        return str(error)
    texts = (
        _error_text(value, depth - 1) if isinstance(value, BaseException) and depth else value
        for value in args
        if type(value) is str or isinstance(value, BaseException)
    )
    return ", ".join(text for text in texts if type(text) is str)


def _os_error_paths(error: BaseException) -> tuple[Any, ...]:
    """Return the file names of an `OSError`, which its text shows although they are not among its arguments."""
    if not isinstance(error, OSError):
        return ()
    paths = (OSError.filename.__get__(error), OSError.filename2.__get__(error))
    return tuple(path for path in paths if not (isinstance(path, PurePath) and type(path).__module__ in _STANDARD))


def _control_flow_of(error: BaseException) -> str | None:
    if isinstance(error, Exception):
        return None
    if isinstance(error, GeneratorExit):
        return "closed"
    if isinstance(error, KeyboardInterrupt):
        return "keyboard"
    return "cancelled" if type(error).__name__ == "CancelledError" else None
