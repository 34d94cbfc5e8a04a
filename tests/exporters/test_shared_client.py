from __future__ import annotations

import os
import threading
from itertools import count

import pytest

from gati.exporters.shared_client import SharedClient


class Client:
    numbers = count()

    def __init__(self) -> None:
        self.number = next(Client.numbers)
        self.closed = False

    def close(self) -> None:
        self.closed = True


def test_threads_get_the_same_client():
    shared = SharedClient(Client)
    barrier = threading.Barrier(8)
    clients: set[Client | None] = set()

    def get() -> None:
        barrier.wait()
        clients.add(shared.get())

    threads = [threading.Thread(target=get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(clients) == 1


def test_get_returns_none_after_close():
    shared = SharedClient(Client)
    client = shared.get()
    shared.close()
    shared.close()
    assert client is not None
    assert client.closed
    assert shared.get() is None


def test_failed_creation_is_retried():
    attempts: list[int] = []

    def make() -> Client:
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError
        return Client()

    shared = SharedClient(make)
    with pytest.raises(OSError):  # noqa: PT011  it has no message that could match
        shared.get()
    assert shared.get() is not None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_child_gets_a_new_client_and_lock():
    shared = SharedClient(Client)
    inherited = shared.get()
    assert inherited is not None
    shared._lock.acquire()
    child = os.fork()
    if child == 0:
        shared.after_fork()
        own = shared.get()
        os._exit(0 if own is not None and own is not inherited and not inherited.closed else 1)
    shared._lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert shared.get() is inherited


def test_exception_in_close_is_ignored():
    class Stuck(Client):
        def close(self) -> None:
            raise OSError("no")

    shared = SharedClient(Stuck)
    shared.get()
    shared.close()
    assert shared.get() is None
