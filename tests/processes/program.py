"""Programs that the tests start: each runs turns and exits in its own way.

``python -m tests.processes.program NAME`` runs the function NAME. Programs report to stdout as JSON
lines. Any other output is an error.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from langchain_core.callbacks import get_usage_metadata_callback  # noqa: F401 - loads the callback manager

from gati import observe
from gati.errors import ConfigurationError
from gati.testing import ScriptedChatModel

MODEL = ScriptedChatModel(replies=["certainly"])


def run_turn(conversation: str, text: str) -> None:
    """Run one turn: a user message, a model call and its answer."""
    with observe.conversation(conversation, user_id="u"):
        assert MODEL.invoke(text).content == "certainly"


def report(**what: object) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def ended_by_return() -> None:
    observe.init()
    run_turn("c", "1")
    run_turn("c", "2")


def ended_by_sys_exit() -> None:
    ended_by_return()
    sys.exit(3)


def ended_by_exception() -> None:
    ended_by_return()
    raise LookupError("the program's own")


def ended_by_sigterm_handler() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    ended_by_return()
    report(ready=True)
    signal.pause()


def ended_by_sigterm() -> None:
    ended_by_return()
    # gati does not handle SIGTERM, so wait until the turns are on disk.
    while not observe.stats().recorded:
        time.sleep(0.01)
    report(ready=True)
    signal.pause()


def exit_while_threads_run_turns() -> None:
    observe.init()
    ended = threading.Semaphore(0)

    def run_turns(name: str) -> None:
        n = 0
        while True:
            run_turn(name, str(n))
            n += 1
            ended.release()

    for k in range(3):
        threading.Thread(target=run_turns, args=(f"c{k}",), daemon=True).start()
    for _ in range(20):
        ended.acquire()


def turn_at_exit() -> None:
    import atexit

    atexit.register(run_turn, "c", "1")
    observe.init()


def turns_at_exit_and_before() -> None:
    import atexit

    atexit.register(run_turn, "c", "3")
    observe.init()
    atexit.register(run_turn, "c", "2")
    run_turn("c", "1")


def ended_with_a_pool_of_threads() -> None:
    from concurrent.futures import ThreadPoolExecutor

    observe.init()
    pool = ThreadPoolExecutor(4)
    for n in range(8):
        pool.submit(run_turn, f"c{n}", "1")


def _run_out_of_threads() -> None:
    threading.stack_size(1 << 60)  # no stack can be that large, so every thread fails to start


def out_of_threads_for_a_while() -> None:
    observe.init()
    _run_out_of_threads()
    run_turn("c", "1")
    report(requests=observe.stats().requests)
    threading.stack_size(0)
    run_turn("c", "2")


def ended_out_of_threads() -> None:
    observe.init()
    _run_out_of_threads()
    run_turn("c", "1")
    report(requests=observe.stats().requests)


def shut_down_twice_and_begun_again() -> None:
    observe.init()
    run_turn("c", "1")
    observe.shutdown()
    observe.shutdown()
    run_turn("c", "not watched")
    observe.init()
    run_turn("c", "2")


def flushed_and_frozen() -> None:
    observe.init()
    for n in range(2):
        run_turn("c", str(n))
        report(delivered=observe.flush().delivered)
        os.kill(os.getpid(), signal.SIGSTOP)


def _child(conversation: str) -> None:
    run_turn(conversation, "child")


def forked(before: bool, ending: str) -> None:
    observe.init()
    if before:
        run_turn("c", "parent")
    children = []
    for n in range(3):
        child = os.fork()
        if child == 0:
            _child(f"child {n}")
            if ending == "exit":
                sys.exit(0)
            result = observe.flush(60.0)
            os._exit(0 if result else 1)
        children.append(child)
    run_turn("c", "parent again")
    for child in children:
        assert os.waitpid(child, 0)[1] == 0


def forked_before_use() -> None:
    forked(False, "exit")


def forked_after_use() -> None:
    forked(True, "exit")


def forked_and_flushed() -> None:
    forked(True, "flush")


def forked_while_another_thread_sends() -> None:
    run_turn("", "load LangChain, because a fork during its imports would hang even without gati")
    observe.init()
    stop = threading.Event()

    def run_turns() -> None:
        n = 0
        while not stop.is_set():
            run_turn("parent", str(n))
            n += 1
            time.sleep(0.001)

    thread = threading.Thread(target=run_turns)
    thread.start()
    for n in range(10):
        child = os.fork()
        if child == 0:
            _child(f"child {n}")
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
    stop.set()
    thread.join()


def forked_in_the_middle_of_a_turn() -> None:
    from langchain_core.runnables import RunnableLambda

    observe.init()

    def step(text: str) -> str:
        child = os.fork()
        if child == 0:
            _child("child")
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        return str(MODEL.invoke(text).content)

    with observe.conversation("c"):
        RunnableLambda(step).invoke("parent")


def _work(n: int) -> int:
    observe.init()  # the second call if the state was inherited
    _child(f"child {n}")
    return n


def multiprocessed() -> None:
    context: Any = multiprocessing.get_context(sys.argv[2])
    observe.init()
    run_turn("c", "parent")
    processes = [context.Process(target=_work, args=(n,)) for n in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0


def pooled() -> None:
    observe.init()
    run_turn("c", "parent")
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(sys.argv[2])) as pool:
        assert sorted(pool.map(_work, range(6))) == list(range(6))


def monkey_patched_by_gevent() -> None:
    import gevent

    observe.init()
    gevent.joinall([gevent.spawn(run_turn, f"c{n}", "1") for n in range(20)])
    report(delivered=observe.flush(60.0).delivered)


def ended_on_a_full_disk() -> None:
    import resource

    observe.init()
    run_turn("c", "1")
    observe.flush(60.0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))
    run_turn("c", "2")
    observe.flush(60.0)
    run_turn("c", "3")
    report(balanced=observe.stats().balanced)


def in_a_container() -> None:
    try:
        observe.init()
    except ConfigurationError as error:
        report(error=str(error))
        return
    run_turn("c", "1")
    flush = observe.flush(60.0)
    report(pid=os.getpid(), uid=os.getuid(), delivered=flush.delivered, waiting=flush.pending + flush.spooled)
    assert not flush.timed_out
    assert not observe.stats().faults, observe.stats().faults
    observe.shutdown(600.0)  # longer than the test waits


def forked_in_a_container() -> None:
    observe.init()
    child = os.fork()
    if child == 0:
        run_turn("c", "1")
        os._exit(0)
    os.waitpid(child, 0)
    report(pid=os.getpid())


def flush_without_turns() -> None:
    observe.init()
    observe.flush(60.0)


def init_without_turns() -> None:
    observe.init()
    report(threads=threading.active_count())


if __name__ == "__main__":
    globals()[sys.argv[1]]()
