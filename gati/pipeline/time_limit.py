"""Calls functions of the user with a time limit.

Python cannot end a call, so each runs in a thread of its own, which is left behind when the time is over. A function
that hangs again and again is not called any more until one of its calls returns: the threads are bounded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from gati._context import mark_own_thread

T = TypeVar("T")

MAX_HUNG_CALLS = 3
"""Calls left behind, after which a function is not called any more."""


class CallTimeoutError(Exception):
    """The call did not return in time, or was not made because earlier ones have not returned."""


class _Call(Generic[T]):
    """One call in a thread of its own."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self.result: T | None = None
        self.error: BaseException | None = None
        self.is_done = False
        self.finished = threading.Event()

    def run(self) -> None:
        mark_own_thread()
        try:
            self.result = self._function()
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            self.error = error
        finally:
            self.is_done = True
            self.finished.set()


class TimeLimit:
    """Limits the time of calls of one function or object of the user. Thread-safe.

    Args:
        name: the name of the threads, after `gati-`.
    """

    def __init__(self, name: str) -> None:
        self._name = f"gati-{name}"
        self._hung: list[_Call[object]] = []

    def call(self, function: Callable[[], T], seconds: float, progress: Callable[[], object] = lambda: None) -> T:
        """Call a function and return its result.

        Args:
            function: runs in another thread.
            seconds: the time limit.
            progress: if its result changes, the time begins again.

        Raises:
            CallTimeoutError: the time is over.
            BaseException: what the function raises.
        """
        self._hung[:] = [call for call in self._hung if not call.is_done]
        if len(self._hung) >= MAX_HUNG_CALLS:
            raise CallTimeoutError("earlier calls have not returned")
        call = _Call(function)
        try:
            threading.Thread(target=call.run, name=self._name, daemon=True).start()
        except RuntimeError:  # at the interpreter's exit, or out of threads
            return function()
        seen = progress()
        while not call.finished.wait(seconds):
            if (now := progress()) == seen:
                self._hung.append(call)  # type: ignore[arg-type]  # only its end matters here
                raise CallTimeoutError(f"no result within {seconds:g} seconds")
            seen = now
        if call.error is not None:
            raise call.error
        return call.result  # type: ignore[return-value]  # set, since the call has not failed
