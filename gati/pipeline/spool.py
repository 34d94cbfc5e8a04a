"""The folder that keeps requests until their destination has acknowledged them.

::

    {spool_dir}/{exporter}-{account}/        0700
        ready/      {created}-{origin}-{number}-{items}.{owner}.jsonl     one batch per file, 0600
        rejected/   {hash}.json       a request that the destination rejected, with its reason
        owners/     {owner}.lock      locked with flock while its process runs
        journals/   {name}.journal    records of a process, locked while it runs; see `record_journal`
        adopting                      locked while a process takes over files of others
        account.json                  see `account`

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
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from gati.exporters.base import SpoolIdentity
from gati.pipeline import account as accounts
from gati.pipeline.account import account_folder
from gati.pipeline.codec import unpack
from gati.pipeline.orphans import find_orphans
from gati.pipeline.owner_lock import (
    AdoptionLocks,
    close_lock_file,
    is_dead,
    is_locked_file,
    open_lock_file,
    try_lock,
)
from gati.pipeline.rejected_files import RejectedFiles
from gati.pipeline.safe_files import UnusableFileError, read_regular, write_atomically
from gati.pipeline.spool_file import MAX_CREATED_US, FileOrigin, SpoolFile, in_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gati.exporters.base import Exporter

__all__ = ["Spool", "SpoolFile", "is_dead", "scan"]

JOURNALS = "journals"
"""Name of the folder for journals of records in the folder of an account; see `record_journal`."""

ADOPT_AT_ONCE = 2_000
"""Files that one call of `adopt` takes over at most. Other processes can take over the rest meanwhile."""


class Spool:
    """The folder of one account, used by one process. Methods raise OSError if the disk fails.

    `adopt` and `write` belong to one thread; other threads may call the other methods at the same time.
    """

    def __init__(
        self,
        root: Path,
        exporter: str,
        account: str,
        identity: SpoolIdentity | None = None,
        origin: FileOrigin | None = None,
    ) -> None:
        """`origin` is shared by the spools of this process, unless this is the only one."""
        self.root = root
        self.exporter = exporter
        self.identity = identity or SpoolIdentity(account)
        self.folder = root / account_folder(exporter, account)
        self.ready = self.folder / "ready"
        self.rejected = self.folder / "rejected"
        self.owners = self.folder / "owners"
        self.more_to_adopt = False
        """True if the last `adopt` left files of exited processes for the next call."""
        self.other_bytes = 0
        """Approximate size of the files of other processes when `adopt` was last called."""
        self.locked = True
        """False: files belong to no running process, so that another one delivers them at once."""
        self.owner = ""
        self._last_us = 0
        self._lock_fd: int | None = None
        self._origin = FileOrigin()
        self._names: set[str] = set()
        self._rejected_files = RejectedFiles(self.rejected)
        self._interrupted = False
        self._adopting = AdoptionLocks()
        self._opening = threading.RLock()
        self.abandon()
        if origin is not None:
            self._origin, self.owner = origin, origin.name

    @property
    def is_open(self) -> bool:
        return self._lock_fd is not None

    def open(self) -> bool:
        """Create the folder and this process's owner file in it, also after somebody has removed them.

        Returns False if there was nothing to do.
        """
        with self._opening:
            fd = self._lock_fd
            is_locked = fd is not None and is_locked_file(fd, self._lock_path)
            if is_locked and self.ready.is_dir():
                return False
            self.create_folders()
            if is_locked:
                return True
            lost, self._lock_fd = self._lock_fd, None
            if lost is not None:
                close_lock_file(lost)
            if self.locked:
                self._create_lock()
            return True

    def create_folders(self) -> None:
        """Create the folder of the account, as far as it is missing."""
        for folder in (self.folder, self.ready, self.rejected, self.owners):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        accounts.write_info(self.folder, self.exporter, self.identity)

    def _create_lock(self) -> None:
        while True:
            fd = None
            with contextlib.suppress(FileExistsError):
                fd = open_lock_file(self._lock_path, os.O_CREAT | os.O_EXCL)
                # Another process may see the file before it is locked, and remove it as one of an exited owner.
                if try_lock(fd) and is_locked_file(fd, self._lock_path):
                    os.write(fd, orjson.dumps({"pid": os.getpid(), "started": time.time()}))
                    self._lock_fd = fd
                    break
            if fd is not None:
                close_lock_file(fd)
            self.owner = secrets.token_hex(6)
        if not self.locked:  # closed meanwhile by another thread
            self.close()

    @property
    def _lock_path(self) -> Path:
        return self.owners / f"{self.owner}.lock"

    def reserve(self, items: int) -> SpoolFile:
        """Return the name of a new file without writing it. The order of names is the order of these calls."""
        # Not the wall clock alone, which may step back.
        self._last_us = min(max(time.time_ns() // 1000, self._last_us + 1), MAX_CREATED_US)
        return SpoolFile("", self._last_us, self._origin.name, self._origin.next_number(), items, self.owner).renamed()

    def write(self, lines: Sequence[bytes], items: int, reserved: SpoolFile | None = None) -> SpoolFile:
        """Write a new file of requests, completely or not at all."""
        self.open()
        file = (reserved or self.reserve(items)).renamed(owner=self.owner, items=items)
        return self._write(file, lines)

    def rewrite(self, file: SpoolFile, lines: Sequence[bytes], items: int) -> SpoolFile:
        """Replace a file by one with its remaining requests."""
        new = self._write(file.renamed(items=items), lines)
        if new.name != file.name:
            self.remove(file)
        return new

    def _write(self, file: SpoolFile, lines: Sequence[bytes]) -> SpoolFile:
        data = b"\n".join([*lines, b""])
        try:
            write_atomically(self.ready, file.name, data, self.owner)
        except FileNotFoundError:  # somebody has removed the folder
            self.open()
            write_atomically(self.ready, file.name, data, self.owner)
        self._names.add(file.name)
        return file._replace(size=len(data))

    def read(self, file: SpoolFile) -> list[bytes]:
        """Return the lines of a file, without a last one that was cut off.

        Raises:
            UnusableFileError: the path is not a file that gati wrote, but a link, a pipe or the like.
        """
        return read_regular(self.ready / file.name).split(b"\n")[:-1]

    def remove(self, file: SpoolFile) -> None:
        """Remove a file; does nothing if it is gone already."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.ready / file.name)
        self._names.discard(file.name)

    def files(self) -> list[SpoolFile]:
        """Return all batches of the account, of every owner, oldest first."""
        return in_order(scan(self.ready))

    def adopt(self, limit: int = ADOPT_AT_ONCE, *, everything: bool = False) -> list[SpoolFile]:
        """Take over and return files of processes that have exited, oldest first.

        Includes those in folders of other accounts which this one may take over (see `account.may_take_over`). While
        `more_to_adopt` is True, no other process takes over files, so that this one gets them all in order.

        Args:
            limit: number of files.
            everything: take over the folders of all accounts of this exporter.
        """
        self.open()
        is_adopting = self._adopting.acquire(self.folder)
        found = find_orphans(self.folder, {self.owner}, self._names if self._interrupted else None, limit)
        self.other_bytes, self.more_to_adopt = found.other_bytes, is_adopting and found.more
        moves = dict.fromkeys(found.files, self.ready) if is_adopting else {}
        for folder in self._other_folders(everything):
            with contextlib.suppress(OSError):
                if self._adopting.acquire(folder):
                    others = find_orphans(folder, set(), None, limit - len(moves))
                    moves |= dict.fromkeys(others.files, folder / "ready")
                    self.more_to_adopt |= others.more
        self._interrupted = True
        mine = [new for file in in_order(moves) if (new := self._take_over(file, moves[file])) is not None]
        self._names.update(file.name for file in mine)
        self._interrupted = False
        if not self.more_to_adopt:
            self._adopting.release()
        return mine

    def begin_adopting(self, folder: Path) -> bool:
        """Keep other processes from taking over files in an account's folder, until `adopt` has done so.

        Returns False if another process is about to do so.
        """
        return self._adopting.acquire(folder)

    def end_adopting(self) -> None:
        """Let other processes take over the files that the last `adopt` left."""
        self._adopting.release()

    def _other_folders(self, everything: bool) -> Iterator[Path]:
        for folder in sorted(self.root.iterdir()) if self.root.is_dir() else ():
            if folder != self.folder and (folder / "ready").is_dir():
                if (everything and accounts.exporter_of(folder, [self.exporter])) or accounts.may_take_over(
                    folder, self.exporter, self.identity
                ):
                    yield folder

    def folders(self, *, everything: bool) -> list[Path]:
        """Return the folders from which this process may take over what others left."""
        return [self.folder, *self._other_folders(everything)]

    def _take_over(self, file: SpoolFile, ready: Path) -> SpoolFile | None:
        """Rename a file of an exited process; return None if that fails, and leave the file to the next call."""
        try:
            status = os.lstat(ready / file.name)
            new = file
            if SpoolFile.parse(file.name) is None:
                new = self.reserve(0)
            elif stat.S_ISREG(status.st_mode) and file.items > status.st_size:
                new = file._replace(items=0)  # no message is that short, so the number is not true
            new = new.renamed(owner=self.owner)._replace(size=status.st_size)
            os.rename(ready / file.name, self.ready / new.name)
        except OSError:  # also if another process was faster
            return None
        # A process that continues a conversation of this file must not sort before it.
        self._last_us = max(self._last_us, new.created_us)
        return new

    def set_aside(self, line: bytes, reason: str, limit: int) -> None:
        """Keep a rejected request with its reason. Remove the oldest ones beyond `limit` bytes in total.

        The file name is a hash of the content, so a request that is rejected twice is kept once.
        """
        value = b'{"reason":%s,"at":%d,"request":%s}' % (orjson.dumps(reason), int(time.time() * 1000), line)
        self.open()
        self._rejected_files.write(hashlib.sha256(line).hexdigest()[:24] + ".json", value, limit, self.owner)

    def set_aside_damaged(self, file: SpoolFile, lines: Sequence[bytes], limit: int) -> None:
        """Keep the lines of a damaged file."""
        self.open()
        self._rejected_files.write(file.name + ".damaged", b"\n".join(lines), limit, self.owner)

    def set_aside_unusable(self, file: SpoolFile) -> None:
        """Move what is not a file out of the way, unopened."""
        os.replace(self.ready / file.name, self.rejected / (file.name + ".damaged"))
        self._names.discard(file.name)

    def restore_rejected(self, *, everything: bool = False) -> list[SpoolFile]:
        """Write requests that were set aside into files again, oldest first, and remove them from `rejected/`.

        Args:
            everything: include the folders of all accounts of this exporter.
        """
        files = []
        for folder in (self.folder, *self._other_folders(everything)):
            for path in sorted((folder / "rejected").glob("*.json"), key=_modified):
                with contextlib.suppress(FileNotFoundError, UnusableFileError, ValueError, KeyError, TypeError):
                    line = orjson.dumps(orjson.loads(read_regular(path))["request"])
                    files.append(self.write([line], unpack(line).items))
                    path.unlink()
        return files

    def mark_key(self, *, accepted: bool) -> None:
        """Record whether the destination has accepted the key."""
        self.open()
        accounts.mark_key(self.folder, accepted=accepted)

    def close(self) -> None:
        """Release this process's files, so that the next process can take them over.

        Later writes belong to no running process either.
        """
        self.locked = False
        self._adopting.release()
        fd, self._lock_fd = self._lock_fd, None
        if fd is not None:
            close_lock_file(fd)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._lock_path)

    def abandon(self) -> None:
        """Forget the owner, which is the parent's, as are its files. Called in a forked child."""
        self._lock_fd = None  # the descriptors themselves are closed by a fork hook of `owner_lock`
        self._adopting.forget()
        self._origin = FileOrigin()
        self.owner = self._origin.name
        self._names, self._interrupted = set(), False
        self._opening = threading.RLock()


def scan(ready: Path) -> Iterator[SpoolFile]:
    """Yield the batches in a folder, unsorted."""
    with os.scandir(ready) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # delivered meanwhile
                if file := SpoolFile.parse(entry.name):
                    yield file._replace(size=entry.stat(follow_symlinks=False).st_size)


def has_files(root: Path, exporter: Exporter) -> bool:
    """Return True if files of an exporter wait in a folder. Creates nothing."""
    ready = root / account_folder(exporter.name, spool_identity(exporter).account) / "ready"
    try:
        with os.scandir(ready) as entries:
            return any(True for _ in entries) or any((ready.parent / JOURNALS).glob("*"))
    except OSError:
        return False


def spool_for(root: Path, exporter: Exporter, origin: FileOrigin | None = None) -> Spool:
    """Return the spool of an exporter in a folder."""
    return Spool(root, exporter.name, spool_identity(exporter).account, spool_identity(exporter), origin)


def spool_identity(exporter: Exporter) -> SpoolIdentity:
    """Return to whom the spooled requests of an exporter belong."""
    identity = getattr(exporter, "spool_identity", None)
    return identity if isinstance(identity, SpoolIdentity) else SpoolIdentity(exporter.account)


def _modified(path: Path) -> int:
    try:
        return os.lstat(path).st_mtime_ns
    except OSError:  # gone meanwhile
        return 0
