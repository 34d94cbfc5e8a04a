"""Removes requests that wait in the spool or were set aside, because what they contain is to be deleted.

Files of running processes stay: such a process has its requests in memory, too, and would write them again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import orjson

from gati.exporters.base import Request
from gati.pipeline.codec import pack, unpack
from gati.pipeline.owner_lock import AdoptionLocks, close_lock_file, is_dead, open_lock_file, try_lock
from gati.pipeline.record_journal.deletion import remove_from_journals
from gati.pipeline.safe_files import UnusableFileError, read_regular, write_atomically
from gati.pipeline.spool import scan
from gati.pipeline.spool_file import SpoolFile, in_order


class RequestSelection(Protocol):
    """Decides what is removed."""

    def keep(self, request: Request) -> Request | None:
        """Return the request, one with only the items that stay, or None to remove it."""
        ...

    def mentions(self, data: bytes) -> bool:
        """Return True to remove a line that is not a request, such as one that was cut off."""
        ...

    def selects(self, texts: set[str], at_us: int) -> bool:
        """Return True to remove a turn in a journal; see `record_journal.deletion.TurnSelection`."""
        ...


@dataclass
class WaitingRemoval:
    """Counts of what was found in a spool, and removed unless it was only counted.

    Attributes:
        messages: Messages, ratings and events that waited.
        rejected: Requests that were set aside.
        running: Messages that stay, because a running process has them.
        turns: Turns that waited in journals of processes that were killed.
    """

    messages: int = 0
    rejected: int = 0
    running: int = 0
    turns: int = 0


def remove_requests(spool_dir: Path, selection: RequestSelection, *, count_only: bool = False) -> WaitingRemoval:
    """Remove requests from the folders of all destinations.

    `selection` sees every request twice, so that it can select ratings of messages that wait behind them.

    Raises:
        OSError: The disk fails.
    """
    folders = (
        sorted(folder for folder in spool_dir.iterdir() if (folder / "ready").is_dir()) if spool_dir.is_dir() else []
    )
    for folder in folders:
        for path in (*(folder / "ready").glob("*.jsonl"), *(folder / "rejected").glob("*.json")):
            _read_again(path, selection)
    found, seen = WaitingRemoval(), set[int]()
    for folder in folders:
        _remove_waiting(folder, selection, found, count_only)
        _remove_rejected(folder / "rejected", selection, found, count_only)
        found.turns += remove_from_journals(folder, selection, seen, count_only=count_only)
    return found


def _read_again(path: Path, selection: RequestSelection) -> None:
    for line in _read_lines(path):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            selection.keep(unpack(orjson.dumps(orjson.loads(line)["request"]) if path.suffix == ".json" else line))


def _read_lines(path: Path) -> list[bytes]:
    """Return the lines of a file; none if it is gone, or is not a file that gati wrote."""
    with contextlib.suppress(FileNotFoundError, UnusableFileError):
        return [line for line in read_regular(path).split(b"\n") if line]
    return []


def _remove_waiting(folder: Path, selection: RequestSelection, found: WaitingRemoval, count_only: bool) -> None:
    ready = folder / "ready"
    files = in_order(scan(ready))  # before the owners: the owner of a listed file was locked before it was written
    with _Taking(folder) if not count_only else contextlib.nullcontext() as taking:
        living = {path.stem for path in (folder / "owners").glob("*.lock") if not is_dead(path)}
        for file in files:
            lines = _read_lines(ready / file.name)
            kept, removed, items = _keep_lines(lines, selection)
            if len(kept) == len(lines) and not removed:
                continue
            if file.owner in living or (taking is not None and not taking.rewrite(file, kept, items)):
                found.running += removed
            else:
                found.messages += removed
        if not count_only:
            _remove_partial_files(ready, living)


def _keep_lines(lines: list[bytes], selection: RequestSelection) -> tuple[list[bytes], int, int]:
    """Return the lines that stay, the number of removed messages, and that of messages that stay."""
    kept, removed, items = [], 0, 0
    for line in lines:
        try:
            request = unpack(line)
            rest = selection.keep(request)
        except (ValueError, KeyError, TypeError):
            if not selection.mentions(line):
                kept.append(line)
            continue
        left = rest.items if rest is not None else 0
        removed, items = removed + request.items - left, items + left
        if rest is not None:
            kept.append(line if rest is request else pack(rest))
    return kept, removed, items


class _Taking:
    """Owns files of exited processes while they are rewritten. Afterwards they belong to an exited owner again."""

    def __init__(self, folder: Path) -> None:
        self._ready, self._folder = folder / "ready", folder
        self._owner = secrets.token_hex(6)
        self._locks = AdoptionLocks()
        self._may_take = False

    def __enter__(self) -> _Taking:
        self._lock_path = self._folder / "owners" / f"{self._owner}.lock"
        self._lock_path.parent.mkdir(mode=0o700, exist_ok=True)
        self._lock = open_lock_file(self._lock_path, os.O_CREAT | os.O_EXCL)
        # Another process that is taking over the same files would send what is to be removed.
        self._may_take = try_lock(self._lock) and self._locks.acquire(self._folder)
        return self

    def __exit__(self, *_: object) -> None:
        self._locks.release()
        close_lock_file(self._lock)
        with contextlib.suppress(OSError):
            self._lock_path.unlink()

    def rewrite(self, file: SpoolFile, lines: list[bytes], items: int) -> bool:
        """Replace the lines of a file; remove it if there are none. Return False if another process has the file."""
        mine = file.renamed(owner=self._owner)
        try:
            if not self._may_take:
                return False
            os.rename(self._ready / file.name, self._ready / mine.name)
        except FileNotFoundError:
            return False
        new = mine.renamed(items=items)
        if lines:
            write_atomically(self._ready, new.name, b"\n".join([*lines, b""]), self._owner)
        if new.name != mine.name or not lines:
            os.unlink(self._ready / mine.name)
        return True


def _remove_rejected(rejected: Path, selection: RequestSelection, found: WaitingRemoval, count_only: bool) -> None:
    for path in sorted(rejected.glob("*.json")) if rejected.is_dir() else ():
        for line in _read_lines(path):
            changed = _keep_rejected(line, selection)
            if changed is not line:
                found.rejected += 1
                if not count_only:
                    _replace(path, changed)
    for path in sorted(rejected.glob("*.damaged")) if rejected.is_dir() else ():
        lines = _read_lines(path)
        kept, removed, _ = _keep_lines(lines, selection)
        if removed or len(kept) < len(lines):
            found.rejected += 1
            if not count_only:
                _replace(path, b"\n".join(kept) or None)
    if not count_only and rejected.is_dir():
        _remove_partial_files(
            rejected, {path.stem for path in (rejected.parent / "owners").glob("*.lock") if not is_dead(path)}
        )


def _keep_rejected(line: bytes, selection: RequestSelection) -> bytes | None:
    """Return the content of a file in `rejected/` without what is removed; None if nothing is left."""
    try:
        value = orjson.loads(line)
        request = unpack(orjson.dumps(value["request"]))
        rest = selection.keep(request)
    except (ValueError, KeyError, TypeError):
        return None if selection.mentions(line) else line
    if rest is None or rest is request:
        return line if rest is request else None
    return orjson.dumps({**value, "request": orjson.loads(pack(rest))})


def _replace(path: Path, data: bytes | None) -> None:
    if data is not None:
        write_atomically(path.parent, path.name, data, secrets.token_hex(6))
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def _remove_partial_files(folder: Path, living: set[str]) -> None:
    """Remove the unfinished files of processes that died while writing."""
    for path in folder.glob(".*.part"):
        if path.name[1:13] not in living:
            with contextlib.suppress(OSError):
                path.unlink()
