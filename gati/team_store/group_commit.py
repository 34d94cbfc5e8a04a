"""Stores the requests of several threads in one transaction, because a commit costs more than a request."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from gati.team_store.prepared_requests import PreparedRequest

MAX_BATCH = 50
"""Requests that are stored in one transaction."""

_MAX_MESSAGES = 2000
"""Messages after which no further request is added to a transaction."""

_MAX_WAIT_SECONDS = 0.025

_Result = dict[str, Any] | Exception


class _Waiting:
    """A request that waits to be stored, and its response or error."""

    def __init__(self, request: PreparedRequest) -> None:
        self.request = request
        self.result: _Result | None = None
        self.is_next = False
        """This thread is the next one to store what waits."""
        self.wake = threading.Lock()
        """Released when there is a result, or when `is_next`."""
        self.wake.acquire()


class GroupCommit:
    """Lets one thread at a time store all requests that wait.

    Args:
        ingest: Stores requests in one transaction. Returns the response of each, or why it was not stored.
    """

    def __init__(self, ingest: Callable[[list[PreparedRequest]], list[_Result]]) -> None:
        self._ingest = ingest
        self._arrived = threading.Condition()
        self._queue: deque[_Waiting] = deque()
        self._is_storing = False
        self._expected, self._wait_seconds = 0, 0.0

    def store(self, request: PreparedRequest) -> _Result:
        """Store a request with others; return its response, or why it was not stored."""
        waiting = _Waiting(request)
        with self._arrived:
            self._queue.append(waiting)
            if self._is_storing:
                self._arrived.notify()
            else:
                self._is_storing = True
                self._wake_next()
        try:
            waiting.wake.acquire()
            if waiting.result is None:
                self._store_waiting()
        except BaseException:  # also if interrupted: others must not wait for this thread
            self._withdraw(waiting)
            raise
        assert waiting.result is not None  # requests are stored in the order in which they came
        return waiting.result

    def _store_waiting(self) -> None:
        """Store the requests that have waited longest, and let the next thread go on with those that wait then."""
        batch: list[_Waiting] = []
        results: list[_Result] = []
        try:
            self._collect(batch)
            began = time.monotonic()
            results = self._ingest([waiting.request for waiting in batch])
            self._wait_seconds = min((time.monotonic() - began) / 2, _MAX_WAIT_SECONDS)
        except Exception as error:  # noqa: BLE001 - each waiting thread raises it
            results = [error] * len(batch)
        finally:
            # Without results, this thread was interrupted. Storing the requests again stores nothing twice.
            self._hand_over(batch, results or [InterruptedError("storing was interrupted")] * len(batch))

    def _collect(self, batch: list[_Waiting]) -> None:
        """Move what waits to `batch`. Wait until as many are here as the last time, or for half the time of a transaction.

        Else the threads whose requests have just been stored would miss the next transaction again and again.
        """
        messages = 0
        with self._arrived:
            if self._expected > 1:
                self._arrived.wait_for(lambda: len(self._queue) >= self._expected, self._wait_seconds)
            while self._queue and len(batch) < MAX_BATCH and messages < _MAX_MESSAGES:
                batch.append(self._queue.popleft())
                messages += len(batch[-1].request.messages)

    def _hand_over(self, batch: list[_Waiting], results: list[_Result]) -> None:
        with self._arrived:
            self._expected = min(len(batch) + len(self._queue), MAX_BATCH)
            self._wake_next()
        for waiting, result in zip(batch, results, strict=True):
            waiting.result = result
            waiting.wake.release()

    def _wake_next(self) -> None:
        """Let the first thread that waits store; with the lock held."""
        self._is_storing = bool(self._queue)
        if self._queue:
            self._queue[0].is_next = True
            self._queue[0].wake.release()

    def _withdraw(self, waiting: _Waiting) -> None:
        """Remove a request whose thread was interrupted while it waited."""
        with self._arrived:
            if waiting in self._queue:
                self._queue.remove(waiting)
                if waiting.is_next:
                    self._wake_next()
