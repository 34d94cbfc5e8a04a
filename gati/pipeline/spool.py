"""The folder that keeps requests until their destination has acknowledged them.

::

    {spool_dir}/{exporter}-{account}/        0700
        ready/      {created}-{origin}-{number}-{items}.{owner}.jsonl     one batch per file, 0600
        rejected/   {hash}.json       a request that the destination rejected, with its reason
        owners/     {owner}.lock      locked with flock while its process runs

A file belongs to the owner in its name, at first its writer. A process takes a file over by renaming it;
of several that try, only one succeeds. An owner whose lock can be acquired has exited, even if its process
id is in use again, so this also works between containers that share a disk. Files are written under a
hidden name and renamed, so that no process reads an incomplete one.

The content of a renamed file outlives the process (SIGKILL, out of memory). It is not synced to disk:
a power failure may lose what the kernel has not written yet, typically 30 seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME = re.compile(r"(\d{16})-([0-9a-f]{12})-(\d{6,})-(\d+)\.([0-9a-f]{12})\.jsonl\Z")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")


class SpoolFile(NamedTuple):
    """A batch on disk, as parsed from its file name."""

    name: str
    created_us: int
    origin: str
    number: int
    items: int
    owner: str
    size: int = 0

    @classmethod
    def parse(cls, name: str, size: int = 0) -> SpoolFile | None:
        """Parse a file name; return None if it is not the name of a batch."""
        if not (match := _NAME.match(name)):
            return None
        created, origin, number, items, owner = match.groups()
        return cls(name, int(created), origin, int(number), int(items), owner, size)

    @property
    def order(self) -> tuple[int, str, int]:
        """Sort key: oldest first, and files of one writer in the order of writing."""
        return self.created_us, self.origin, self.number

    def renamed(self, *, owner: str | None = None, items: int | None = None) -> SpoolFile:
        """Return the batch with the name it has under another owner, or with another number of items."""
        owner, items = owner or self.owner, self.items if items is None else items
        name = f"{self.created_us:016d}-{self.origin}-{self.number:06d}-{items}.{owner}.jsonl"
        return self._replace(name=name, owner=owner, items=items)


class Spool:
    """The folder of one account, used by one process. Methods raise OSError if the disk fails.

    Not thread-safe except for `remove`.
    """

    def __init__(self, root: Path, exporter: str, account: str) -> None:
        self.folder = root / account_folder(exporter, account)
        self.ready = self.folder / "ready"
        self.rejected = self.folder / "rejected"
        self.owners = self.folder / "owners"
        self.owner = ""
        self._lock_fd: int | None = None
        self._number = 0

    @property
    def is_open(self) -> bool:
        return self._lock_fd is not None

    def open(self) -> None:
        """Create the folder and this process's owner file in it. May be called repeatedly."""
        if self._lock_fd is not None:
            return
        for folder in (self.folder, self.ready, self.rejected, self.owners):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            owner = secrets.token_hex(6)
            path = self.owners / f"{owner}.lock"
            fd = _open_lock_file(path, os.O_CREAT | os.O_EXCL)
            # Another process may see the file before it is locked, and remove it as one of an exited owner.
            if try_lock(fd) and path.exists():
                break
            _close_lock_file(fd)
        os.write(fd, orjson.dumps({"pid": os.getpid(), "started": time.time()}))
        self.owner, self._lock_fd = owner, fd

    def write(self, lines: Sequence[bytes], items: int) -> SpoolFile:
        """Write a new file of requests, completely or not at all."""
        self.open()
        self._number += 1
        file = SpoolFile("", time.time_ns() // 1000, self.owner, self._number, items, self.owner).renamed()
        return self._write(file, lines)

    def rewrite(self, file: SpoolFile, lines: Sequence[bytes], items: int) -> SpoolFile:
        """Replace a file by one with its remaining requests."""
        new = self._write(file.renamed(items=items), lines)
        if new.name != file.name:
            self.remove(file)
        return new

    def _write(self, file: SpoolFile, lines: Sequence[bytes]) -> SpoolFile:
        data = b"\n".join([*lines, b""])
        _write_atomically(self.ready, file.name, data, self.owner)
        return file._replace(size=len(data))

    def read(self, file: SpoolFile) -> list[bytes]:
        """Return the lines of a file, without a last one that was cut off."""
        return (self.ready / file.name).read_bytes().split(b"\n")[:-1]

    def remove(self, file: SpoolFile) -> None:
        """Remove a file; does nothing if it is gone already."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.ready / file.name)

    def files(self) -> list[SpoolFile]:
        """Return all batches of the account, of every owner, oldest first."""
        return sorted(scan(self.ready), key=lambda file: file.order)

    def adopt(self) -> list[SpoolFile]:
        """Take over and return the files of processes that have exited, oldest first."""
        self.open()
        # List files before owners: the owner of a listed file was locked before the file was written.
        files = [file for file in self.files() if file.owner != self.owner]
        living = set()
        for path in self.owners.glob("*.lock"):
            if path.stem == self.owner or not _remove_if_dead(path):
                living.add(path.stem)
        mine = []
        for file in files:
            if file.owner not in living:
                new = file.renamed(owner=self.owner)
                with contextlib.suppress(FileNotFoundError):  # another process was faster
                    os.rename(self.ready / file.name, self.ready / new.name)
                    mine.append(new)
        self._sweep(living)
        return mine

    def _sweep(self, living: set[str]) -> None:
        """Remove the unfinished files of processes that died while writing."""
        for path in self.ready.glob(".*.part"):
            if path.name[1:13] not in living:
                with contextlib.suppress(OSError):
                    path.unlink()

    def set_aside(self, line: bytes, reason: str, limit: int) -> None:
        """Keep a rejected request with its reason. Remove the oldest ones beyond `limit` bytes in total.

        The file name is a hash of the content, so a request that is rejected twice is kept once.
        """
        value = b'{"reason":%s,"at":%d,"request":%s}' % (orjson.dumps(reason), int(time.time() * 1000), line)
        self._write_rejected(hashlib.sha256(line).hexdigest()[:24] + ".json", value, limit)

    def set_aside_damaged(self, file: SpoolFile, lines: Sequence[bytes], limit: int) -> None:
        """Keep the lines of a damaged file."""
        self._write_rejected(file.name + ".damaged", b"\n".join(lines), limit)

    def _write_rejected(self, name: str, value: bytes, limit: int) -> None:
        self.open()
        kept = []
        for entry in os.scandir(self.rejected):
            with contextlib.suppress(FileNotFoundError):
                kept.append((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path))
        kept.sort()
        total = sum(size for _, size, _ in kept) + len(value)
        for _, size, path in kept:
            if total <= limit:
                break
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            total -= size
        _write_atomically(self.rejected, name, value, self.owner)

    def close(self) -> None:
        """Release this process's files, so that the next process can take them over."""
        fd, self._lock_fd = self._lock_fd, None
        if fd is not None:
            _close_lock_file(fd)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.owners / f"{self.owner}.lock")

    def abandon(self) -> None:
        """Forget the owner, which is the parent's, as are its files. Called in a forked child."""
        self._lock_fd = None  # the descriptor itself is closed by `_close_inherited`
        self.owner, self._number = "", 0


_lock_fds: set[int] = set()
"""Descriptors of lock files. A lock lasts until the last copy of its descriptor is closed, and a forked
child has copies: if it kept them, the files of an exited parent could not be taken over."""


def _open_lock_file(path: Path, flags: int = 0) -> int:
    fd = os.open(path, os.O_RDWR | flags | getattr(os, "O_CLOEXEC", 0), 0o600)
    _lock_fds.add(fd)
    return fd


def _close_lock_file(fd: int) -> None:
    _lock_fds.discard(fd)
    os.close(fd)


def _close_inherited() -> None:
    for fd in list(_lock_fds):
        with contextlib.suppress(OSError):
            _close_lock_file(fd)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)


def account_folder(exporter: str, account: str) -> str:
    """Return the name of an account's folder in the spool."""
    return _UNSAFE.sub("_", f"{exporter}-{account}")


def scan(ready: Path) -> Iterator[SpoolFile]:
    """Yield the batches in a folder, unsorted."""
    for entry in os.scandir(ready):
        with contextlib.suppress(FileNotFoundError):  # delivered meanwhile
            if file := SpoolFile.parse(entry.name):
                yield file._replace(size=entry.stat().st_size)


def try_lock(fd: int) -> bool:
    """Lock a file for this process; return False if another process holds the lock."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]  # only Windows has it
        except OSError:
            return False
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_dead(path: Path) -> bool:
    """Return True if no process holds the lock of this owner file."""
    try:
        fd = _open_lock_file(path)
    except FileNotFoundError:
        return True
    try:
        return try_lock(fd)
    finally:
        _close_lock_file(fd)


def _remove_if_dead(path: Path) -> bool:
    if not is_dead(path):
        return False
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    return True


def _write_atomically(folder: Path, name: str, data: bytes, owner: str) -> None:
    part = folder / f".{owner}-{name}.part"
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
        finally:
            os.close(fd)
        os.replace(part, folder / name)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
