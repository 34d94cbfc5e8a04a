"""A relay's process that is stopped in the middle of an operation on PostgreSQL, so that the server waits for it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date

import psycopg
import pytest

from gati.queues.message import QueueMessage
from gati.queues.postgres_schema import INSERT, SCHEMA_LOCK, drop_partitions
from tests.pipeline.kit import wait_until
from tests.relay import kit
from tests.relay.kit import PostgresQueue
from tests.servers import LocalServer

SESSION_SECONDS = 30.0
"""Of the relays that are stopped: so long they wait for the lock. Those that replace them have a session of 2 seconds."""

NAMES = [f"c{number}" for number in range(4)]

WAITING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
STATE = "SELECT state, wait_event FROM pg_stat_activity WHERE pid = %s"
COUNT = "SELECT count(*) FROM gati_turns"


@contextmanager
def stopped_behind_lock(
    url: str, start: Callable[[], int], lock: str, publish: Sequence[QueueMessage] = ()
) -> Iterator[Callable[[], tuple[str, str] | None]]:
    """Take a lock, start a relay, stop it while its statement waits for the lock, publish, and let the statement go on.

    Provides a function that returns the state of the relay's session, None once it has ended.
    """
    rows = [(m.key, m.account, m.endpoint, m.turn, m.items, m.format, m.value) for m in publish]
    with psycopg.connect(url) as blocker, psycopg.connect(url, autocommit=True) as watcher:
        blocker.execute(lock.encode())
        relay = start()
        wait_until(lambda: watcher.execute(WAITING).fetchone() is not None)
        os.kill(relay, signal.SIGSTOP)
        session = watcher.execute(WAITING).fetchone()
        blocker.cursor().executemany(INSERT, rows)
        blocker.commit()
        yield lambda: watcher.execute(STATE, session).fetchone()
        os.kill(relay, signal.SIGCONT)


@pytest.fixture
def queue(postgres: str) -> PostgresQueue:
    return PostgresQueue(postgres)


def test_a_relay_that_is_stopped_while_it_settles_is_replaced(
    queue: PostgresQueue, greenflash: LocalServer, start_relay: Callable[..., int]
) -> None:
    stopped = start_relay(SESSION_SECONDS)
    published = kit.turns(NAMES, 5)
    queue.publish(published)
    with stopped_behind_lock(queue.url, lambda: stopped, "LOCK TABLE gati_lanes IN ACCESS EXCLUSIVE MODE"):
        start_relay()
        more = kit.turns([f"d{number}" for number in range(40)], 1)
        queue.publish(more)
        wait_until(lambda: not kit.missing(greenflash, [*published, *more]))
    kit.assert_in_order(greenflash)


def test_a_relay_that_is_stopped_while_it_creates_a_partition_is_replaced(
    queue: PostgresQueue, greenflash: LocalServer, start_relay: Callable[..., int]
) -> None:
    published = kit.turns(NAMES, 5)
    with psycopg.connect(queue.url, autocommit=True) as connection:
        drop_partitions(connection, "gati_dead", date.max)
    with stopped_behind_lock(
        queue.url, lambda: start_relay(SESSION_SECONDS), f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})"
    ) as state:
        wait_until(lambda: state() == ("idle in transaction", "ClientRead"))
        start_relay()
        queue.publish(published)
        wait_until(lambda: not kit.missing(greenflash, published))
    kit.assert_in_order(greenflash)


def test_a_relay_that_is_stopped_while_it_reads_is_replaced(
    queue: PostgresQueue, greenflash: LocalServer, start_relay: Callable[..., int]
) -> None:
    """The answer is larger than the buffers of the connection, so the server waits until it is read."""
    published = kit.turns(NAMES, 1)
    queue.publish(published)
    stopped = start_relay(SESSION_SECONDS)
    with psycopg.connect(queue.url, autocommit=True) as connection:
        wait_until(lambda: connection.execute(COUNT).fetchone() == (0,))
    large = [kit.queued(kit.request(name, turn, text="x" * 200_000)) for turn in range(1, 20) for name in NAMES]
    with stopped_behind_lock(
        queue.url, lambda: stopped, "LOCK TABLE gati_turns IN ACCESS EXCLUSIVE MODE", large
    ) as state:
        wait_until(lambda: state() == ("active", "ClientWrite"))
        start_relay()
        wait_until(lambda: not kit.missing(greenflash, large))
    kit.assert_in_order(greenflash)
