"""Calls a function in a thread of its own, for user code that may not return in time."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from gati.clock import Clock
from gati.exporters.log_suppression import suppress_sdk_logs

T = TypeVar("T")

MAX_ABANDONED = 32
"""Most abandoned calls that may still run. Further calls fail until one of them returns."""


GRACE_SECONDS = 0.1
"""Time after the deadline in which a call that checks it can end normally. `CallAbandoned` may otherwise be raised in a
destructor, and Python prints such exceptions."""


class CallAbandoned(SystemExit):
    """Raised inside a call that passed its deadline, so that it ends as soon as it executes Python code again.

    A thread that ends with `SystemExit` prints nothing.
    """


class DeadlineExceededError(Exception):
    """The call did not return in time."""


_lock = threading.Lock()
_abandoned: set[threading.Thread] = set()


def call_with_deadline(function: Callable[[], T], until: float) -> T:
    """Return the result of `function`, or raise what it raises.

    The function runs in a daemon thread that is abandoned after the deadline, or in the calling thread if the interpreter
    starts no more threads.

    Args:
        function: The call.
        until: Deadline, as monotonic time. The function is abandoned `GRACE_SECONDS` later.

    Raises:
        DeadlineExceededError: It did not return in time, or too many earlier calls have not returned yet.
    """
    with _lock:
        _abandoned.difference_update([thread for thread in _abandoned if not thread.is_alive()])
        if len(_abandoned) >= MAX_ABANDONED:
            raise DeadlineExceededError
    result: Future[T] = Future()
    thread = threading.Thread(target=_run, args=(function, result), name="gati-exchange", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # at the interpreter's exit, or out of threads
        return function()
    try:
        return result.result(max(0.0, until - Clock.monotonic()) + GRACE_SECONDS)
    except TimeoutError:
        if result.done():  # raised by the function itself, or returned at this moment
            return result.result()
        _abandon(thread, result)
        raise DeadlineExceededError from None


def _run(function: Callable[[], T], result: Future[T]) -> None:
    try:
        with suppress_sdk_logs():
            value = function()
        result.set_result(value)
    except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits
        if not result.done():
            result.set_exception(error)


def _abandon(thread: threading.Thread, result: Future[T]) -> None:
    with _lock:
        _abandoned.add(thread)
    identity = thread.ident
    if identity is not None and not result.done():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(identity), ctypes.py_object(CallAbandoned))
