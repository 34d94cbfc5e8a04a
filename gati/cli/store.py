"""Access of the commands to the embedded store."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gati.cli.output import Exit, fail, print_note
from gati.cli.store_place import StorePlace
from gati.settings import Settings, load
from gati.store import message_columns, queries
from gati.store.connections import check_is_store
from gati.store.store import Store, default_path
from gati.store.store_file import NotAStoreError

if TYPE_CHECKING:
    from gati.exporters.base import Exporter

_FAULTS = (NotAStoreError, sqlite3.Error, OSError)


def store_path(path: StorePlace | None = None, settings: Settings | None = None) -> Path:
    """Return the path of the embedded store: the argument, the option `local`, or the default location.

    Exits with an error if the argument is the address of a database.
    """
    if isinstance(path, str):
        fail("this command needs the file of an embedded store", Exit.USAGE)
    if path is not None:
        return path
    local = (settings or load()).local
    if isinstance(local, Path):
        return local
    try:
        return default_path()
    except FileNotFoundError as fault:
        fail(str(fault), Exit.USAGE)


def open_store(path: StorePlace | None = None, *, write: bool = False) -> Store:
    """Open an existing store, for reading only unless `write`. Exit with an error if there is none.

    Reading changes nothing. Before it is opened for writing, the file is checked to be a store.
    """
    if isinstance(path, str):
        return open_team_store(path, write=write)
    settings = load()
    file = store_path(path, settings)
    if not file.exists():
        fail(f"there is no store at {file}; `gati demo` creates one", Exit.NOT_FOUND)
    try:
        if not write:
            return Store(file, read_only=True)
        check_is_store(file)
        return Store(file, settings.local_max_bytes)
    except _FAULTS as fault:
        fail(_describe(file, fault), Exit.USAGE)


def open_team_store(address: str, *, write: bool) -> Store:
    """Open the store in a PostgreSQL database; with `write`, create its tables. Exit with an error if that fails."""
    try:
        from gati.team_store.store import PostgresStore
    except ImportError as missing:
        fail(f"this store needs {missing.name}: pip install 'gati-greenflash[postgres]'", Exit.MISSING)
    try:
        return PostgresStore(address, read_only=not write)
    except Exception as fault:  # noqa: BLE001 - psycopg raises errors of its own for addresses and rights
        fail(f"the team's store cannot be opened: {fault}", Exit.USAGE)


def make_team_exporter(settings: Settings, address: str) -> Exporter:
    """Return an exporter that writes to the store in a PostgreSQL database. Raises ImportError without `psycopg`."""
    from gati.exporters.greenflash.encoder import GreenflashEncoder
    from gati.team_store.exporter import TeamStoreExporter

    return TeamStoreExporter(address, GreenflashEncoder(settings, prompt_references=False))


def servable_store(path: StorePlace | None = None) -> Path | Store:
    """Return what to serve: the path of an embedded store, which may be missing, or an open store of a team."""
    return open_team_store(path, write=True) if isinstance(path, str) else servable_store_path(path)


def _describe(file: Path, fault: Exception) -> str:
    if isinstance(fault, NotAStoreError):
        return str(fault)
    if file.is_dir():
        return f"{file} is a folder, not a store of gati"
    return f"{file} is no store of gati, or cannot be read: {fault}"


def servable_store_path(path: StorePlace | None = None) -> Path:
    """Return the path of a store to serve, which may be missing. Exit with an error if it is something else.

    A missing folder is created only for the default location.
    """
    file = store_path(path)
    if not file.exists() and not file.parent.is_dir() and file != default_path():
        fail(f"there is no folder {file.parent} for the store {file}", Exit.NOT_FOUND)
    return writable_store_path(file)


def writable_store_path(path: Path | None = None, settings: Settings | None = None) -> Path:
    """Return the path of a store to write to, which may be missing. Exit with an error if it is something else."""
    file = store_path(path, settings)
    if file.exists() and (not file.is_file() or file.stat().st_size):
        try:
            check_is_store(file)
        except _FAULTS as fault:
            fail(_describe(file, fault), Exit.USAGE)
    return file


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


def count_contents(file: Path) -> dict[str, int] | None:
    """Return the number of conversations and messages in a store; None, with a note, if it cannot be read."""
    try:
        with closing(Store(file, read_only=True)) as store, store.connections.snapshot() as db:
            return {
                "conversations": int(db.execute("SELECT count(*) FROM conversations").fetchone()[0]),
                "messages": int(db.execute("SELECT coalesce(sum(messages), 0) FROM conversations").fetchone()[0]),
            }
    except _FAULTS as fault:
        print_note(_describe(file, fault))
        return None
