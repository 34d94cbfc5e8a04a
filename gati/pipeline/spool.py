"""The folder in which messages wait until their destination has acknowledged them.

::

    {spool_dir}/{exporter}-{account}/        0700
        ready/      {created}-{origin}-{number}-{items}.{owner}.jsonl     one batch a file, 0600
        rejected/   {hash}.json       a request that the destination refused, with its reason
        owners/     {owner}.lock      held with flock while its process lives

A file belongs to the owner in its name: it is born with its writer's, and to take it over is to
rename it, which only one process can do. An owner whose lock can be had is dead, whatever its
process id says today; so this holds across containers that share a disk, too. Files are written
under a hidden name and renamed, so that nobody reads half of one.

What a renamed file holds outlives the process (SIGKILL, out of memory). It is not synced to the
platter: a loss of power may cost what the kernel had not written yet, commonly 30 seconds.
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
    """One batch on disk, as its name tells it."""

    name: str
    created_us: int
    origin: str
    number: int
    items: int
    owner: str
    size: int = 0

    @classmethod
    def parse(cls, name: str, size: int = 0) -> SpoolFile | None:
        """None if the name is not one of ours."""
        if not (match := _NAME.match(name)):
            return None
        created, origin, number, items, owner = match.groups()
        return cls(name, int(created), origin, int(number), int(items), owner, size)

    @property
    def order(self) -> tuple[int, str, int]:
        """Oldest first; files of one writer in the order of writing."""
        return self.created_us, self.origin, self.number

    def renamed(self, *, owner: str | None = None, items: int | None = None) -> SpoolFile:
        """The same batch under another owner, or with other contents."""
        owner, items = owner or self.owner, self.items if items is None else items
        name = f"{self.created_us:016d}-{self.origin}-{self.number:06d}-{items}.{owner}.jsonl"
        return self._replace(name=name, owner=owner, items=items)


class Spool:
    """One account's folder, as one process uses it. Raises OSError like the calls it makes.

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
        """Create the folder and this process's identity in it; harmless if that is done."""
        if self._lock_fd is not None:
            return
        for folder in (self.folder, self.ready, self.rejected, self.owners):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            owner = secrets.token_hex(6)
            path = self.owners / f"{owner}.lock"
            fd = _open_lock_file(path, os.O_CREAT | os.O_EXCL)
            # Another process may find the file before it is locked, and clear it away as a dead one's.
            if try_lock(fd) and path.exists():
                break
            _close_lock_file(fd)
        os.write(fd, orjson.dumps({"pid": os.getpid(), "started": time.time()}))
        self.owner, self._lock_fd = owner, fd

    def write(self, lines: Sequence[bytes], items: int) -> SpoolFile:
        """A new file of requests, complete or not there at all."""
        self.open()
        self._number += 1
        file = SpoolFile("", time.time_ns() // 1000, self.owner, self._number, items, self.owner).renamed()
        return self._write(file, lines)

    def rewrite(self, file: SpoolFile, lines: Sequence[bytes], items: int) -> SpoolFile:
        """Replace a file by what remains of it."""
        new = self._write(file.renamed(items=items), lines)
        if new.name != file.name:
            self.remove(file)
        return new

    def _write(self, file: SpoolFile, lines: Sequence[bytes]) -> SpoolFile:
        data = b"\n".join([*lines, b""])
        _write_atomically(self.ready, file.name, data, self.owner)
        return file._replace(size=len(data))

    def read(self, file: SpoolFile) -> list[bytes]:
        """The requests of a file, one a line. The last is missing its end if it was cut off."""
        return (self.ready / file.name).read_bytes().split(b"\n")[:-1]

    def remove(self, file: SpoolFile) -> None:
        """Delivered, or given up. One that is gone already is fine."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.ready / file.name)

    def files(self) -> list[SpoolFile]:
        """All batches of the account, of whatever owner, oldest first."""
        return sorted(scan(self.ready), key=lambda file: file.order)

    def adopt(self) -> list[SpoolFile]:
        """Take over what dead processes left; oldest first."""
        self.open()
        # Files before owners: a file seen now had an owner's lock before it was written.
        files = [file for file in self.files() if file.owner != self.owner]
        living = set()
        for path in self.owners.glob("*.lock"):
            if path.stem == self.owner or not _remove_if_dead(path):
                living.add(path.stem)
        mine = []
        for file in files:
            if file.owner not in living:
                new = file.renamed(owner=self.owner)
                with contextlib.suppress(FileNotFoundError):  # another process was quicker
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
        """Keep a refused request with its reason. Past `limit` bytes the oldest ones go.

        The name is made from the contents, so that a request refused twice is there once.
        """
        value = b'{"reason":%s,"at":%d,"request":%s}' % (orjson.dumps(reason), int(time.time() * 1000), line)
        self._write_rejected(hashlib.sha256(line).hexdigest()[:24] + ".json", value, limit)

    def set_aside_damaged(self, file: SpoolFile, lines: Sequence[bytes], limit: int) -> None:
        """Keep what could not be read of a file."""
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
        """Give back everything: what is still here belongs to whoever comes next."""
        fd, self._lock_fd = self._lock_fd, None
        if fd is not None:
            _close_lock_file(fd)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.owners / f"{self.owner}.lock")

    def abandon(self) -> None:
        """In a forked child: the identity is the parent's, and so are its files."""
        self._lock_fd = None  # the descriptor itself is closed by `_close_inherited`
        self.owner, self._number = "", 0


_lock_fds: set[int] = set()
"""Descriptors of lock files. A lock lasts until the last copy of its descriptor is closed, and a
forked child has copies: with them it would keep a dead parent's files from being taken over."""


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
    """Name of an account's folder in the spool."""
    return _UNSAFE.sub("_", f"{exporter}-{account}")


def scan(ready: Path) -> Iterator[SpoolFile]:
    """The batches in a folder, unsorted."""
    for entry in os.scandir(ready):
        with contextlib.suppress(FileNotFoundError):  # delivered meanwhile
            if file := SpoolFile.parse(entry.name):
                yield file._replace(size=entry.stat().st_size)


def try_lock(fd: int) -> bool:
    """Lock a file for this process, if no other holds it."""
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
    """True if nobody holds the lock of this owner's file."""
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
