"""Run a program as if on Windows or macOS, by removing what these systems lack before gati is imported.

``python -m tests.processes.simulated_systems windows ended_by_return`` runs that function of `program`.

`windows`: no fork and no fork hooks; `msvcrt` locks instead of `fcntl`; folders cannot be opened; file names
follow the rules of NTFS; open files cannot be deleted or replaced, and a rename replaces nothing; clocks tick
every 15.6 ms; multiprocessing spawns.

`macos`: fork exists but multiprocessing spawns; data folders are in ``~/Library``; Linux-only calls are missing.
"""

from __future__ import annotations

import asyncio  # noqa: F401 - import the standard library before parts of it are removed
import errno
import fcntl
import logging.handlers  # noqa: F401 - as above
import multiprocessing
import os
import re
import signal
import sqlite3  # noqa: F401 - as above
import subprocess  # noqa: F401 - as above
import sys
import sysconfig
import tempfile  # noqa: F401 - as above
import time
import types
import urllib.request  # noqa: F401 - as above
import uuid  # noqa: F401 - as above
from collections.abc import Callable
from pathlib import Path
from typing import Any

POSIX_ONLY = (
    "fork", "forkpty", "register_at_fork", "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "geteuid", "getuid", "getpgid",
    "killpg", "setsid", "sched_getaffinity", "posix_fallocate", "statvfs", "fchmod", "chown",
    "memfd_create",
)  # fmt: skip
LINUX_ONLY = ("sched_getaffinity", "posix_fallocate", "memfd_create", "pidfd_open", "fdatasync")
FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(\..*)?$', re.IGNORECASE)
TICK_NS = 15_625_000


def windows() -> None:
    """Remove what Windows does not have."""
    for name in POSIX_ONLY:
        if hasattr(os, name):
            delattr(os, name)
    for name in ("SIGKILL", "SIGHUP", "SIGALRM", "setitimer", "pthread_kill", "pause"):
        delattr(signal, name)
    for name in ("fcntl", "resource", "pwd", "grp"):
        sys.modules[name] = None  # type: ignore[assignment]  # None makes the import fail
    sys.modules["msvcrt"] = _msvcrt()
    _strict_files()
    for name in ("time_ns", "perf_counter_ns", "monotonic_ns"):
        setattr(time, name, _coarse(getattr(time, name)))
    multiprocessing.set_start_method("spawn", force=True)


def macos() -> None:
    """Remove what macOS does not have."""
    for name in LINUX_ONLY:
        if hasattr(os, name):
            delattr(os, name)
    sysconfig.get_config_vars()  # cache the values of Linux
    sys.platform = "darwin"
    multiprocessing.set_start_method("spawn", force=True)


def _msvcrt() -> Any:
    module = types.ModuleType("msvcrt")
    lock, exclusive = fcntl.flock, fcntl.LOCK_EX | fcntl.LOCK_NB

    def locking(fd: int, mode: int, nbytes: int) -> None:
        assert (mode, nbytes) == (2, 1)
        try:
            lock(fd, exclusive)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "Permission denied") from None

    vars(module).update(LK_NBLCK=2, locking=locking)
    return module


def _coarse(clock: Callable[[], int]) -> Callable[[], int]:
    return lambda: clock() // TICK_NS * TICK_NS


def _strict_files() -> None:
    """Apply the rules of NTFS: restricted names, and open files cannot be moved or deleted."""
    open_, mkdir, replace, rename, unlink = os.open, os.mkdir, os.replace, os.rename, os.unlink

    def strict_open(path: Any, *more: Any, **named: Any) -> int:
        if os.path.isdir(_allowed(path)):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return open_(path, *more, **named)

    def strict_mkdir(path: Any, *more: Any, **named: Any) -> None:
        mkdir(_allowed(path), *more, **named)

    def strict_replace(source: Any, target: Any, **named: Any) -> None:
        replace(_unused(source), _unused(target), **named)

    def strict_rename(source: Any, target: Any, **named: Any) -> None:
        if os.path.exists(_allowed(target)):
            raise FileExistsError(errno.EEXIST, "File exists", target)
        rename(_unused(source), target, **named)

    def strict_unlink(path: Any, **named: Any) -> None:
        # `tempfile` cleans up while folders are open, using names relative to them.
        unlink(path if named else _unused(path), **named)

    vars(os).update(
        open=strict_open, mkdir=strict_mkdir, replace=strict_replace, rename=strict_rename,
        unlink=strict_unlink, remove=strict_unlink,
    )  # fmt: skip


def _allowed(path: Any) -> str:
    name = Path(os.fsdecode(path)).name
    if FORBIDDEN.search(name):
        raise OSError(errno.EINVAL, "Invalid argument", name)
    return os.fsdecode(path)


def _unused(path: Any) -> str:
    wanted = os.path.realpath(_allowed(path))
    for entry in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            continue
        if target == wanted:
            raise PermissionError(errno.EACCES, "The process cannot access the file", wanted)
    return os.fsdecode(path)


def spawned() -> None:
    """Run turns in this process and in a multiprocessing child."""
    from gati import observe
    from tests.processes import program

    observe.init()
    program.run_turn("c", "parent")
    child = multiprocessing.Process(target=program._work, args=(1,))
    child.start()
    child.join()
    assert child.exitcode == 0


def report_stats() -> None:
    """Run a turn and report the statistics."""
    from gati import observe
    from tests.processes import program

    observe.init()
    program.run_turn("c", "1")
    observe.flush(60.0)
    stats = observe.stats()
    program.report(faults=dict(stats.faults), delivered=stats.delivered, recorded=stats.recorded)


if __name__ in ("__main__", "__mp_main__"):  # spawned children simulate the same system
    {"windows": windows, "macos": macos}[sys.argv[1]]()
if __name__ == "__main__":
    from tests.processes import program

    (globals().get(sys.argv[2]) or getattr(program, sys.argv[2]))()
