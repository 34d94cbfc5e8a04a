"""Old names of public things: they keep working for the time that `docs/versioning.md` promises, and warn."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T", bound=type)


def warn_renamed(old: str, new: str, stacklevel: int = 3) -> None:
    """Warn that `old` was renamed to `new`. `stacklevel` as in `warnings.warn`: 3 is the caller's caller."""
    warnings.warn(f"gati: {old} was renamed to {new}", DeprecationWarning, stacklevel=stacklevel)


def renamed_field(old: str, new: str) -> Callable[[T], T]:
    """Class decorator: keep accepting and offering a field of a dataclass under its old name.

    ``@renamed_field("shown", "is_answer")`` accepts ``LLMCallEvent(shown=True)`` and offers `event.shown`.
    """

    def decorate(cls: T) -> T:
        place = cls.__name__

        def read(self: Any) -> Any:
            warn_renamed(f"{place}.{old}", f"{place}.{new}")
            return getattr(self, new)

        def write(self: Any, value: Any) -> None:
            warn_renamed(f"{place}.{old}", f"{place}.{new}")
            setattr(self, new, value)

        setattr(cls, old, property(read, write))
        signature = inspect.signature(cls)
        construct: Callable[..., None] = cls.__dict__["__init__"]

        @functools.wraps(construct)
        def accept_old_name(self: Any, *args: Any, **fields: Any) -> None:
            if old in fields:
                warn_renamed(f"{place}({old}=)", f"{place}({new}=)")
                fields[new] = fields.pop(old)
            construct(self, *args, **fields)

        for name, value in {"__init__": accept_old_name, "__signature__": signature}.items():
            setattr(cls, name, value)
        return cls

    return decorate
