"""The folder `rejected/` of an account, whose size is bounded: the oldest files are deleted."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from gati.pipeline.safe_files import write_atomically

PARTS = 20
"""The size of the folder is measured each time this fraction of its limit was written."""


class RejectedFiles:
    """Writes files and deletes the oldest ones. Methods raise OSError if the disk fails."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._last_ns = 0
        """Time of the file that was written last, in nanoseconds since the epoch."""
        self._space = 0
        """Bytes that may be written before the size of the folder is measured again."""

    def write(self, name: str, value: bytes, limit: int, owner: str) -> None:
        """Write a file.

        Args:
            name: its name.
            value: its content.
            limit: size of all files together, in bytes.
            owner: this process, for the name of the file while it is incomplete.
        """
        # Not for each file: a folder of small requests has 50,000, and an outage of the API may refuse them all.
        self._space -= len(value)
        if self._space < 0:
            self._space = limit // PARTS - len(value)
            self._delete_oldest(limit - max(len(value), limit // PARTS))
        write_atomically(self._folder, name, value, owner)
        # The order of what is set aside: the clock of file systems may stand still for milliseconds.
        self._last_ns = max(time.time_ns(), self._last_ns + 1)
        with contextlib.suppress(OSError):
            os.utime(self._folder / name, ns=(self._last_ns, self._last_ns))

    def _delete_oldest(self, limit: int) -> None:
        kept = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    kept.append((status.st_mtime_ns, status.st_size, entry.path))
        kept.sort()
        total = sum(size for _, size, _ in kept)
        for _, size, path in kept:
            if total <= limit:
                break
            with contextlib.suppress(OSError):
                os.unlink(path)
            total -= size
