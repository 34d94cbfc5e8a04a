"""Resolve the conversation, user and organization of a root run. The first source that names one wins:

`observe.conversation` scope → run metadata → `configurable` and runtime `context` of the running config →
the user authenticated by LangGraph Server → options of `init` → the root run's id and "anonymous".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gati.events import ActiveSpan, Conversation
from gati.limits import bounded_id
from gati.trace.records import (
    ACTIVE_SPAN,
    AUTH_USER_KEYS,
    CONVERSATION_KEYS,
    IDENTITY_KEYS,
    INTERNAL,
    ORGANIZATION_KEYS,
    USER_KEYS,
)
from gati.trace.run_tree import NESTED_KEY

if TYPE_CHECKING:
    from gati.options import Settings
    from gati.trace.records import Scope

ANONYMOUS = "anonymous"

_SAMPLED = ("1", "3", "5", "7", "9", "b", "d", "f")
"""Last digits of flags whose lowest bit is set."""

_INTERNAL_PREFIXES = ("langgraph_", "ls_", "lc_", "__", "checkpoint", "langchain_")
"""Prefixes of the metadata keys that LangChain sets itself."""
_CONSUMED_KEYS = IDENTITY_KEYS | {"system_prompt", NESTED_KEY, INTERNAL, ACTIVE_SPAN}
"""Metadata keys that gati reads; they are not repeated as the user's metadata."""


def resolve(
    root_id: str,
    scope: Scope | None,
    metadata: Mapping[str, Any] | None,
    configurable: Mapping[str, Any] | None,
    settings: Settings,
) -> Conversation:
    """Return the conversation that a root run belongs to."""
    sources = (metadata or {}, configurable or {})

    def first(scoped: str | None, keys: tuple[str, ...], default: str | None) -> str | None:
        if scoped is not None:
            return bounded_id(scoped)
        for source in sources:
            for key in keys:
                if (value := source.get(key)) is not None and (text := _id_as_text(value)) is not None:
                    return text
        return default

    user_id = first(scope and scope.user_id, USER_KEYS, None) or first(None, AUTH_USER_KEYS, settings.user_id)
    return Conversation(
        id=first(scope and scope.conversation_id, CONVERSATION_KEYS, settings.conversation_id) or root_id,
        user_id=user_id or ANONYMOUS,
        organization_id=first(scope and scope.organization_id, ORGANIZATION_KEYS, settings.organization_id),
        properties={**settings.properties, **((scope and scope.properties) or {})},
        product_id=(scope and scope.product_id) or settings.product_id,
    )


def user_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a run's metadata that the user set, without ids and LangChain's own keys."""
    return {k: v for k, v in metadata.items() if k not in _CONSUMED_KEYS and not k.startswith(_INTERNAL_PREFIXES)}


def active_span_of(metadata: Mapping[str, Any]) -> ActiveSpan | None:
    """Return the span of OpenTelemetry that was active when a root run began, given the run's metadata."""
    match value.split("-") if isinstance(value := metadata.get(ACTIVE_SPAN), str) else None:
        case [trace_id, span_id, flags]:
            return ActiveSpan(trace_id, span_id, flags.endswith(_SAMPLED))
    return None


def _id_as_text(value: Any) -> str | None:
    """Convert an id to text. Only non-empty strings (UUIDs are strings by now) and integers are ids."""
    if isinstance(value, str):
        return bounded_id(value) or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None
