"""Gives requests from a journal the place among the spool files of their process that they would have had.

They become files of that process, so that whoever takes over its files delivers all of them in order. As long as another
process has some of them, the journal waits: two processes would send a conversation in no order.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gati.pipeline.owner_lock import is_dead
from gati.pipeline.safe_files import write_atomically
from gati.pipeline.spool_file import SpoolFile

if TYPE_CHECKING:
    from gati.pipeline.spool import Spool


class FilesOfExited:
    """The files in a spool that a process which has exited was the first to write."""

    def __init__(self, spool: Spool, folder: Path, origin: str) -> None:
        """`folder` is the account's folder in which the journal is, `origin` the journal's name."""
        self._spool = spool
        self._ready = folder / "ready"
        self._origin = origin
        self._files = list(self._find())
        self._alive: dict[Path, bool] = {}

    def _find(self) -> Iterator[tuple[Path, SpoolFile]]:
        part = f"-{self._origin}-"
        for ready in {self._ready, self._spool.ready, *self._spool.root.glob(f"{self._spool.exporter}-*/ready")}:
            for name in os.listdir(ready):
                if part in name and (file := SpoolFile.parse(name)) and file.origin == self._origin:
                    yield ready, file

    def are_elsewhere(self) -> bool:
        """Return True if another process that is running has any of them, or its exit has only begun."""
        return any(not self._is_orphan(ready, file) and file.owner != self._spool.owner for ready, file in self._files)

    def _is_orphan(self, ready: Path, file: SpoolFile) -> bool:
        lock = ready.parent / "owners" / f"{file.owner}.lock"
        if lock not in self._alive:
            self._alive[lock] = not is_dead(lock)
        return not self._alive[lock]

    def add(self, batches: Sequence[tuple[Sequence[bytes], int]], after: int | None) -> None:
        """Write files, in order.

        Args:
            batches: the lines of each file, and the number of messages in them.
            after: number of the process's file that they follow: later ones, which hold some of the same turns, are moved
                behind them. None if they follow all files.

        Raises:
            OSError: the disk fails. The files that were written so far stay.
        """
        later = sorted(
            (file.number, ready, file)
            for ready, file in self._files
            if after is not None and file.number > after and self._is_orphan(ready, file)
        )
        number = max((file.number for _, file in self._files), default=after or 0)
        created = max((file.created_us for _, file in self._files), default=0)
        created = max(created, time.time_ns() // 1000)
        for lines, items in batches:
            number += 1
            file = SpoolFile("", created, self._origin, number, items, self._origin).renamed()
            write_atomically(self._ready, file.name, b"\n".join([*lines, b""]), self._spool.owner)
        for _, ready, file in later:
            number += 1
            moved = file._replace(created_us=created, number=number).renamed()
            os.replace(ready / file.name, ready / moved.name)
