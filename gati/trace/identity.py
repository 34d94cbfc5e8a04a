"""Who and which conversation: one table of precedence, first hit wins.

`observe.conversation` scope → run metadata → `configurable` of the running config →
defaults of `init` → the root run's id / "anonymous".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gati.events import Conversation
from gati.trace.records import CONVERSATION_KEYS, IDENTITY_KEYS, ORGANIZATION_KEYS, USER_KEYS

if TYPE_CHECKING:
    from gati.trace.records import Scope

ANONYMOUS = "anonymous"

_INTERNAL_PREFIXES = ("langgraph_", "ls_", "lc_", "__", "checkpoint", "langchain_")
"""Prefixes of metadata keys that LangChain sets for itself."""
_IDENTITY_METADATA = IDENTITY_KEYS | {"system_prompt"}


class Defaults:
    """What `init` said of every conversation."""

    __slots__ = ("conversation_id", "organization_id", "properties", "user_id")

    def __init__(
        self,
        conversation_id: str | None = None,
        user_id: str | None = None,
        organization_id: str | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> None:
        self.conversation_id = conversation_id
        self.user_id = user_id
        self.organization_id = organization_id
        self.properties = dict(properties or {})


def resolve(
    root_id: str,
    scope: Scope | None,
    metadata: Mapping[str, Any] | None,
    configurable: Mapping[str, Any] | None,
    defaults: Defaults,
) -> Conversation:
    """The conversation that a root run belongs to."""
    sources = (metadata or {}, configurable or {})

    def first(said: str | None, keys: tuple[str, ...], default: str | None) -> str | None:
        if said is not None:
            return said
        for source in sources:
            for key in keys:
                if (value := source.get(key)) is not None and (text := _as_id(value)) is not None:
                    return text
        return default

    return Conversation(
        id=first(scope and scope.conversation_id, CONVERSATION_KEYS, defaults.conversation_id) or root_id,
        user_id=first(scope and scope.user_id, USER_KEYS, defaults.user_id) or ANONYMOUS,
        organization_id=first(scope and scope.organization_id, ORGANIZATION_KEYS, defaults.organization_id),
        properties={**defaults.properties, **((scope and scope.properties) or {})},
    )


def user_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What the user put into a run's metadata, without ids and what LangChain keeps there."""
    return {k: v for k, v in metadata.items() if k not in _IDENTITY_METADATA and not k.startswith(_INTERNAL_PREFIXES)}


def _as_id(value: Any) -> str | None:
    """Ids come as str, int or UUID (a text by now); anything else names nobody."""
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None
