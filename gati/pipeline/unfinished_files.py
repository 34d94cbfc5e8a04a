"""Finds files that processes which were killed have left unfinished, and removes them.

They hold nothing that is not lost, so that any process may remove those of every account. Those in `ready/` are removed when
its files are taken over; see `orphans`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from gati.pipeline.owner_lock import is_dead, remove_dead
from gati.pipeline.spool import JOURNALS

_PARTS = ".*.part"

FORGOTTEN_SECONDS = 3600.0
"""Age from which a file without a lock is unfinished for good. To write one takes milliseconds."""


def unfinished_journals(folder: Path) -> Iterator[Path]:
    """Yield the journals in the folder of an account whose processes were killed while they created them."""
    for path in (folder / JOURNALS).glob(_PARTS):
        if path.is_file() and is_dead(path):
            yield path


def remove_unfinished(root: Path) -> None:
    """Remove the unfinished files of processes that were killed from a spool: journals, and what has no lock."""
    remove_dead(root.glob(f"*/{JOURNALS}/{_PARTS}"))
    for place in ("*", "*/rejected"):
        for path in root.glob(f"{place}/{_PARTS}"):
            with contextlib.suppress(OSError):
                if time.time() - os.lstat(path).st_mtime > FORGOTTEN_SECONDS:
                    path.unlink()
