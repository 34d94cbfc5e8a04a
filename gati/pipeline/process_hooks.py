"""Fork and exit hooks of the process, registered once for all pipelines."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from typing import Any, Protocol

from gati.clock import Clock
from gati.pipeline import exit_hook
from gati.pipeline._compat import forget_imports_of_other_threads, unfinished_imports
from gati.pipeline.internal_errors import guard


class ProcessAware(Protocol):
    """An object that is notified of forks and of the process's exit."""

    def after_fork_in_child(self) -> None:
        """Called in the child after a fork."""
        ...

    def at_exit(self) -> None:
        """Called when the process is about to exit."""
        ...


FORK_WAIT_SECONDS = 0.05
"""Longest time that a fork waits for `fork_lock`. A child that is forked without it imports again what another thread
was importing."""

fork_lock = threading.RLock()
"""Held by our threads while they import modules or change state that a child inherits. A child that is
forked in the middle of another thread's import would wait forever for a thread that it does not have."""


class _Fork(threading.local):
    """The fork that a thread is making. Several threads may fork at the same time."""

    lock: Any = None
    """The lock, if the fork acquired it."""
    exclusive = False
    """True if no other thread can be inside `fork_lock`."""


_fork = _Fork()
_import_interrupted = False


def import_interrupted() -> bool:
    """Return True if this process was forked while another thread was importing a module, and cannot import it again.

    Whoever needs the module would wait forever. So such a process sends nothing.
    """
    return _import_interrupted


def yielding_sleep(seconds: float) -> None:
    """Sleep without `fork_lock`, so that a fork that waits for it can proceed."""
    lock = fork_lock
    try:
        lock.release()
    except RuntimeError:  # not held by this thread
        Clock.sleep(seconds)
        return
    try:
        Clock.sleep(seconds)
    finally:
        lock.acquire()


# Weak references and a single hook: hooks cannot be unregistered, and `init` may be called often.
_registered: weakref.WeakSet[ProcessAware] = weakref.WeakSet()
_exit_hook_pid = 0
_forks = 0
_is_forked = False


def forks() -> int:
    """Return how often this process was forked."""
    return _forks


def is_forked() -> bool:
    """Return True if this process is the child of a fork that happened after gati was imported."""
    return _is_forked


def register(pipeline: ProcessAware) -> None:
    """Notify a pipeline of forks from now on."""
    _registered.add(pipeline)


def register_exit_hook() -> None:
    """Notify registered pipelines of this process's exit even if it is one without `atexit`. May be called repeatedly."""
    global _exit_hook_pid
    if _exit_hook_pid == os.getpid():
        return
    _exit_hook_pid = os.getpid()
    # Child processes of multiprocessing and Celery exit without atexit; both have finalizers of their own.
    for name in ("multiprocessing.util", "billiard.util"):
        if (module := sys.modules.get(name)) is not None:
            with guard("exit"):
                module.Finalize(None, _at_exit, exitpriority=10)
    # A child of Celery that has run its last task ends with neither.
    if (signals := sys.modules.get("celery.signals")) is not None:
        with guard("exit"):
            signals.worker_process_shutdown.connect(_at_celery_exit, weak=False, dispatch_uid="gati")


def _at_celery_exit(**_: object) -> None:
    _at_exit()


def _at_exit() -> None:
    for pipeline in list(_registered):
        with guard("exit"):
            pipeline.at_exit()


exit_hook.callbacks.append(_at_exit)


def _before_fork() -> None:
    _fork.lock, _fork.exclusive = None, False
    if fork_lock.acquire(timeout=FORK_WAIT_SECONDS):
        _fork.lock, _fork.exclusive = fork_lock, True


def _after_fork_in_parent() -> None:
    global _forks
    lock, _fork.lock = _fork.lock, None
    if lock is not None:
        lock.release()
    _forks += 1
    if _registered:  # at its exit, this process delivers what the child left on disk
        with guard("fork"):
            register_exit_hook()


def _after_fork_in_child() -> None:
    global fork_lock, _import_interrupted, _forks, _is_forked
    fork_lock = threading.RLock()
    _forks, _is_forked = 0, True
    _fork.lock = None
    with guard("fork"):
        if not _fork.exclusive:
            _import_interrupted = not forget_imports_of_other_threads() and bool(unfinished_imports())
    for pipeline in list(_registered):
        with guard("fork"):
            pipeline.after_fork_in_child()


def lacks_own_modules() -> bool:
    """Return True if modules of gati are among those whose import was interrupted, so that nothing can be recorded."""
    return _import_interrupted and any(name.partition(".")[0] == "gati" for name in unfinished_imports())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
