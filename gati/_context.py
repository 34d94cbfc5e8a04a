"""What the user's code says around its calls: set only by the user's own `with` and decorators.

Callbacks read these and never set them, so that nothing of ours leaks into the program.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from gati.trace.records import Scope

current_scope: ContextVar[Scope | None] = ContextVar("gati_scope", default=None)
"""The innermost `observe.conversation`, merged with those around it."""

paused: ContextVar[bool] = ContextVar("gati_paused", default=False)
"""True inside `observe.paused()`."""


class Rare:
    """What most programs never do, so that callbacks look for it only where it was ever done."""

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done = False


rare = Rare()
"""`done` once the program has paused gati, or opened a span of its own."""


class Span:
    """A span of the user's own that is open around the running code."""

    __slots__ = ("id", "parent_id")

    def __init__(self, id: UUID, parent_id: UUID | None) -> None:  # noqa: A002 - the field's word
        self.id = id
        self.parent_id = parent_id


current_span: ContextVar[Span | None] = ContextVar("gati_span", default=None)
"""The innermost `observe.span` or decorated function."""
