"""Postpones full garbage collections while gati's threads import modules.

Imports create so many objects that they trigger a full collection, which stops every thread for up to 100 ms in a
program with LangChain: also an event loop.
"""

from __future__ import annotations

import gc
import threading
from types import TracebackType

_MIDDLE, _FULL = 50, 1_000_003
"""Thresholds of the older generations meanwhile: the middle one is collected in steps of a few milliseconds, the
oldest not at all. Nobody else sets them, so at the end it is visible whether the program has set its own."""

_lock = threading.Lock()
_depth = 0
_before = (0, 0, 0)


class gc_paused:  # noqa: N801 - reads as a statement: `with gc_paused():`
    """Context manager for gati's own threads. Respects changes that the program makes meanwhile."""

    __slots__ = ()

    def __enter__(self) -> None:
        global _depth, _before
        with _lock:
            _depth += 1
            if _depth == 1:
                _before = gc.get_threshold()
                if _before[0]:
                    gc.set_threshold(_before[0], _MIDDLE, _FULL)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _depth
        with _lock:
            _depth -= 1
            if _depth == 0:
                _restore()


def _restore() -> None:
    if gc.get_threshold() == (_before[0], _MIDDLE, _FULL):
        gc.set_threshold(*_before)


def after_fork_in_child() -> None:
    """Resume in a forked child: the thread that paused belongs to the parent."""
    global _lock, _depth
    _lock, _depth = threading.Lock(), 0
    _restore()
