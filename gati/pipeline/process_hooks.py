"""Fork and exit hooks of the process, registered once for all pipelines."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import weakref
from typing import Protocol

from gati.pipeline.internal_errors import guard


class ProcessAware(Protocol):
    """An object that is notified of forks and of the process's exit."""

    def after_fork_in_child(self) -> None:
        """Called in the child after a fork."""
        ...

    def at_exit(self) -> None:
        """Called when the process is about to exit."""
        ...


FORK_WAIT_SECONDS = 5.0
"""Longest time that a fork waits for `fork_lock`."""

fork_lock = threading.RLock()
"""Held by our threads while they import modules or change state that a child inherits. A child that is
forked in the middle of another thread's import would wait forever for a thread that it does not have."""

_fork_lock_held = False


def yielding_sleep(seconds: float) -> None:
    """Sleep without `fork_lock`, so that a fork that waits for it can proceed."""
    try:
        fork_lock.release()
    except RuntimeError:  # not held by this thread
        time.sleep(seconds)
        return
    time.sleep(seconds)
    fork_lock.acquire()


# Weak references and a single hook: hooks cannot be unregistered, and `init` may be called often.
_registered: weakref.WeakSet[ProcessAware] = weakref.WeakSet()
_exit_hook_pid = 0


def register(pipeline: ProcessAware) -> None:
    """Notify a pipeline of forks from now on."""
    _registered.add(pipeline)


def register_exit_hook() -> None:
    """Notify registered pipelines of this process's exit. May be called repeatedly."""
    global _exit_hook_pid
    if _exit_hook_pid == os.getpid():
        return
    if not _exit_hook_pid:
        atexit.register(_at_exit)
    _exit_hook_pid = os.getpid()
    # Child processes of multiprocessing and Celery exit without atexit; both have finalizers of their own.
    for name in ("multiprocessing.util", "billiard.util"):
        if (module := sys.modules.get(name)) is not None:
            with guard("exit"):
                module.Finalize(None, _at_exit, exitpriority=10)


def _at_exit() -> None:
    for pipeline in list(_registered):
        with guard("exit"):
            pipeline.at_exit()


def _before_fork() -> None:
    global _fork_lock_held
    _fork_lock_held = fork_lock.acquire(timeout=FORK_WAIT_SECONDS)


def _after_fork_in_parent() -> None:
    if _fork_lock_held:
        fork_lock.release()


def _after_fork_in_child() -> None:
    global fork_lock
    fork_lock = threading.RLock()
    for pipeline in list(_registered):
        with guard("fork"):
            pipeline.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
