"""Reads and writes files of a folder that others may have written to: no links, no pipes, no endless files."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

MAX_FILE_BYTES = 64 * 1024**2
"""Largest file that is read. gati writes files of 256 kB, or of one request."""

_READ_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a pipe without a writer would block
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_CREATE_FLAGS = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_EXCL  # never through a link
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


class UnusableFileError(Exception):
    """The path is not a regular file of reasonable size, and will never be one."""


def read_regular(path: Path) -> bytes:
    """Return the content of a regular file.

    Raises:
        UnusableFileError: it is a link, a pipe, a folder, a device or too large.
        OSError: it cannot be read now.
    """
    check_regular(path)
    fd = os.open(path, _READ_FLAGS)
    with os.fdopen(fd, "rb") as file:
        _check_usable(os.fstat(fd))  # it may have been replaced since
        return file.read(MAX_FILE_BYTES)


def check_regular(path: Path) -> os.stat_result:
    """Return the status of a regular file, without opening it. Raises as `read_regular` does."""
    status = os.lstat(path)
    _check_usable(status)
    return status


def _check_usable(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE_BYTES:
        raise UnusableFileError


def write_atomically(folder: Path, name: str, data: bytes, owner: str) -> None:
    """Write a file under a hidden name and rename it, so that no process reads an incomplete one."""
    part = folder / f".{owner}-{name}.part"
    fd = _create_part(part)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
        finally:
            os.close(fd)
        os.replace(part, folder / name)
    except BaseException:  # also if interrupted: no partial file remains
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def _create_part(part: Path) -> int:
    try:
        return os.open(part, _CREATE_FLAGS, 0o600)
    except FileExistsError:  # left by an interrupted write, or put there
        part.unlink()
        return os.open(part, _CREATE_FLAGS, 0o600)
