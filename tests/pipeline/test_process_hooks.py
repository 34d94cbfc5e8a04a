"""Forks at any moment: the lock is free afterwards, and a child that lacks an import only writes to disk."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gati.pipeline import process_hooks
from gati.pipeline.recovery import drain_spool, spool_status
from tests.pipeline.kit import QUICK, FakeExporter, record_turn, running

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def in_child(function: Callable[[], bool]) -> bool:
    """Run a function in a forked child; return its result."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if function() else 1
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def is_free() -> bool:
    """Return True if another thread can acquire the lock."""
    acquired = []

    def acquire() -> None:
        if process_hooks.fork_lock.acquire(timeout=10):
            acquired.append(True)
            process_hooks.fork_lock.release()

    thread = threading.Thread(target=acquire)
    thread.start()
    thread.join()
    return bool(acquired)


@contextmanager
def busy_thread(work: Callable[[threading.Event], object]) -> Iterator[None]:
    """Run a thread that holds the lock while it works, until the end of the block."""
    holds, end = threading.Event(), threading.Event()

    def hold() -> None:
        with process_hooks.fork_lock:
            holds.set()
            work(end)

    thread = threading.Thread(target=hold)
    thread.start()
    holds.wait()
    try:
        yield
    finally:
        end.set()
        thread.join()


def test_a_fork_waits_at_most_50_ms_for_the_lock() -> None:
    waits: list[float] = []

    class Recorder:
        def acquire(self, timeout: float) -> bool:
            waits.append(timeout)
            return False

    real = process_hooks.fork_lock
    process_hooks.fork_lock = Recorder()  # type: ignore[assignment]  # a stand-in for the lock
    try:
        assert in_child(lambda: True)
    finally:
        process_hooks.fork_lock = real
    assert waits
    assert max(waits) <= 0.05


def test_the_lock_is_free_after_forks_that_did_not_get_it() -> None:
    with busy_thread(lambda end: end.wait()):
        for _ in range(3):
            assert in_child(is_free)
    assert is_free()


def test_the_lock_is_free_after_several_threads_forked_at_once() -> None:
    done = []

    def fork() -> None:
        for _ in range(10):
            done.append(in_child(lambda: process_hooks.fork_lock.acquire(blocking=False)))

    threads = [threading.Thread(target=fork) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [True] * 40
    assert is_free()


def test_a_fork_by_the_thread_that_holds_the_lock_keeps_it() -> None:
    with process_hooks.fork_lock:
        assert in_child(is_free)
        assert process_hooks.fork_lock._is_owned()  # type: ignore[attr-defined]  # not part of the declared type
    assert is_free()


def test_an_interrupted_sleep_keeps_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gati.clock.Clock.sleep", interrupt)
    with pytest.raises(KeyboardInterrupt), process_hooks.fork_lock:
        process_hooks.yielding_sleep(0.001)
    assert is_free()


def test_a_child_forked_while_the_lock_is_held_without_an_import_delivers_itself(tmp_path: Path) -> None:
    def deliver() -> bool:
        with running(tmp_path, exporter := FakeExporter()) as pipeline:
            record_turn(pipeline, "c", "x")
            return bool(pipeline.flush(20.0)) and exporter.total == 1

    with busy_thread(lambda end: end.wait()):
        assert in_child(deliver)


def test_a_child_forked_during_an_import_imports_the_module_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "slow_package"
    package.mkdir()
    (package / "__init__.py").write_text("import slow_package.part\nimport slow_package.slow\nDONE = 1\n")
    (package / "part.py").write_text("VALUE = 2\n")
    (package / "slow.py").write_text("import sys\nsys.begun.set()\nsys.ends.wait()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "begun", begun := threading.Event(), raising=False)

    def import_again() -> bool:
        sys.ends = threading.Event()  # type: ignore[attr-defined]  # not part of the declared type
        sys.ends.set()
        import slow_package  # type: ignore[import-not-found]  # written by this test

        return not process_hooks.import_interrupted() and (slow_package.DONE, slow_package.part.VALUE) == (1, 2)

    def import_slowly(end: threading.Event) -> None:
        sys.ends = end  # type: ignore[attr-defined]  # not part of the declared type
        import slow_package  # noqa: F401  # written by this test

    with busy_thread(import_slowly):
        begun.wait()
        assert in_child(import_again)


def test_a_child_forked_during_an_import_only_spools_and_another_process_delivers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_module.py").write_text("import sys\nsys.begun.set()\nsys.ends.wait()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "begun", begun := threading.Event(), raising=False)
    root = tmp_path / "spool"

    def spool_only() -> bool:
        if not process_hooks.import_interrupted():
            return False
        with running(root, exporter := FakeExporter(), patience=0) as pipeline:
            record_turn(pipeline, "c", "x")
            result = pipeline.flush(20.0)
            (status,) = spool_status(root)
            # It is not the owner: another process may deliver at once.
            return (result.spooled, result.timed_out, exporter.attempts, status.orphaned) == (1, False, 0, 1)

    def import_slowly(end: threading.Event) -> None:
        sys.ends = end  # type: ignore[attr-defined]  # not part of the declared type
        import slow_module  # type: ignore[import-not-found] # noqa: F401  # written by this test

    monkeypatch.setattr(process_hooks, "forget_imports_of_other_threads", lambda: False)  # as without its table
    with busy_thread(import_slowly):
        begun.wait()
        assert in_child(spool_only)
    del sys.modules["slow_module"]
    assert not process_hooks.import_interrupted()
    assert drain_spool(root, [FakeExporter()], policy=QUICK).delivered == 1


def test_without_its_own_modules_a_child_refuses_records_and_counts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> bool:
        pipeline.after_fork_in_child()
        record_turn(pipeline, "c", "x")
        return pipeline.stats().records_refused == 2 and not pipeline.flush(1.0).timed_out

    with running(tmp_path, FakeExporter()) as pipeline:
        monkeypatch.setattr(process_hooks, "lacks_own_modules", lambda: True)
        assert in_child(refuse)
