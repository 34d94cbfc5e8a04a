"""Locks that show which processes are running: one file for each, locked with `flock` as long as the process lives."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterable
from pathlib import Path

_NOT_A_LOCK = frozenset({errno.ENOENT, errno.ELOOP, errno.EISDIR, errno.ENXIO})
"""Errors of `open` that show that the path is missing, a link, a folder or a socket."""

_LOCK_SECONDS = 1.0
"""How long `create_locked` waits for other processes that look at the file, each for microseconds."""

_lock_fds: set[int] = set()
"""Descriptors of lock files. A lock lasts until the last copy of its descriptor is closed, and a forked
child has copies: if it kept them, the files of an exited parent could not be taken over."""


def open_lock_file(path: Path, flags: int = 0, mode: int = 0o600) -> int:
    """Open a lock file, without following a link."""
    safe = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    fd = os.open(path, os.O_RDWR | flags | safe, mode)
    _lock_fds.add(fd)
    return fd


def close_lock_file(fd: int) -> None:
    """Close a lock file, which releases its lock."""
    _lock_fds.discard(fd)
    os.close(fd)


def _close_inherited() -> None:
    for fd in list(_lock_fds):
        with contextlib.suppress(OSError):
            close_lock_file(fd)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)


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


def is_locked_file(fd: int, path: Path) -> bool:
    """Return True if the file is open and the path still names it."""
    try:
        status, found = os.fstat(fd), os.lstat(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EBADF):  # removed; or closed by a shutdown in another thread
            return False
        raise
    return (status.st_dev, status.st_ino) == (found.st_dev, found.st_ino)


def create_locked(path: Path, mode: int = 0o600) -> int:
    """Create a file that is locked for this process.

    Raises:
        FileExistsError: There is one.
        BlockingIOError: Another process keeps it locked.
        OSError: It cannot be created.
    """
    until = time.monotonic() + _LOCK_SECONDS
    while True:
        fd = open_lock_file(path, os.O_CREAT | os.O_EXCL, mode)
        try:
            # Another process may see the file before it is locked, and lock it: to look at it, or to remove it as one
            # of an exited process. Only who has the lock may remove it, or a new file could be removed in its place.
            while not try_lock(fd):
                if time.monotonic() > until:
                    raise BlockingIOError(errno.EAGAIN, "locked by another process", str(path))
                time.sleep(0.001)
            if is_locked_file(fd, path):
                return fd
        except BaseException:
            close_lock_file(fd)
            raise
        close_lock_file(fd)


def remove_dead(paths: Iterable[Path]) -> None:
    """Remove those of the files that no process has locked. What is no file, or cannot be removed, stays."""
    for path in paths:
        with contextlib.suppress(OSError):
            fd = open_lock_file(path)
            try:
                # Removed while it is locked: its process may have created it this moment.
                if try_lock(fd) and is_locked_file(fd, path):
                    path.unlink()
            finally:
                close_lock_file(fd)


def is_dead(path: Path) -> bool:
    """Return True if no process holds the lock of this owner file.

    A process counts as running if that cannot be found out now, for example without a free file descriptor.
    """
    try:
        fd = open_lock_file(path)
    except OSError as error:
        return error.errno in _NOT_A_LOCK
    try:
        return try_lock(fd)
    except OSError:
        return False
    finally:
        close_lock_file(fd)


class AdoptionLocks:
    """Locks of the folders from which this process takes over files.

    One process at a time does so. Of several that divide the files of an exited one among themselves, each would send a
    part of a conversation, in no order. Not thread-safe.
    """

    def __init__(self) -> None:
        self._fds: dict[Path, int] = {}

    def acquire(self, folder: Path) -> bool:
        """Lock an account's folder until `release`; return False if another process has the lock."""
        path = folder / "adopting"
        fd = self._fds.pop(folder, None)
        if fd is None:
            try:
                fd = open_lock_file(path, os.O_CREAT)
            except OSError as error:
                if error.errno in _NOT_A_LOCK and os.path.lexists(path):
                    return True  # somebody has put a link or a folder there: without a lock is better than never
                raise
        try:
            # `flock` succeeds again for a descriptor that has the lock. Somebody may have removed the file.
            if try_lock(fd) and is_locked_file(fd, path):
                self._fds[folder] = fd
        finally:
            if folder not in self._fds:
                close_lock_file(fd)
        return folder in self._fds

    def release(self) -> None:
        """Let other processes take over files."""
        while self._fds:
            with contextlib.suppress(OSError):
                close_lock_file(self._fds.popitem()[1])

    def forget(self) -> None:
        """Forget the locks, which belong to the parent. Called in a forked child."""
        self._fds.clear()
