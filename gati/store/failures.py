"""Count failures once. An exception that passes through a tool, a node and a graph fails each of them, but is one failure.

A failed step counts unless a step below it failed, too. A failed turn counts unless one of its steps failed. A tool's
failure that the program handled does not count.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any

from gati import contract

_OF_PARENT = ("tool_error", "observation", "chain_end", *contract.ANSWER_TYPES)
"""Message types that report the outcome of their parent."""

_DEEPEST = 1000
"""Levels that are followed upwards. Other clients can send parents that form a cycle."""


def failed_step(message: dict[str, Any], key: str, kind: str, status: str | None) -> str | None:
    """Return the key of the step that a message reports as failed; None if it reports no failure."""
    if status != "error" or (message.get("properties") or {}).get("handled"):
        return None
    return (message.get("parentExternalMessageId") or key) if kind in _OF_PARENT else key


def count_failures(failed: Iterable[str], parent_of: Callable[[str], str | None]) -> int:
    """Return the number of failed steps that have no failed step below them."""
    steps = set(failed)
    explained: set[str] = set()
    for step in steps:
        parent = parent_of(step)
        for _ in range(_DEEPEST):
            if parent is None or parent in explained:
                break  # what is above was seen before
            if parent in steps and parent != step:
                explained.add(parent)
            parent = parent_of(parent)
    return len(steps - explained)


def count_stored(db: sqlite3.Connection, conversation: int) -> int:
    """Return the number of failures of a stored conversation."""
    rows = db.execute(
        "SELECT id, external_id, type, status, body FROM messages INDEXED BY messages_failed"
        " WHERE conversation = ? AND status = 'error'",
        (conversation,),
    )
    found = (
        failed_step(json.loads(row["body"]), row["external_id"] or f"#{row['id']}", row["type"], row["status"])
        for row in rows.fetchall()
    )
    parents: dict[str, str | None] = {}

    def parent_of(key: str) -> str | None:
        if key not in parents:
            row = db.execute(
                "SELECT body FROM messages WHERE conversation = ? AND external_id = ?", (conversation, key)
            ).fetchone()
            parents[key] = json.loads(row["body"]).get("parentExternalMessageId") if row else None
        return parents[key]

    return count_failures((key for key in found if key is not None), parent_of)
