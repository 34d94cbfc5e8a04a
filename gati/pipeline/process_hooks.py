"""Forks and exits of the process, heard once for all pipelines."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import weakref
from typing import Protocol

from gati.pipeline.internal_errors import guard


class Mortal(Protocol):
    """What wants to know of the process's fate."""

    def after_fork_in_child(self) -> None:
        """This process is a copy."""
        ...

    def at_exit(self) -> None:
        """This process is about to end."""
        ...


FORK_PATIENCE = 5.0
"""Seconds that a fork waits at most for a moment at which we hold nothing half done."""

steady = threading.RLock()
"""Held by our threads while they load modules or change what a child inherits. A child that was
forked in the middle of an import would wait for ever for the thread that it does not have."""

_held_for_fork = False


def rest(seconds: float) -> None:
    """Sleep; a fork that waits for `steady` may happen meanwhile."""
    try:
        steady.release()
    except RuntimeError:  # not held by this thread
        time.sleep(seconds)
        return
    time.sleep(seconds)
    steady.acquire()


# Weak, and one hook for all: neither hook can be taken back, and `init` may be called often.
_living: weakref.WeakSet[Mortal] = weakref.WeakSet()
_exit_is_heard_by = 0


def watch(pipeline: Mortal) -> None:
    """Tell a pipeline of forks from now on."""
    _living.add(pipeline)


def hear_exit() -> None:
    """Tell the pipelines of this process's exit. Harmless if repeated."""
    global _exit_is_heard_by
    if _exit_is_heard_by == os.getpid():
        return
    if not _exit_is_heard_by:
        atexit.register(_at_exit)
    _exit_is_heard_by = os.getpid()
    # The children of multiprocessing and of Celery leave without atexit; they have lists of their own.
    for name in ("multiprocessing.util", "billiard.util"):
        if (module := sys.modules.get(name)) is not None:
            with guard("exit"):
                module.Finalize(None, _at_exit, exitpriority=10)


def _at_exit() -> None:
    for pipeline in list(_living):
        with guard("exit"):
            pipeline.at_exit()


def _before_fork() -> None:
    global _held_for_fork
    _held_for_fork = steady.acquire(timeout=FORK_PATIENCE)


def _after_fork_in_parent() -> None:
    if _held_for_fork:
        steady.release()


def _after_fork_in_child() -> None:
    global steady
    steady = threading.RLock()
    for pipeline in list(_living):
        with guard("fork"):
            pipeline.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
