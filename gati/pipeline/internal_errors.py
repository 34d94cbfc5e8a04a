"""Faults of gati's own: counted by place, told once a minute at most, never passed on.

Tests set ``GATI_RAISE_INTERNAL=1`` (or `faults.RAISE`), so that nothing of ours hides.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

logger = logging.getLogger("gati")

RAISE = os.environ.get("GATI_RAISE_INTERNAL") == "1"
"""True: a fault inside gati is raised after it was counted. For tests only."""

LOG_INTERVAL_SECONDS = 60.0
"""Least time between two log lines of one kind."""


class Log:
    """The logger "gati", at most one line a minute of each kind. No content, no keys."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._held: Counter[str] = Counter()

    def emit(self, kind: str, message: str, *args: object, level: int = logging.WARNING) -> bool:
        """Log a line unless one of its kind was logged within the last minute."""
        now = time.monotonic()
        last = self._last.get(kind)
        if last is not None and now - last < LOG_INTERVAL_SECONDS:
            self._held[kind] += 1
            return False
        self._last[kind] = now
        if held := self._held.pop(kind, 0):
            message, args = message + " (and %d more like it)", (*args, held)
        try:
            logger.log(level, message, *args)
        except Exception:  # noqa: BLE001 - a handler of the user's may fail; that is not the pipeline's concern
            return False
        return True

    def forget(self) -> None:
        """Let every kind speak again."""
        self._last.clear()
        self._held.clear()


log = Log()

_counts: Counter[str] = Counter()
_lock = threading.RLock()


def report(place: str, error: BaseException) -> None:
    """Count a fault and log its place and type; its text may hold content and is left out."""
    with _lock:
        _counts[place] += 1
    log.emit(f"fault:{place}", "internal fault in %s: %s. The program is not affected.", place, type(error).__name__)


def counts() -> dict[str, int]:
    """Faults so far in this process, by place."""
    with _lock:
        return dict(_counts)


def reset() -> None:
    """Forget all counts and log times: for tests, and for a forked child."""
    global _lock
    _lock = threading.RLock()  # the old one may have been held by a thread that the child lacks
    _counts.clear()
    log.forget()


class guard:  # noqa: N801 - reads as a statement: `with guard("spool.write"):`
    """``with guard(place):`` counts an exception of its body and ends it here.

    `KeyboardInterrupt`, `SystemExit` and the like pass.
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
