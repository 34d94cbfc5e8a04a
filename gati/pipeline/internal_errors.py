"""Errors inside gati: contained, counted by place, logged at most once a minute.

Everything here may run in a thread of the program, in the middle of a callback: it takes no lock and
leaves the writing of a log line to `log_writer`.

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

from gati.pipeline.atomic_counter import AtomicCounter
from gati.pipeline.log_writer import LogWriter

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

logger = logging.getLogger("gati")

RAISE = os.environ.get("GATI_RAISE_INTERNAL") == "1"
"""True: re-raise internal errors after counting them. For tests only."""

debug = False
"""True: log internal errors with the locations of their traceback. Set by `init` from the option `debug`."""

LOG_INTERVAL_SECONDS = 60.0
"""Minimum time between two log lines of one kind."""

DISK = "disk"
"""Kind of all lines about a disk that cannot be used. The spool and the store are usually on the same one."""

MAX_FRAMES = 50
"""Innermost frames of a traceback that are logged; a RecursionError has a thousand."""


LOSSLESS_PLACES = frozenset({
    "conversation.system_prompt", "exit", "exporter.after_fork", "exporter.close", "exporter.prepare", "exporter.split",
    "flush", "fork", "mask", "metadata.system_prompt", "on_drop", "spool.adopt", "worker.load",
})  # fmt: skip
"""Places where an error loses no record and no message; those of `arguments.*` and `exporter.*.send` are others."""


class RateLimitedLog:
    """Write to the logger "gati", at most one line a minute of each kind. No content, no keys."""

    def __init__(self) -> None:
        self.writer = LogWriter(logger)
        self._last: dict[str, float] = {}
        self._suppressed: Counter[str] = Counter()

    def emit(self, kind: str, message: str, *args: object, level: int = logging.WARNING) -> bool:
        """Queue a line unless one of its kind was logged within the last minute. Never blocks, never raises."""
        now = time.monotonic()
        last = self._last.get(kind)
        if last is not None and now - last < LOG_INTERVAL_SECONDS:
            self._suppressed[kind] += 1
            return False
        self._last[kind] = now
        if suppressed := self._suppressed.pop(kind, 0):
            message, args = message + " (and %d more like it)", (*args, suppressed)
        self.writer.write(level, message, args)
        return True

    def clear(self) -> None:
        """Let the next line of every kind through."""
        self._last.clear()
        self._suppressed.clear()


log = RateLimitedLog()

_counts: dict[str, AtomicCounter] = {}


def report(place: str, error: BaseException) -> None:
    """Count an internal error, and log its place and type.

    Its message may contain user content and is never logged. With `debug`, the log line has the
    locations of the traceback too.
    """
    count(place)
    frames = format_frames(error) if debug else ""
    log.emit(
        f"error:{place}",
        "internal error in %s: %s. The program is not affected.%s",
        place,
        type(error).__name__,
        frames,
    )


def count(place: str) -> None:
    """Count an error by its place, without logging it."""
    _counts.setdefault(place, AtomicCounter()).add()


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
    return {place: counter.read() for place, counter in list(_counts.items())}


def losses() -> int:
    """Return the number of internal errors in this process that may have lost a record or a message."""
    return sum(number for place, number in counts().items() if not _is_lossless(place))


def _is_lossless(place: str) -> bool:
    return (
        place in LOSSLESS_PLACES
        or place.startswith("arguments.")
        or (place.startswith("exporter.") and place.endswith(".send"))
    )


def reset() -> None:
    """Clear all counts and log times: for tests, and for a forked child."""
    _counts.clear()
    log.clear()
    log.writer.reset()


class guard:  # noqa: N801 - reads as a statement: `with guard("spool.write"):`
    """Context manager that reports an exception of its body under `place` and suppresses it.

    `KeyboardInterrupt`, `SystemExit` and other exceptions that are not an `Exception` pass.
    """

    __slots__ = ("place",)

    def __init__(self, place: str) -> None:
        self.place = place

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if error is None or not self._contains(error):
            return False
        report(self.place, error)
        return not RAISE

    def _contains(self, error: BaseException) -> bool:
        return isinstance(error, Exception)


class contain(guard):  # noqa: N801 - reads as a statement, as `guard` does
    """A `guard` for code in gati's own threads, which suppresses exceptions of every class there.

    Only user code raises a `SystemExit` or `KeyboardInterrupt` in such a thread. In the main thread they pass.
    """

    __slots__ = ()

    def _contains(self, error: BaseException) -> bool:
        return isinstance(error, Exception) or threading.current_thread() is not threading.main_thread()
