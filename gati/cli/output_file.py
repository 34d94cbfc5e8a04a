"""Writes files that the user names. A file is replaced as a whole, so that a command that fails leaves the old one."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from gati.cli.output import NO_SPACE, Exit, fail
from gati.pipeline.owner_lock import close_lock_file, create_locked, remove_dead
from gati.store.store_file import files_of

_DATABASE = b"SQLite format 3\0"


@contextmanager
def output_file(output: Path, store: Path | None = None, *, private: bool = True) -> Iterator[TextIO]:
    """Open a file for writing. It takes the place of an existing one when the block ends without an exception.

    Pipes, terminals and the standard output are written to at once. Exits with an error if the file cannot be written, or
    is a database.

    Args:
        output: The file. Of a link, the file to which it leads is replaced.
        store: The embedded store that the command reads.
        private: Let only its owner read the file. Otherwise an existing one keeps its permissions.
    """
    try:
        target = Path(os.path.realpath(output))
        status = _status(output)
        if store is not None and _is_one_of(target, status, files_of(store)):
            fail(f"{output} is the store; give another file", Exit.USAGE)
        if status is not None and _is_stream(target, status):
            with open(output, "w", encoding="utf-8") as stream:
                yield stream
            return
        if status is not None and not stat.S_ISREG(status.st_mode):
            fail(f"cannot write {output}: it is not a file", Exit.USAGE)
        if status is not None and _is_database(target):
            fail(f"{output} is a database; give another file", Exit.USAGE)
        with _replacement(target, 0o600 if private else 0o666) as file:
            yield file
            if not private and status is not None and os.name != "nt":
                os.fchmod(file.fileno(), stat.S_IMODE(status.st_mode))
    except BrokenPipeError:  # the reader of a pipe has stopped
        raise
    except OSError as fault:
        code = Exit.OUTPUT if fault.errno in NO_SPACE else Exit.USAGE
        fail(f"cannot write {output}: {fault.strerror or fault}", code)


def _status(path: Path | int) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError as fault:
        if fault.errno in (errno.ENOENT, errno.EBADF):
            return None
        raise


def _is_one_of(target: Path, status: os.stat_result | None, files: list[Path]) -> bool:
    """Return True if a file is one of several, also one that does not exist yet, or under another name."""
    found = [other for file in files if (other := _status(file)) is not None]
    return target in [Path(os.path.realpath(file)) for file in files] or (
        status is not None and any(os.path.samestat(status, other) for other in found)
    )


def _is_stream(target: Path, status: os.stat_result) -> bool:
    """Return True for what cannot be replaced by another file: pipes, terminals, and what this process writes to."""
    if stat.S_ISFIFO(status.st_mode) or stat.S_ISCHR(status.st_mode) or _status(target) is None:
        return True
    return any(found is not None and os.path.samestat(status, found) for found in map(_status, (1, 2)))


def _is_database(path: Path) -> bool:
    with contextlib.suppress(PermissionError), open(path, "rb") as file:  # one that may be written only
        return file.read(len(_DATABASE)) == _DATABASE
    return False


@contextmanager
def _replacement(target: Path, mode: int) -> Iterator[TextIO]:
    """Open a file beside another, locked, and rename it over that one at the end. Those of killed processes are removed."""
    prefix = f".gati-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]}-"
    remove_dead(target.parent.glob(f"{prefix}*.part"))
    part = target.with_name(f"{prefix}{secrets.token_hex(6)}.part")
    fd = create_locked(part, mode)
    try:
        try:
            with open(fd, "w", encoding="utf-8", closefd=False) as file:
                yield file
            os.fsync(fd)  # otherwise a power failure could leave an empty file in the place of the old one
        finally:
            close_lock_file(fd)  # Windows renames no open file
        os.replace(part, target)
    except BaseException:  # also if interrupted: no partial file remains
        with contextlib.suppress(OSError):
            part.unlink()
        raise
