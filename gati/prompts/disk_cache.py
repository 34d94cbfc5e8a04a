"""The last text of each prompt on disk, for the next process and for the start during an outage."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from gati.pipeline.safe_files import UnusableFileError, read_regular, write_atomically

MAX_FILES = 500
"""The oldest files are deleted above this number."""


class FetchedPrompt(NamedTuple):
    """A version of a prompt.

    Attributes:
        id: Greenflash's id of the version.
        text: its text, with placeholders.
        fetched_at: time of the last answer with this version, in seconds since the epoch.
    """

    id: str
    text: str
    fetched_at: float


class DiskCache:
    """A folder of files, readable by their owner only (0600). Errors are ignored: it is only a cache.

    Args:
        folder: created when something is written.
        identity: fingerprint of the place that the prompts come from. Those of other places are not returned.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder = folder
        self._identity = identity

    def read(self, name: str, version: str | None) -> FetchedPrompt | None:
        """Return the version that was fetched last; None if there is none."""
        try:
            stored = json.loads(read_regular(self._folder / self._file_name(name, version)))
            if stored["key"] != self._key(name, version):
                return None
            id_, text, at = stored["id"], stored["text"], stored["fetched_at"]
        except (OSError, UnusableFileError, ValueError, KeyError, TypeError, RecursionError):
            return None
        if not (isinstance(id_, str) and isinstance(text, str) and isinstance(at, (int, float))):
            return None
        return FetchedPrompt(id_, text, at)

    def write(self, name: str, version: str | None, prompt: FetchedPrompt) -> None:
        """Store a version."""
        data = json.dumps(
            {"key": self._key(name, version), "id": prompt.id, "text": prompt.text, "fetched_at": prompt.fetched_at}
        ).encode()
        owner = f"{os.getpid()}-{threading.get_ident()}"
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(self._folder, self._file_name(name, version), data, owner)
            self._delete_oldest()

    def _delete_oldest(self) -> None:
        files = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for path in files[: max(0, len(files) - MAX_FILES)]:
            path.unlink()

    def _key(self, name: str, version: str | None) -> list[str | None]:
        return [self._identity, name, version]

    def _file_name(self, name: str, version: str | None) -> str:
        digest = hashlib.sha256(json.dumps(self._key(name, version)).encode()).hexdigest()
        return f"{digest[:32]}.json"
