"""Threads that store at the same time share transactions."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from gati.team_store.group_commit import MAX_BATCH, GroupCommit
from gati.team_store.prepared_requests import PreparedRequest, prepare
from tests.store.bodies import body, said

WAIT = 30.0


def a_request(number: int) -> PreparedRequest:
    return prepare(body(f"c{number}", said(f"m{number}", "hello")))


class Database:
    """Stores batches. The first one waits until `go` is set."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.began, self.go = threading.Event(), threading.Event()

    def ingest(self, requests: list[PreparedRequest]) -> list[Any]:
        ids = [request.body["externalConversationId"] for request in requests]
        self.batches.append(ids)
        self.began.set()
        assert self.go.wait(WAIT)
        if "c13" in ids:
            raise ConnectionError("away")
        return [ValueError(name) if name == "c7" else {"conversation": name} for name in ids]


def _store_together(count: int, database: Database) -> list[Any]:
    """Store one request, and `count` others that arrive meanwhile; return the results of these."""
    group = GroupCommit(database.ingest)
    with ThreadPoolExecutor(count + 1) as threads:
        first = threads.submit(group.store, a_request(1000))
        assert database.began.wait(WAIT)
        others = [threads.submit(group.store, a_request(number)) for number in range(count)]
        while len(group._queue) < count:
            threading.Event().wait(0.001)
        database.go.set()
        assert first.result(WAIT) == {"conversation": "c1000"}
        return [other.result(WAIT) for other in others]


def test_what_arrives_during_a_transaction_is_stored_in_the_next_one() -> None:
    database = Database()
    results = _store_together(10, database)
    assert [len(batch) for batch in database.batches] == [1, 10]
    assert [result for number, result in enumerate(results) if number != 7] == [
        {"conversation": f"c{number}"} for number in range(10) if number != 7
    ]
    assert isinstance(results[7], ValueError)


def test_a_transaction_has_a_largest_size_and_the_rest_follows() -> None:
    database = Database()
    results = _store_together(MAX_BATCH + 10, database)
    assert [len(batch) for batch in database.batches] == [1, MAX_BATCH, 10]
    assert len(results) == MAX_BATCH + 10


def test_a_failure_reaches_every_thread_of_the_transaction_and_the_next_one_works() -> None:
    database = Database()
    results = _store_together(20, database)
    assert all(isinstance(result, ConnectionError) for result in results)
    assert GroupCommit(database.ingest).store(a_request(1)) == {"conversation": "c1"}


def test_an_interrupted_thread_does_not_block_the_others() -> None:
    def interrupt(_: list[PreparedRequest]) -> list[Any]:
        raise KeyboardInterrupt

    group = GroupCommit(interrupt)
    with pytest.raises(KeyboardInterrupt):
        group.store(a_request(1))
    group._ingest = lambda requests: [{} for _ in requests]
    assert group.store(a_request(2)) == {}
