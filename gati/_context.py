"""What the user's code says around its calls: set only by the user's own `with` and decorators.

Callbacks read these and never set them, so that nothing of ours leaks into the program.
"""

from __future__ import annotations

from contextvars import ContextVar

from gati.trace.records import Scope

current_scope: ContextVar[Scope | None] = ContextVar("gati_scope", default=None)
"""The innermost `observe.conversation`, merged with those around it."""

paused: ContextVar[bool] = ContextVar("gati_paused", default=False)
"""True inside `observe.paused()`."""
