"""What the user's code says around its calls: set only by the user's own `with` and decorators.

Callbacks read these and never set them, so that nothing of ours leaks into the program.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple
from uuid import UUID

from gati.trace.records import Scope

current_scope: ContextVar[Scope | None] = ContextVar("gati_scope", default=None)
"""The innermost `observe.conversation`, merged with those around it."""

paused: ContextVar[bool] = ContextVar("gati_paused", default=False)
"""True inside `observe.paused()`."""


class Span(NamedTuple):
    """A span of the user's own that is open around the running code."""

    id: UUID
    parent_id: UUID | None


current_span: ContextVar[Span | None] = ContextVar("gati_span", default=None)
"""The innermost `observe.span` or decorated function."""
