"""The open `with` blocks of one kind, kept per thread and task, in the order of their entry.

The blocks are kept in a context variable and not on the object that is entered, because several threads or tasks may
enter the same object at the same time. Blocks of one thread may also overlap without being nested, as those inside two
generators that are read in turns. So a block that is left is removed wherever it stands, and does not restore the
state that it found.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Generic, NamedTuple, TypeVar

V = TypeVar("V")


class Block(NamedTuple, Generic[V]):
    """An entered block: the object that was entered, and the value that is in effect inside."""

    owner: object
    value: V


class OpenBlocks(Generic[V]):
    """The blocks that enclose the running code, outermost first.

    Args:
        name: name of the context variable.
    """

    __slots__ = ("_blocks",)

    def __init__(self, name: str) -> None:
        self._blocks: ContextVar[tuple[Block[V], ...]] = ContextVar(name, default=())

    def enter(self, owner: object, value: V) -> list[V]:
        """Add a block; return the values of all open blocks, outermost first."""
        blocks = (*self._blocks.get(), Block(owner, value))
        self._blocks.set(blocks)
        return [block.value for block in blocks]

    def leave(self, owner: object) -> tuple[V, list[V]] | None:
        """Remove the innermost block of `owner`; return its value and those of the blocks that are still open.

        Return None if this thread or task has not entered `owner`, for example if a generator is closed from another
        task than the one that has read it. Then there is nothing to restore.
        """
        blocks = self._blocks.get()
        for index in range(len(blocks) - 1, -1, -1):
            if blocks[index].owner is owner:
                remaining = (*blocks[:index], *blocks[index + 1 :])
                self._blocks.set(remaining)
                return blocks[index].value, [block.value for block in remaining]
        return None

    def innermost(self, owner: object) -> V | None:
        """Return the value of the innermost open block of `owner`, or None."""
        return next((block.value for block in reversed(self._blocks.get()) if block.owner is owner), None)
