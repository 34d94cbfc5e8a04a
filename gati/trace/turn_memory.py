"""The memory of open turns, which nothing else bounds: a turn may have any number of steps, and may never end."""

from __future__ import annotations

from typing import Protocol

TURN_SHARE = 0.8
"""Part of the limit that a single turn may take, so that other turns are not cut short for its sake."""

RUN_BYTES = 1_500
"""What a run takes besides its records once its turn is assembled."""


class TurnTooLargeError(Exception):
    """A step was left out of an open turn, because the turn would take too much memory."""


class Holder(Protocol):
    """An open turn, as its records or as runs. `memory` is the size of its records and `RUN_BYTES` for each run."""

    memory: int


class TurnMemory:
    """Adds up what open turns hold.

    Args:
        limit: bytes of all open turns together.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.turn_limit = int(limit * TURN_SHARE)
        self.used = 0
        """Bytes of all open turns. Up to `turn_limit`, every turn has space."""

    def fits(self, size: int) -> bool:
        """Return True if a turn may begin; else another one must end first."""
        return self.used + size <= self.limit

    def has_space(self, turn: Holder) -> bool:
        """Return True if a turn may have a further step."""
        return turn.memory <= self.turn_limit and self.used <= self.limit

    def hold(self, turn: Holder, size: int) -> None:
        """Count a record of an open turn."""
        turn.memory += size
        self.used += size

    def release(self, turn: Holder) -> None:
        """Count a turn no longer, because it has ended."""
        self.used -= turn.memory
        turn.memory = 0

    def clear(self) -> None:
        """Count all turns no longer."""
        self.used = 0
