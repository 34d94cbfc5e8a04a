"""The operations that a store in another database than SQLite implements differently.

The statements of this package are written for SQLite. A connection to another database offers the same methods, adapts
statements to its dialect, and has an `Engine` for what differs in more than the dialect: full-text search and sequences.
"""

from __future__ import annotations

from typing import Any, Protocol

from gati.store.words import Word


class Engine(Protocol):
    """The operations that have no common statement."""

    def search_messages(self, found: list[Word], prefix: list[Word], limit: int) -> list[int]:
        """See `search.search_messages`."""

    def find_labels(self, found: list[Word], prefix: list[Word], limit: int) -> list[int]:
        """See `labels.find_labels`."""

    def add_labels(self, rows: list[tuple[str, int | str, str, str, str]]) -> None:
        """Insert labels that are missing. A row is `labels.Row`."""

    def rewrite_tables(self, *, whole: bool) -> bool:
        """See `file_erasing.rewrite_file`."""

    def last_message_id(self) -> int:
        """See `queries.last_message_id`."""


def engine_of(db: Any) -> Engine | None:
    """Return the engine of a connection; None for SQLite."""
    engine: Engine | None = getattr(db, "engine", None)
    return engine
