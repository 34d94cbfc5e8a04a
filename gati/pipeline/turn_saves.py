"""Lets the thread that ends a turn wait until the turn is on disk, in processes that may end without exit hooks."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from gati._context import is_own_thread
from gati.pipeline.child_process import may_skip_exit_hooks
from gati.pipeline.internal_errors import guard

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

SAVE_SECONDS = 0.05
"""Longest time that the end of a turn waits for the spool."""

LOAD_SECONDS = 2.0
"""Longest time that a process waits, once, for the modules that convert its first turn."""


class TurnSaves:
    """Decides in each process whether to wait at the end of a turn. Waiting never blocks a running event loop.

    Attributes:
        active: True if the process may end without exit hooks. Known as soon as the worker is started.
    """

    def __init__(self, save: Callable[[float], bool], is_loaded: Callable[[], bool], *, has_spool: bool) -> None:
        """Create one that is inactive until `decide`.

        Args:
            save: waits up to that many seconds until what was recorded so far is on disk; returns whether it is.
            is_loaded: returns True once a first turn was converted, which loads modules.
            has_spool: False if nothing is written to disk, so that there is nothing to wait for.
        """
        self._save = save
        self._is_loaded = is_loaded
        self._has_spool = has_spool
        self.reset()

    def reset(self) -> None:
        """Start again. Called in a forked child."""
        self.active = False
        self._load_until: float | None = None
        self._loop: Any = None
        self._at_loop_end: AsyncGenerator[None] | None = None

    def decide(self) -> None:
        """Find out whether this process may end without exit hooks. Called before its first turn ends."""
        with guard("turn_saves"):
            self.active = self._has_spool and may_skip_exit_hooks()

    def save(self) -> None:
        """Wait until the turns that have ended are on disk. In a running event loop, wait when the loop shuts down."""
        if not self.active or is_own_thread.get():
            return
        loop = _running_loop()
        if loop is None:
            self._wait()
        elif loop is not self._loop:
            with guard("turn_saves"):
                self._watch(loop)

    def _wait(self) -> None:
        now = time.monotonic()
        if self._save(SAVE_SECONDS) or self._is_loaded():
            return
        if self._load_until is None:
            self._load_until = now + LOAD_SECONDS
        while not self._is_loaded() and (left := self._load_until - time.monotonic()) > 0:
            if self._save(min(SAVE_SECONDS, left)):
                return
        self._save(SAVE_SECONDS)

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
