"""Filters of the list of conversations that were saved by name. All readers of the store share them."""

from __future__ import annotations

import time
from typing import NamedTuple

from gati.store.store import Store

_MAX_NAME, _MAX_QUERY = 60, 2000


class SavedFilter(NamedTuple):
    """A name and the query string of the list's address."""

    name: str
    query: str


def save_filter(store: Store, name: str, query: str) -> bool:
    """Save a filter; replace the one with this name. Return False if the name is empty or something is too long."""
    name = " ".join(name.split())
    if not name or len(name) > _MAX_NAME or len(query) > _MAX_QUERY:
        return False
    row = (name, query, time.time_ns() // 1000)
    statement = (
        "INSERT INTO saved_filters VALUES (?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET query = excluded.query, saved_at = excluded.saved_at"
    )
    store.transaction(lambda db: db.execute(statement, row))
    return True


def delete_filter(store: Store, name: str) -> None:
    """Delete a saved filter, if there is one."""
    store.transaction(lambda db: db.execute("DELETE FROM saved_filters WHERE name = ?", (name,)))


def saved_filters(store: Store) -> list[SavedFilter]:
    """Return the saved filters by name."""
    with store.connections.reading() as db:
        rows = db.execute("SELECT name, query FROM saved_filters ORDER BY lower(name) LIMIT 100").fetchall()
    return [SavedFilter(*row) for row in rows]
