"""The store's file: creation, recognition, and replacement of a damaged one."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, NamedTuple

APPLICATION_ID = 0x67617469
"""`PRAGMA application_id` of every store: "gati" in ASCII."""

_LOG, _INDEX = "-wal", "-shm"
_SUFFIXES = (_LOG, _INDEX, "")
"""Files of a store, in the order in which they are renamed: a log without its database does no harm, but SQLite would
apply a log that is left behind to a new database."""

_JOURNAL = "-journal"
"""File of a database while SQLite does not use a log, as while it converts one."""

_TABLES = {"conversations", "messages", "gati_runs", "pushes"}
"""Tables that identify a store that was created before `APPLICATION_ID` was introduced."""

_LOG_MAGIC = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
_SHORT_READ = 522
"""SQLITE_IOERR_SHORT_READ: the file is shorter than its own header says."""

_LOCK_SECONDS = 5.0

MAX_COPIES = 3
"""Copies of damaged stores that are kept; the oldest ones are deleted."""


class NotAStoreError(Exception):
    """The file exists, but gati did not create it."""


class FileIds(NamedTuple):
    """(device, inode) of the database, its write-ahead log and its index; None for a missing file."""

    database: tuple[int, int] | None
    log: tuple[int, int] | None
    log_index: tuple[int, int] | None


def files_of(path: Path) -> list[Path]:
    """Return the files in which SQLite keeps a store. Some of them may be missing."""
    return [Path(f"{path}{suffix}") for suffix in (*_SUFFIXES, _JOURNAL)]


def file_ids(path: Path) -> FileIds:
    """Return the ids of the store's files. They change when a file is deleted or replaced."""
    return FileIds(_file_id(f"{path}"), _file_id(f"{path}{_LOG}"), _file_id(f"{path}{_INDEX}"))


def _file_id(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def has_index(path: Path) -> bool:
    """Return True if there is an index of the write-ahead log, as while a process has the store open."""
    return os.path.lexists(f"{path}{_INDEX}")


def log_signature(path: Path) -> tuple[int, int] | None:
    """Return size and modification time of the write-ahead log; None if there is none."""
    return content_signature(Path(f"{path}{_LOG}"))


def content_signature(path: Path) -> tuple[int, int] | None:
    """Return size and modification time of the database; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def was_changed_within(path: Path, seconds: float) -> bool:
    """Return True if the database was modified in the last seconds."""
    try:
        return abs(time.time() - os.stat(path).st_mtime) < seconds
    except OSError:
        return False


def has_log(path: Path) -> bool:
    """Return True if a process may be writing to the store, or one was killed while it had it open."""
    return any(os.path.lexists(f"{path}{suffix}") for suffix in (_LOG, _JOURNAL))


def log_is_valid(path: Path) -> bool:
    """Return False if the write-ahead log has lost its header, and with it everything that it held."""
    try:
        with open(f"{path}{_LOG}", "rb", buffering=0) as log:
            return log.read(4) in _LOG_MAGIC
    except OSError:
        return False


def check_can_be_store(path: Path) -> None:
    """Raise `NotAStoreError` for a pipe, a socket or a device, which would block the process that opens it."""
    with suppress(OSError):
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise NotAStoreError(f"{path} is no store of gati")


def create(path: Path) -> None:
    """Create the file with mode 0600 if it is missing, because conversations are private."""
    if path.exists():  # opening and closing an existing file would release SQLite's locks on it
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with _folder_lock(path.parent):
        if not path.exists():
            _rename(path, (_LOG, _INDEX))
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def set_aside(path: Path, damaged: tuple[int, int] | None) -> None:
    """Rename the files to ``<name>.damaged-<time>``, unless the database is not the damaged one any more."""
    if damaged is None or file_ids(path).database != damaged:
        return
    with _folder_lock(path.parent):
        if file_ids(path).database == damaged:  # no other process was faster
            _rename(path, _SUFFIXES)


def set_aside_log(path: Path, previous: FileIds) -> None:
    """Rename the log and its index if they belong to a database that was replaced: SQLite would apply them to the new one."""
    if file_ids(path).database is None:  # `create` looks for a log that is left
        return
    with _folder_lock(path.parent):
        ids = file_ids(path)
        if ids.database != previous.database:
            _rename(path, (_LOG,) if ids.log == previous.log else ())
            _rename(path, (_INDEX,) if ids.log_index == previous.log_index else ())


def _rename(path: Path, suffixes: tuple[str, ...]) -> None:
    target = f"{path}.damaged-{time.time_ns()}"
    for suffix in suffixes:
        with suppress(FileNotFoundError):
            os.rename(f"{path}{suffix}", f"{target}{suffix}")
    _remove_oldest_copies(path)


def _remove_oldest_copies(path: Path) -> None:
    """Keep the newest `MAX_COPIES` copies of damaged stores, so that a bad disk does not fill itself with them."""
    name = re.compile(re.escape(path.name) + r"\.damaged-([0-9]{1,20})(?:-wal|-shm)?")
    copies: dict[int, list[Path]] = {}
    for file in path.parent.iterdir():
        if found := name.fullmatch(file.name):
            copies.setdefault(int(found[1]), []).append(file)
    for number in sorted(copies)[:-MAX_COPIES]:
        for file in copies[number]:
            with suppress(OSError):
                file.unlink()


def is_full(error: BaseException) -> bool:
    """Return True if SQLite reports that the disk is full, or that the file has reached its size limit."""
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF == sqlite3.SQLITE_FULL


def has_disk_space(folder: Path, size: int) -> bool:
    """Return True if this many bytes can be written in a folder now. Writes a file without a name, or deletes it."""
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            block = bytes(min(size, 64 * 1024))
            written = 0
            while written < size:
                written += file.write(block)
    except OSError:
        return False
    return True


@contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    """Let one process at a time create or rename files of a store. A lock that cannot be had is done without."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # as on Windows, where a file in use can be neither deleted nor renamed
        yield
        return
    try:
        until = time.monotonic() + _LOCK_SECONDS
        while not _try_lock(handle) and time.monotonic() < until:
            time.sleep(0.01)
        yield
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    """Return False if another process has the lock."""
    import fcntl  # not available on Windows

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def recognize(db: sqlite3.Connection) -> Literal["store", "empty", "foreign"]:
    """Return what a database is. Reads it only."""
    application_id = db.execute("PRAGMA application_id").fetchone()[0]
    if application_id == APPLICATION_ID:
        return "store"
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
    if application_id or (tables and not tables >= _TABLES):
        return "foreign"
    return "store" if tables else "empty"


def is_damage(error: BaseException) -> bool:
    """Return True if SQLite reports that the content of the file is damaged or is not a database."""
    code = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or code == _SHORT_READ


def raise_if_damaged(db: sqlite3.Connection) -> None:
    """Read the whole file. Raises `sqlite3.DatabaseError` if its structure is damaged."""
    for (found,) in db.execute("PRAGMA quick_check"):
        # SQLite 3.40 also reports NULLs that are not there, in tables without a row id.
        if found != "ok" and not found.startswith("NULL value in"):
            raise damage_error()


def damage_error() -> sqlite3.DatabaseError:
    """Return the error that SQLite itself raises for a damaged file."""
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error
