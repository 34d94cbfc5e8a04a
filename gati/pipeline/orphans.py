"""Finds the spool files of processes that have exited.

A folder may hold 100,000 files, and every process looks through it regularly. So names are compared without Python code
for each, and parsed only if they are taken over. Sizes are estimated from a sample.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterable
from itertools import compress, filterfalse
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from gati.pipeline.owner_lock import is_dead, remove_dead
from gati.pipeline.spool_file import SpoolFile, in_order

SAMPLE_FILES = 500
"""Number of files whose sizes are looked up; the total is extrapolated if there are more."""

_SUFFIX = ".jsonl"
_PART = ".part"
_end_of = itemgetter(slice(-18, None))
"""Returns the part of a name with the owner: `{owner}.jsonl`."""
_END = re.compile(r"[0-9a-f]{12}\.jsonl")


class Orphans(NamedTuple):
    """Files whose owners have exited, oldest first. Those with an invalid name have no numbers."""

    files: list[SpoolFile]
    more: bool
    """True if there are more than the limit."""
    other_bytes: int
    """Approximate size of the files that other processes own."""


def find_orphans(folder: Path, mine: set[str], known: Collection[str] | None, limit: int) -> Orphans:
    """Find files of an account's folder that belong to no running process.

    Args:
        folder: the account's folder.
        mine: owners that are this process.
        known: files of this process; its other ones count as orphans. None if it has no others.
        limit: maximum number of files to return.
    """
    # List files before owners: the owner of a listed file was locked before the file was written.
    names = os.listdir(folder / "ready")
    ends = set(map(_end_of, names))
    locks = {path.stem: path for path in (folder / "owners").glob("*.lock")}
    dead_locks = {owner: path for owner, path in locks.items() if owner not in mine and is_dead(path)}
    living = _ends(locks.keys() - dead_locks.keys() | mine)
    found = []
    if orphaned := ends - living:
        found = names if ends <= orphaned else _with_end(names, orphaned)
        if not all(map(_END.fullmatch, orphaned)):  # there are other files, too
            found = [name for name in found if name.endswith(_SUFFIX)]
            _remove_unfinished(folder / "ready", names, living)
    if known is not None:
        own = names if ends <= _ends(mine) else _with_end(names, _ends(mine))
        found = [*found, *filterfalse(known.__contains__, own)]
    others = len(names) - len(found) - len(known or ())
    if len(found) <= limit:
        remove_dead(dead_locks.values())  # unless its process had only just created it
    chosen = _smallest(limit, found)
    living_others = living - _ends(mine)
    other_bytes = _total_bytes(folder / "ready", names, living_others) if others > 0 and living_others else 0
    return Orphans(in_order(map(_parse, chosen)), len(found) > limit, other_bytes)


def _ends(owners: Iterable[str]) -> set[str]:
    return {owner + _SUFFIX for owner in owners}


def _with_end(names: list[str], ends: set[str]) -> list[str]:
    return list(compress(names, map(ends.__contains__, map(_end_of, names))))


def _smallest(limit: int, names: list[str]) -> list[str]:
    """Return the `limit` smallest names, without sorting all of 100,000."""
    if len(names) <= limit or limit <= 0:
        return names[: max(0, limit)]
    sample = sorted(names[:: len(names) // SAMPLE_FILES + 1])
    bound = sample[min(len(sample) - 1, 2 * limit * len(sample) // len(names))]
    candidates = [name for name in names if name <= bound]
    return sorted(candidates if len(candidates) >= limit else names)[:limit]


def _parse(name: str) -> SpoolFile:
    return SpoolFile.parse(name) or SpoolFile(name, 0, "", 0, 0, "")


def _remove_unfinished(ready: Path, names: Iterable[str], living: set[str]) -> None:
    """Remove the unfinished files of processes that died while writing: `.{owner}-{name}.part`."""
    for name in names:
        if name.endswith(_PART) and name.startswith(".") and name[1:13] + _SUFFIX not in living:
            with contextlib.suppress(OSError):
                os.unlink(ready / name)


def _total_bytes(ready: Path, names: list[str], ends: set[str]) -> int:
    """Estimate the size of the files whose names have one of these ends."""
    sample = names[:: len(names) // SAMPLE_FILES + 1]  # the order of names in a folder is arbitrary
    total = 0
    for name in sample:
        if _end_of(name) in ends:
            with contextlib.suppress(OSError):
                total += os.lstat(ready / name).st_size
    return total * len(names) // max(1, len(sample))
