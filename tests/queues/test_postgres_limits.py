"""No operation on PostgreSQL waits without a limit."""

from __future__ import annotations

import os
import re
from contextlib import closing

import psycopg
import pytest

from gati.exporters.base import DELIVERED, Verdict
from gati.queues.address import QueueAddress
from gati.queues.bounded_connection import BoundedConnection
from gati.queues.message import QueueMessage
from gati.queues.postgres import PostgresPublisher
from gati.queues.postgres_log import FETCH_BYTES, PostgresLog
from gati.team_store.connection import StoreUnavailableError
from gati.team_store.pool import display_address

MESSAGES = [QueueMessage("c", b"{}", "messages", "turn", 1, "", 1)]


def test_publishing_ends_in_time_while_the_tables_are_locked(postgres: str) -> None:
    address = QueueAddress.parse(postgres)
    first, waiting = PostgresPublisher(address, 30.0), PostgresPublisher(address, 0.5)
    assert first.publish(MESSAGES) == [DELIVERED]
    with closing(first), closing(waiting), psycopg.connect(postgres) as other:
        for table in ("gati_queue_version", "gati_turns"):
            other.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            (outcome,) = waiting.publish(MESSAGES)
            assert outcome.verdict is Verdict.RETRY
            assert "no answer" in outcome.reason
        other.rollback()
        assert first.publish(MESSAGES) == [DELIVERED]


def test_a_connection_is_closed_when_the_server_does_not_answer(postgres: str) -> None:
    with BoundedConnection.connect(postgres, autocommit=True) as connection:
        connection.answer_seconds = 0.2
        with pytest.raises(psycopg.OperationalError, match="no answer"):
            connection.execute("SELECT pg_sleep(600)")
        assert connection.closed


def test_an_error_about_the_address_does_not_quote_it() -> None:
    publisher = PostgresPublisher(QueueAddress.parse("postgresql://me:s3cret%zz@host/db"), 1.0)
    (outcome,) = publisher.publish(MESSAGES)
    assert outcome.verdict is Verdict.RETRY
    assert "address is invalid" in outcome.reason
    assert "s3cret" not in outcome.reason


@pytest.mark.parametrize("address", ["postgresql://me:s3cret%zz@host/db", "postgresql://me:s3/cret@host/db"])
def test_a_store_with_an_invalid_address_shows_no_password(address: str) -> None:
    with pytest.raises(StoreUnavailableError) as caught:
        display_address(address)
    assert not re.search("s3|cret", f"{caught.value!r} {caught.value.__cause__}")


class NoListener:
    """Does nothing while a log polls."""

    def assigned(self, lanes: object, floors: object) -> None: ...

    def revoked(self, lanes: object) -> None: ...

    def lost(self, lanes: object) -> None: ...


def test_a_poll_returns_few_records_if_they_are_large_and_the_rest_later(postgres: str) -> None:
    address = QueueAddress.parse(postgres)
    value = os.urandom(900_000)
    messages = [QueueMessage(f"c{n}", value, "messages", f"turn {n}", 1, "", 1) for n in range(25)]
    with closing(PostgresPublisher(address, 30.0)) as publisher:
        assert set(publisher.publish(messages)) == {DELIVERED}
    with closing(PostgresLog(address)) as log:
        polls = [log.poll(0.0, (), NoListener()) for _ in range(4)]
    sizes = [sum(len(record.message.value) for record in poll) for poll in polls]
    assert max(sizes) <= FETCH_BYTES + len(value)
    assert [record.message.turn for poll in polls for record in poll] == [f"turn {n}" for n in range(25)]
