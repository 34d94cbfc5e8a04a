"""Access of the commands to the embedded store."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from gati.cli.output import Exit, fail
from gati.settings import Settings, load
from gati.store import message_columns, queries
from gati.store.store import Store, default_path


def store_path(path: Path | None = None, settings: Settings | None = None) -> Path:
    """Return the path of the store: the argument, the option `local`, or the default location."""
    if path is not None:
        return path
    local = (settings or load()).local
    return local if isinstance(local, Path) else default_path()


def open_store(path: Path | None = None) -> Store:
    """Open an existing store. Exit with an error if there is none."""
    settings = load()
    file = store_path(path, settings)
    if not file.exists():
        fail(f"there is no store at {file}; `gati demo` creates one", Exit.NOT_FOUND)
    return Store(file, settings.local_max_bytes)


def list_rows(store: Store, limit: int = 20) -> list[dict[str, Any]]:
    """Return one row for each of the newest conversations, newest first."""
    return [
        {
            "conversation": row.external_id or row.uid,
            "last": message_columns.format_timestamp(row.last_at)[:19].replace("T", " "),
            "user": row.user,
            "agent": row.agent,
            "status": row.status,
            "turns": row.turns,
            "messages": row.messages,
            "tokens_in": row.tokens_in,
            "tokens_out": row.tokens_out,
            "cost_usd": None if row.cost is None else round(row.cost, 6),
            "title": row.title,
        }
        for row in queries.list_conversations(store, limit=limit).conversations
    ]


def count_contents(file: Path, settings: Settings) -> dict[str, int]:
    """Return the number of conversations and messages in an existing store."""
    with closing(Store(file, settings.local_max_bytes)) as store, store.connections.snapshot() as db:
        return {
            "conversations": int(db.execute("SELECT count(*) FROM conversations").fetchone()[0]),
            "messages": int(db.execute("SELECT coalesce(sum(messages), 0) FROM conversations").fetchone()[0]),
        }
