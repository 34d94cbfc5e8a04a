"""Flushes that callers wait for: requested in any thread, resolved by the worker and the senders.

Nothing here waits for another thread, except `FlushRequest.wait`: a thread of the program that is interrupted at
any line (Ctrl-C) must not stop the worker.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class FlushRequest:
    """A flush that a caller waits for.

    Args:
        final: the pipeline ends with this flush: open turns are delivered as unfinished.
        until: monotonic time at which a final flush stops sending; what is left stays in the spool.
        to_disk: nothing is sent; the flush ends as soon as all items that are complete are in the spool.
    """

    def __init__(self, *, final: bool = False, until: float = 0.0, to_disk: bool = False) -> None:
        self.final = final
        self.until = until
        self.to_disk = to_disk
        self.epochs: list[int] | None = None
        """Epoch of each sender's outbox, once it holds all records from before the flush."""
        self.is_resolved = False
        self.on_resolved: Callable[[], object] | None = None
        """Called once, in the thread that resolves the flush."""
        # A plain lock as an event: releasing it is a single C call.
        self._waiting = threading.Lock()
        self._waiting.acquire()

    def resolve(self) -> None:
        """Let the callers of `wait` continue."""
        if self.is_resolved:
            return
        self.is_resolved = True
        self._waiting.release()
        if (on_resolved := self.on_resolved) is not None:
            on_resolved()

    def wait(self, seconds: float) -> bool:
        """Wait until the flush is resolved, at most `seconds`; return whether it is."""
        if not self.is_resolved and self._waiting.acquire(timeout=max(0.0, seconds)):
            self._waiting.release()  # another thread may wait as well
        return self.is_resolved


class Flushes:
    """The flushes that have not been resolved. Every method is atomic by using single operations of a list."""

    def __init__(self) -> None:
        self._requests: list[FlushRequest] = []

    def __bool__(self) -> bool:
        return bool(self._requests)

    def __contains__(self, flush: FlushRequest) -> bool:
        return flush in self._requests

    def add(self, flush: FlushRequest) -> None:
        """Add a request; the worker has to be woken after that."""
        self._requests.append(flush)

    def remove(self, flush: FlushRequest) -> bool:
        """Remove a request that was resolved or timed out; return False if it was removed already."""
        try:
            self._requests.remove(flush)
        except ValueError:
            return False
        return True

    def new(self) -> list[FlushRequest]:
        """Return the requests that the worker has not begun."""
        return [flush for flush in self._requests.copy() if flush.epochs is None]

    def begun(self) -> list[FlushRequest]:
        """Return the requests that wait for deliveries."""
        return [flush for flush in self._requests.copy() if flush.epochs is not None]
