"""The choice between variants of a prompt: the same one for all calls of a conversation."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

from gati._context import current_scope
from gati.langchain.handover import recorder_of_enclosing_run
from gati.trace.records import CONVERSATION_KEYS


def choose_variant(
    name: str, labels: list[str], weights: Mapping[str, float] | None, conversation_id: str | None
) -> str:
    """Return the label for a conversation, decided by a hash of prompt and conversation. Pure.

    Without a conversation, it is the first label. A weight that is not a positive number counts as 0.
    """
    sizes = [_weight(weights, label) for label in labels]
    total = sum(sizes)
    if conversation_id is None or total <= 0:
        return labels[0]
    digest = hashlib.sha256(f"{name}\n{conversation_id}".encode(errors="replace")).digest()
    point = int.from_bytes(digest[:8], "big") / 2**64 * total
    for label, size in zip(labels, sizes, strict=True):
        point -= size
        if point < 0:
            return label
    return next(label for label, size in zip(reversed(labels), reversed(sizes), strict=True) if size > 0)


def _weight(weights: Mapping[str, float] | None, label: str) -> float:
    value: object = 1.0 if weights is None else weights.get(label, 1.0)
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return 0.0
    return max(float(value), 0.0)


def enclosing_conversation_id(default: str | None) -> str | None:
    """Return the conversation of the calling code: that of its scope, of the running config, or `default`."""
    scope = current_scope.get()
    if scope is not None and scope.conversation_id is not None:
        return scope.conversation_id
    recorder = recorder_of_enclosing_run()
    values: dict[str, Any] = (recorder.enclosing_values() if recorder is not None else None) or {}
    found = next((values[key] for key in CONVERSATION_KEYS if values.get(key) is not None), None)
    return default if found is None else str(found)
