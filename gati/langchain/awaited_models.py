"""Model calls that are awaited outside of any run, and end without a callback if their task is cancelled.

`await model.ainvoke(…)` reports no end if it is cancelled or times out. Such a call is over if the task that awaited it
has ended, or has started another root run. The calls of a batch (`await model.agenerate(…)`) are started one after the other.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Container, Iterator
from typing import Any
from uuid import UUID

MAX_CHECKS = 32
"""Maximum number of open calls that are checked when a root run starts. The next start checks the following ones."""


class AwaitedModels:
    """The open model calls without an enclosing run, each with the task that awaits it."""

    __slots__ = ("_batch", "_calls")

    def __init__(self) -> None:
        self._calls: dict[int, tuple[UUID, weakref.ref[asyncio.Task[Any]]]] = {}
        self._batch: tuple[weakref.ref[asyncio.Task[Any]], int] | None = None
        """The task that is starting a batch, and how many of its calls are still to be started."""

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, run_id: UUID, batch_size: int = 1) -> None:
        """Remember a call that the current task starts; do nothing outside of a task. `batch_size`: calls in its batch."""
        if (task := _current_task()) is not None:
            awaiting = weakref.ref(task)
            self._calls[run_id.int] = (run_id, awaiting)
            left = (self._batch[1] if self._starts_batch(task) and self._batch else batch_size) - 1
            self._batch = (awaiting, left) if left > 0 else None

    def _starts_batch(self, task: asyncio.Task[Any] | None) -> bool:
        return self._batch is not None and task is not None and self._batch[0]() is task

    def discard(self, key: int) -> None:
        """Forget a call that has ended."""
        self._calls.pop(key, None)

    def take_abandoned(self, streaming: Container[int]) -> Iterator[UUID]:
        """Yield and forget the calls that are over.

        Args:
            streaming: the calls that have streamed tokens. A task may read several streams in turns.
        """
        current = _current_task()
        if self._starts_batch(current):
            current = None  # it has not begun to await the calls before this one
        for key in list(self._calls)[:MAX_CHECKS]:
            call = self._calls.pop(key, None)
            if call is None:
                continue  # it has ended meanwhile, in another thread
            task = call[1]()
            if task is None or task.done() or (task is current and key not in streaming):
                yield call[0]
            else:
                self._calls[key] = call  # at the end, so that the next check begins with others


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no event loop runs in this thread
        return None
