"""Filters of the conversation's page: texts, attachments, ratings and outcomes. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from gati.store.attachments import stored_attachments
from gati.store.turn_outcome import has_content, missing_answer
from gati.store.value_text import outline
from gati.studio.rendering import render_text


def without(value: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return an object without some of its keys."""
    return {name: item for name, item in value.items() if name not in names}


def rating(action: dict[str, Any]) -> str:
    """Format a rating in words: ``4 of 5``; on a scale that does not begin at 0 or 1, with both ends."""
    given, low, high = (action.get(name) for name in ("rating", "ratingMin", "ratingMax"))
    if high is None:
        return _number(given)
    if low in (None, 0, 1):
        return f"{_number(given)} of {_number(high)}"
    return f"{_number(given)} on a scale from {_number(low)} to {_number(high)}"


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def css_name(text: str) -> str:
    """Return a text as the name of a CSS class."""
    return re.sub(r"[^a-z0-9-]", "", text.lower())[:30] or "other"


FILTERS: dict[str, Callable[..., Any]] = {
    "rendered": render_text,
    "attachments": stored_attachments,
    "has_content": has_content,
    "missing_answer": missing_answer,
    "outlined": outline,
    "without": without,
    "rating": rating,
    "css_name": css_name,
}
