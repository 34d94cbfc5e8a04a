"""The memory of open turns, which nothing else bounds: a turn may have any number of steps, and may never end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gati.trace.run_tree import Run, Trace

TURN_SHARE = 0.8
"""Part of the limit that a single turn may take, so that other turns are not cut short for its sake."""

RUN_BYTES = 1_500
"""Size of a run without its contents, from the records of its start and its end."""


class TurnTooLargeError(Exception):
    """A step was left out of an open turn, because the turn would take too much memory."""


class TurnMemory:
    """Adds up the approximate size of what open turns hold.

    Args:
        limit: bytes of all open turns together.
        size_of: returns the approximate size of a record.
    """

    def __init__(self, limit: int, size_of: Callable[[Any], int]) -> None:
        self.is_scarce = False
        """True if some turn may have no space, see `has_space`. Set by `measure`."""
        self._limit = limit
        self._turn_limit = int(limit * TURN_SHARE)
        self._size_of = size_of
        self._contents = 0
        self._runs = 0

    @property
    def used(self) -> int:
        """Bytes of all open turns."""
        return self._contents + self._runs * RUN_BYTES

    @property
    def is_full(self) -> bool:
        """True if a turn must end before another one begins."""
        return self.used > self._limit

    def measure(self, runs: int) -> None:
        """Set the number of runs of the open turns."""
        self._runs = runs
        self.is_scarce = self.used > self._turn_limit

    def has_space(self, trace: Trace) -> bool:
        """Return True if a turn may have a further step."""
        return trace.memory + trace.size * RUN_BYTES <= self._turn_limit and self.used <= self._limit

    def hold(self, run: Run, record: Any) -> None:
        """Count the contents of a record of an open turn."""
        size = self._size_of(record)
        run.trace.memory += size
        self._contents += size

    def release(self, trace: Trace) -> None:
        """Count a turn no longer, because it has ended."""
        self._contents -= trace.memory
        self._runs = max(0, self._runs - trace.size)
        trace.memory = 0

    def clear(self) -> None:
        """Count all turns no longer."""
        self._contents = self._runs = 0
