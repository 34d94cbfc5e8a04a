"""Faults of the operating system in this process: a disk that fails or hangs, limits, and a clock that steps.

Calls of `os` fail only for paths below one folder and for descriptors opened there, so the program itself works. The
limits of the process (`EMFILE`, `EFBIG`) are real. Import this module before gati, which binds the clock.
"""

from __future__ import annotations

import errno
import functools
import os
import resource
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

CALLS_OF_PATHS = ("open", "mkdir", "rename", "replace", "unlink", "scandir", "listdir", "lstat", "stat")
MAX_HANG_SECONDS = 1.0
MAX_READ_ERRORS = 2
"""I/O errors for each file that is read: after a third one it waits aside, and later turns may be delivered first."""

KINDS = (
    "ENOSPC", "EIO", "EROFS", "EMFILE", "EFBIG", "hang", "clock forward", "clock back",
)  # fmt: skip


class OsFaults:
    """At most one fault at a time."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._fds: set[int] = set()
        self._kind = ""
        self._clock_offset_ns = 0
        self._over = threading.Event()
        self._read_errors: Counter[str] = Counter()
        self._descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._file_size = resource.getrlimit(resource.RLIMIT_FSIZE)
        self._close = os.close
        for name in CALLS_OF_PATHS:
            setattr(os, name, self._with_faults(getattr(os, name), self._before_path))
        os.open = self._tracking_open(os.open)
        os.write = self._with_faults(os.write, self._before_write)
        os.close = self._tracking_close
        os.supports_follow_symlinks |= {os.stat}
        now, now_ns = time.time, time.time_ns
        time.time = lambda: now() + self._clock_offset_ns / 1e9
        time.time_ns = lambda: now_ns() + self._clock_offset_ns

    def begin(self, kind: str) -> None:
        """Begin a fault, and end the current one."""
        self.end()
        self._over.clear()
        self._kind = kind
        if kind == "EMFILE":
            # Descriptors are used from the lowest number on, so none is left.
            in_use = max(map(int, os.listdir("/proc/self/fd")))
            resource.setrlimit(resource.RLIMIT_NOFILE, (in_use - 1, self._descriptors[1]))
        elif kind == "EFBIG":
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, self._file_size[1]))
        elif kind == "clock forward":
            self._clock_offset_ns += 3_600_000_000_000
        elif kind == "clock back":
            self._clock_offset_ns -= 7_200_000_000_000

    def end(self) -> None:
        """End the current fault; a clock that was set stays so."""
        self._kind = ""
        self._over.set()
        resource.setrlimit(resource.RLIMIT_NOFILE, self._descriptors)
        resource.setrlimit(resource.RLIMIT_FSIZE, self._file_size)

    def _with_faults(self, call: Callable[..., Any], before: Callable[..., None]) -> Callable[..., Any]:
        @functools.wraps(call)
        def called(target: Any = ".", *arguments: Any, **options: Any) -> Any:
            if self._kind:
                before(call.__name__, target, *arguments)
            return call(target, *arguments, **options)

        return called

    def _tracking_open(self, call: Callable[..., int]) -> Callable[..., int]:
        def opened(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            fd = call(path, flags, *arguments, **options)
            if self._is_inside(path):
                self._fds.add(fd)
            return fd

        return opened

    def _tracking_close(self, fd: int) -> None:
        self._fds.discard(fd)
        self._close(fd)

    def _is_inside(self, path: Any) -> bool:
        return not isinstance(path, int) and os.fsdecode(path).startswith(self._folder)

    def _before_path(self, name: str, path: Any, flags: int = 0, *_: Any) -> None:
        if not self._is_inside(path):
            return
        writes = name in ("mkdir", "rename", "replace") or (name == "open" and flags & os.O_CREAT)
        if self._kind == "hang":
            self._over.wait(MAX_HANG_SECONDS)
        elif self._kind == "ENOSPC" and writes:
            raise OSError(errno.ENOSPC, "simulated")
        elif self._kind == "EROFS" and (writes or name == "unlink"):
            raise OSError(errno.EROFS, "simulated")
        elif self._kind == "EIO":
            file = os.fsdecode(path)
            self._read_errors[file] += 1
            if writes or self._read_errors[file] <= MAX_READ_ERRORS:
                raise OSError(errno.EIO, "simulated")

    def _before_write(self, _: str, fd: Any, *__: Any) -> None:
        if fd in self._fds:
            if self._kind == "hang":
                self._over.wait(MAX_HANG_SECONDS)
            elif self._kind in ("ENOSPC", "EIO", "EROFS"):
                raise OSError(getattr(errno, self._kind), "simulated")
