"""Context variables that the user's own `with` blocks and decorators set, and one of gati's own threads.

Callbacks only read them, so gati never changes the context of the watched program.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from gati.trace.records import Scope

current_scope: ContextVar[Scope | None] = ContextVar("gati_scope", default=None)
"""The innermost `observe.conversation`, merged with the enclosing ones."""

is_paused: ContextVar[bool] = ContextVar("gati_paused", default=False)
"""True inside `observe.paused()`."""


is_internal: ContextVar[bool] = ContextVar("gati_internal", default=False)
"""True inside `observe.internal()`."""


class FeaturesUsed:
    """A flag for features that most programs never use, so that callbacks can skip the checks for them.

    Attributes:
        any: True once the process has entered `observe.paused()` or `observe.internal()`, opened a span, or made an `observe.LogFilter`.
        log_filter: True once the process has made an `observe.LogFilter`.
    """

    __slots__ = ("any", "log_filter")

    def __init__(self) -> None:
        self.any = False
        self.log_filter = False


features_used = FeaturesUsed()


class OpenSpan:
    """An `observe.span` that encloses the running code."""

    __slots__ = ("id", "parent_id")

    def __init__(self, id: UUID, parent_id: UUID | None) -> None:  # noqa: A002 - named like the field of a run
        self.id = id
        self.parent_id = parent_id


current_span: ContextVar[OpenSpan | None] = ContextVar("gati_span", default=None)
"""The innermost `observe.span` or decorated function."""

is_own_thread: ContextVar[bool] = ContextVar("gati_own_thread", default=False)
"""True in gati's own threads. Nothing that runs there is recorded, such as a model that the user's `mask` calls."""


def mark_own_thread() -> None:
    """Keep what the calling thread runs from being recorded. Called at the start of each of gati's threads."""
    is_own_thread.set(True)
    is_paused.set(True)
