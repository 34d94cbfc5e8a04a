"""Writes log lines in a thread of its own, so that no other thread waits for a handler of the program.

A handler may sleep, and a write to a pipe that nobody reads never returns. The thread therefore checks
that a handler's stream takes a line before it writes one, and keeps the line until it does.
"""

from __future__ import annotations

import atexit
import logging
import select
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from gati._context import mark_own_thread
from gati.clock import Clock
from gati.pipeline._compat import existing_handlers

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_WAITING = 200
"""Lines that wait to be written; the oldest are dropped."""

MAX_LINE_BYTES = 3_000
"""Longest line in UTF-8. A pipe that is ready takes at least 4096 bytes without blocking."""

POLL_SECONDS = 0.05
"""Interval at which a stream that takes no lines is tried again."""

LET_GO_SECONDS = 0.2
"""Time that the process's exit waits for a handler that is still writing a line."""


class LogWriter:
    """Write to one logger. The thread exists only while lines wait."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._lets_go_at_exit = False
        self.reset()

    def reset(self) -> None:
        """Forget all lines. Called in a forked child: the thread belongs to the parent."""
        self._lines: deque[tuple[int, str, tuple[Any, ...]]] = deque(maxlen=MAX_WAITING)
        self._running = threading.Lock()  # held by the thread, never waited for
        self._thread: threading.Thread | None = None

    def write(self, level: int, message: str, args: tuple[Any, ...]) -> None:
        """Queue a line. Never blocks and never raises."""
        self._lines.append((level, message, args))
        if self._running.locked():
            return
        try:
            if not self._lets_go_at_exit:  # lines are also written without a pipeline, which has a hook of its own
                self._lets_go_at_exit = True
                atexit.register(self.let_go)
            threading.Thread(target=self._run, name="gati-log", daemon=True).start()
        except RuntimeError:  # at the interpreter's exit, or out of threads
            self._write_here()

    def drain(self, seconds: float) -> bool:
        """Wait until all lines are written, at most `seconds`; return False if some are left."""
        until = time.monotonic() + seconds
        while self._lines or self._running.locked():
            if time.monotonic() >= until:
                return False
            Clock.sleep(0.001)
        if (thread := self._thread) is not None and thread is not threading.current_thread():
            thread.join(max(0.0, until - time.monotonic()))
        return True

    def let_go(self) -> None:
        """Give the handlers new locks if one of them does not return.

        Called when the process exits: `logging.shutdown` would wait for the lock of each handler of the program, also of
        one that another handler passed our line to.
        """
        if self.drain(LET_GO_SECONDS):
            return
        for handler in {*_handlers(self._logger), *existing_handlers()}:
            lock = handler.lock
            if lock is not None and lock.acquire(blocking=False):
                lock.release()
            else:
                handler.createLock()
            # It would pass our line on again, and hang again.
            waiting = getattr(handler, "buffer", None)
            if type(waiting) is list:
                handler.buffer = [line for line in waiting if getattr(line, "name", "") != self._logger.name]  # type: ignore[attr-defined]  # of a `MemoryHandler`

    def _run(self) -> None:
        mark_own_thread()
        running = self._running  # `reset` replaces it
        while running.acquire(blocking=False):
            try:
                self._thread = threading.current_thread()
                while self._lines:
                    if self._is_writable():
                        self._write_next()
                    else:
                        Clock.sleep(POLL_SECONDS)
            finally:
                running.release()
            if not self._lines:  # else a line came while the thread was about to end
                return

    def _write_next(self) -> None:
        try:
            level, message, args = self._lines.popleft()
            if len(text := (message % args).encode(errors="replace")) > MAX_LINE_BYTES:
                message, args = "%s", (text[:MAX_LINE_BYTES].decode(errors="ignore") + "…",)
            self._logger.log(level, message, *args)
        except BaseException:  # noqa: BLE001 - a handler of the program may raise anything; there is nowhere to report it
            pass

    def _write_here(self) -> None:
        """Write in the calling thread, but only through handlers that are known not to block."""
        if all(type(handler).__module__ == "logging" for handler in _handlers(self._logger)):
            while self._lines and self._is_writable():
                self._write_next()

    def _is_writable(self) -> bool:
        return all(_takes_a_line(handler) for handler in _handlers(self._logger))


def _handlers(logger: logging.Logger) -> Iterator[logging.Handler]:
    """Yield the handlers that receive the logger's lines."""
    found = False
    current: logging.Logger | None = logger
    while current is not None:
        for handler in list(current.handlers):
            found = True
            yield handler
        current = current.parent if current.propagate else None
    if not found and logging.lastResort is not None:
        yield logging.lastResort


def _takes_a_line(handler: logging.Handler) -> bool:
    """Return False if a write to the handler's stream would block now."""
    if not hasattr(select, "poll"):  # Windows
        return True
    try:
        # A handler of an unknown class probably writes to stderr.
        descriptor = getattr(handler, "stream", sys.stderr).fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        return bool(poll.poll(0))
    except Exception:  # noqa: BLE001 - no stream, a closed one, or one without a descriptor: it cannot be checked
        return True
