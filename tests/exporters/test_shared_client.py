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


def test_all_threads_get_one_client():
    held = SharedClient(Client)
    barrier = threading.Barrier(8)
    found: set[Client | None] = set()

    def get() -> None:
        barrier.wait()
        found.add(held.get())

    threads = [threading.Thread(target=get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 1


def test_after_close_there_is_none():
    held = SharedClient(Client)
    client = held.get()
    held.close()
    held.close()
    assert client is not None
    assert client.closed
    assert held.get() is None


def test_a_client_that_cannot_be_made_is_tried_again():
    attempts: list[int] = []

    def make() -> Client:
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError
        return Client()

    held = SharedClient(make)
    with pytest.raises(OSError):  # noqa: PT011  it has no message that could match
        held.get()
    assert held.get() is not None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_gets_its_own_client_even_if_the_lock_was_held():
    held = SharedClient(Client)
    inherited = held.get()
    assert inherited is not None
    held._lock.acquire()
    child = os.fork()
    if child == 0:
        held.after_fork()
        mine = held.get()
        os._exit(0 if mine is not None and mine is not inherited and not inherited.closed else 1)
    held._lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert held.get() is inherited


def test_a_client_that_cannot_be_closed_is_forgotten_all_the_same():
    class Stuck(Client):
        def close(self) -> None:
            raise OSError("no")

    held = SharedClient(Stuck)
    held.get()
    held.close()
    assert held.get() is None
