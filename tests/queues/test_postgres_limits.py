"""No operation on PostgreSQL waits without a limit."""

from __future__ import annotations

from contextlib import closing

import psycopg
import pytest

from gati.exporters.base import DELIVERED, Verdict
from gati.queues.address import QueueAddress
from gati.queues.bounded_connection import BoundedConnection
from gati.queues.message import QueueMessage
from gati.queues.postgres import PostgresPublisher

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
