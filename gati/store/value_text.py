"""Format a JSON value as one line. Pure."""

from __future__ import annotations

import json
from typing import Any

from gati.store.turn_view import pretty_value

_OUTLINE = 140
"""Characters of a value in one line."""


def outline(value: Any, wrapper: str = "", limit: int = _OUTLINE) -> str:
    """Format a value as one line: ``{"order": "8613"}`` → ``order: 8613``.

    Args:
        value: Any JSON value.
        wrapper: The key that is left out if it is the only one, because its meaning is clear.
        limit: Most characters.
    """
    if isinstance(value, dict) and value.keys() == {wrapper}:
        value = value[wrapper]
    if isinstance(value, dict) and not _is_note_of_media(value):
        text = ", ".join(f"{name}: {_short(item)}" for name, item in list(value.items())[:20])
    else:
        text = _short(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _is_note_of_media(value: dict[str, Any]) -> bool:
    return "sha256" in value and "mime" in value


def _short(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and _is_note_of_media(value):
        return pretty_value(value)
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "…"
