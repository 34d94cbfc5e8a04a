"""The source of prompts: Greenflash, if a key or a client is configured; else the embedded store."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from gati._api.destinations import active_destinations
from gati.exporters.prompt_source import PromptSource, PromptSourceError

if TYPE_CHECKING:
    from gati.settings import Settings
    from gati.store.store import Store

T = TypeVar("T")


class SourceSpec(NamedTuple):
    """A place that prompts come from.

    Attributes:
        kind: what `ManagedPrompt.source` names.
        identity: fingerprint of address and key, or of the store's path.
        connect: creates the source; may load the SDK.
    """

    kind: Literal["greenflash", "store"]
    identity: str
    connect: Callable[[], PromptSource]


def source_of(settings: Settings, store_path: Path | None = None, *, read_only: bool = False) -> SourceSpec | None:
    """Return the source that the options name; None if there is none, because no destination has prompts.

    Args:
        settings: the options.
        store_path: the embedded store, instead of the configured source.
        read_only: create, rename and change no store. For use in one thread.
    """
    kinds = {destination.kind for destination in active_destinations(settings)}
    if "greenflash" in kinds and store_path is None:
        from gati.exporters.greenflash.connection import resolve_access

        return SourceSpec("greenflash", resolve_access(settings).account, partial(_connect_greenflash, settings))
    if "local" in kinds or store_path is not None:
        from gati.store.store import default_path

        path = store_path or (settings.local if isinstance(settings.local, Path) else default_path())
        identity = hashlib.sha256(b"store\n" + os.fsencode(path.absolute())).hexdigest()[:16]
        connect = partial(_connect_file, path.absolute(), settings.local_max_bytes, read_only)
        return SourceSpec("store", identity, connect)
    return None


def _connect_greenflash(settings: Settings) -> PromptSource:
    from gati.exporters.greenflash.prompts import GreenflashPrompts

    source = GreenflashPrompts(settings)
    source.prepare()
    return source


def _connect_file(path: Path, max_bytes: int, read_only: bool) -> PromptSource:
    """Return the prompts of an embedded store. A file that does not exist is created by the first write only."""

    def open_store() -> Store:
        from gati.store.store import Store  # late: it loads sqlite3

        return Store(path, max_bytes, read_only=read_only)

    return StorePrompts(open_store, path.exists)


class StorePrompts:
    """The prompts in an embedded store, or in that of a team.

    Args:
        open_store: opens the store; called once.
        exists: returns False while there is nothing to read.
    """

    def __init__(self, open_store: Callable[[], Store], exists: Callable[[], bool] = lambda: True) -> None:
        self._open_store, self._exists = open_store, exists
        self._store: Store | None = None

    def get(self, prompt_id: str) -> dict[str, Any] | None:
        """See `PromptSource.get`."""
        from gati.store import prompt_records

        nothing: dict[str, Any] | None = None
        return self._read(lambda store: prompt_records.read_prompt(store, prompt_id), nothing)

    def list_all(
        self, *, active_only: bool = False, version_id: str | None = None, include_archived: bool = False
    ) -> list[dict[str, Any]]:
        """See `PromptSource.list_all`."""
        from gati.store import prompt_records

        def read(store: Store) -> list[dict[str, Any]]:
            return prompt_records.list_records(
                store,
                active_only=active_only,
                version_id=version_id,
                include_archived=include_archived,
                limit=10_000,
            )

        return self._read(read, [])

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """See `PromptSource.create`."""
        from gati.store import prompt_records

        return self._guarded(lambda: prompt_records.create_prompt(self._open(), body))

    def update(self, prompt_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """See `PromptSource.update`."""
        from gati.store import prompt_records

        updated = self._guarded(lambda: prompt_records.update_prompt(self._open(), prompt_id, body))
        if updated is None:
            raise PromptSourceError(f"there is no prompt {prompt_id}", 404)
        return updated

    def close(self) -> None:
        """See `PromptSource.close`."""
        if self._store is not None:
            self._store.close()

    def _open(self) -> Store:
        if self._store is None:
            self._store = self._open_store()
        return self._store

    def _read(self, read: Callable[[Store], T], nothing: T) -> T:
        return self._guarded(lambda: read(self._open())) if self._exists() else nothing

    @staticmethod
    def _guarded(work: Callable[[], T]) -> T:
        from gati.store.store_file import NotAStoreError

        try:
            return work()
        except (sqlite3.Error, NotAStoreError, OSError) as error:
            raise PromptSourceError(f"the store cannot be used: {type(error).__name__}") from error
