"""Errors inside gati: contained, counted by place, logged at most once a minute.

Tests set ``GATI_RAISE_INTERNAL=1`` (or `RAISE`), so that no internal error goes unnoticed.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import traceback
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

logger = logging.getLogger("gati")

RAISE = os.environ.get("GATI_RAISE_INTERNAL") == "1"
"""True: re-raise internal errors after counting them. For tests only."""

debug = False
"""True: log internal errors with the locations of their traceback. Set by `init` from the option `debug`."""

LOG_INTERVAL_SECONDS = 60.0
"""Minimum time between two log lines of one kind."""

MAX_FRAMES = 50
"""Innermost frames of a traceback that are logged; a RecursionError has a thousand."""


class RateLimitedLog:
    """Write to the logger "gati", at most one line a minute of each kind. No content, no keys."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._suppressed: Counter[str] = Counter()

    def emit(self, kind: str, message: str, *args: object, level: int = logging.WARNING) -> bool:
        """Log a line unless one of its kind was logged within the last minute."""
        now = time.monotonic()
        last = self._last.get(kind)
        if last is not None and now - last < LOG_INTERVAL_SECONDS:
            self._suppressed[kind] += 1
            return False
        self._last[kind] = now
        if suppressed := self._suppressed.pop(kind, 0):
            message, args = message + " (and %d more like it)", (*args, suppressed)
        try:
            logger.log(level, message, *args)
        except Exception:  # noqa: BLE001 - a log handler of the program may raise; that must not stop the pipeline
            return False
        return True

    def clear(self) -> None:
        """Let the next line of every kind through."""
        self._last.clear()
        self._suppressed.clear()


log = RateLimitedLog()

_counts: Counter[str] = Counter()
_lock = threading.RLock()


def report(place: str, error: BaseException) -> None:
    """Count an internal error, and log its place and type.

    Its message may contain user content and is never logged. With `debug`, the log line has the
    locations of the traceback too.
    """
    with _lock:
        _counts[place] += 1
    frames = format_frames(error) if debug else ""
    log.emit(
        f"error:{place}",
        "internal error in %s: %s. The program is not affected.%s",
        place,
        type(error).__name__,
        frames,
    )


def format_frames(error: BaseException) -> str:
    """Format the traceback of an error and its causes, without their messages and without source lines.

    ``ValueError("Ada's secret")`` → one line ``File "…/worker.py", line 12, in run`` per frame, then ``ValueError``.
    """
    parts: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        frames = [(frame, line) for frame, line in traceback.walk_tb(current.__traceback__)][-MAX_FRAMES:]
        lines = [
            f'\n  File "{frame.f_code.co_filename}", line {line}, in {frame.f_code.co_name}' for frame, line in frames
        ]
        parts.append("".join(lines) + f"\n{type(current).__name__}")
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\nwhich was raised by:".join(parts)


def counts() -> dict[str, int]:
    """Return the number of internal errors in this process, by place."""
    with _lock:
        return dict(_counts)


def reset() -> None:
    """Clear all counts and log times: for tests, and for a forked child."""
    global _lock
    _lock = threading.RLock()  # the old one may be held by a thread that does not exist in the child
    _counts.clear()
    log.clear()


class guard:  # noqa: N801 - reads as a statement: `with guard("spool.write"):`
    """Context manager that reports an exception of its body under `place` and suppresses it.

    `KeyboardInterrupt`, `SystemExit` and other exceptions that are not an `Exception` pass.
    """

    __slots__ = ("place",)

    def __init__(self, place: str) -> None:
        self.place = place

    def __enter__(self) -> guard:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if error is None:
            return False
        if not isinstance(error, Exception):
            return False
        report(self.place, error)
        return not RAISE
