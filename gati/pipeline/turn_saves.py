"""Lets the thread that ends a turn wait until the turn is on disk, in processes that may end without exit hooks."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from gati._context import is_own_thread
from gati.pipeline.child_process import is_rq_job, may_skip_exit_hooks
from gati.pipeline.internal_errors import guard

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

SAVE_SECONDS = 0.05
"""Longest time that the end of a turn waits for the spool."""

LOAD_SECONDS = 5.0
"""Time after the end of the first turn during which a longer wait is allowed while modules are loaded."""


class TurnSaves:
    """Decides in each process whether to wait at the end of a turn. Waiting never blocks a running event loop.

    Attributes:
        active: True if the process may end without exit hooks. Known as soon as the worker is started.
    """

    def __init__(self, save: Callable[[float, float], None], *, has_spool: bool) -> None:
        """Create one that is inactive until `decide`.

        Args:
            save: waits until what was recorded so far is on disk; see `Pipeline`.
            has_spool: False if nothing is written to disk, so that there is nothing to wait for.
        """
        self._save = save
        self._has_spool = has_spool
        self.reset()

    def reset(self) -> None:
        """Start again. Called in a forked child."""
        self.active = self._is_exiting = False
        self._load_until: float | None = None
        self._loop: Any = None
        self._at_loop_end: AsyncGenerator[None] | None = None

    def decide(self) -> None:
        """Find out whether this process may end without exit hooks. Called before its first turn ends."""
        with guard("turn_saves"):
            self.active = self._is_exiting or (self._has_spool and may_skip_exit_hooks())

    def activate(self) -> None:
        """Save each turn from now on, because the process is exiting."""
        self.active = self._is_exiting = True

    def save(self) -> None:
        """Wait until the turns that have ended are on disk. In a running event loop, wait when the loop shuts down."""
        if not self.active or is_own_thread.get():
            return
        loop = _running_loop()
        if loop is None:
            self._wait()
            return
        with guard("turn_saves"):
            if loop is not self._loop:
                self._watch(loop)
            if is_rq_job() and (task := sys.modules["asyncio"].current_task()) is not None:
                # RQ runs an asynchronous job in a loop that it does not shut down.
                task.add_done_callback(lambda _: self._wait())

    def _wait(self) -> None:
        if self._load_until is None:
            self._load_until = time.monotonic() + LOAD_SECONDS
        self._save(SAVE_SECONDS, self._load_until)

    def _watch(self, loop: Any) -> None:
        """Wait when `loop` shuts down its asynchronous generators, as `asyncio.run` does before it returns."""
        earlier, self._loop = self._at_loop_end, loop
        if earlier is not None:
            _step(earlier.aclose())
        self._at_loop_end = self._wait_at_end(loop)
        _step(self._at_loop_end.asend(None))  # the loop registers it when it starts

    async def _wait_at_end(self, loop: Any) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            if self._loop is loop:  # else another loop has begun, and this one is gone
                self._loop = self._at_loop_end = None
                self._wait()


def _running_loop() -> Any:
    """Return the event loop that runs in this thread, if any. Loads no asyncio."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _step(awaitable: Any) -> None:
    """Run an awaitable that does not suspend."""
    try:
        awaitable.send(None)
    except (StopIteration, StopAsyncIteration):
        pass
