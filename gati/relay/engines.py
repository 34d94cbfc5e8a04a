"""Chooses the engine of a queue by its address. Its client library is loaded only here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gati.queues.address import QueueAddress
    from gati.queues.admin import QueueAdmin
    from gati.queues.log import TurnLog


def open_log(address: QueueAddress, session_seconds: float) -> TurnLog:
    """Return the reading side of a queue. Nothing is connected yet.

    Raises:
        ImportError: the client library is not installed.
    """
    if address.engine == "kafka":
        from gati.queues.kafka_log import KafkaLog

        return KafkaLog(address, session_seconds)
    from gati.queues.postgres_log import PostgresLog

    return PostgresLog(address, session_seconds)


def open_admin(address: QueueAddress) -> QueueAdmin:
    """Return the access of commands to a queue. Raises ImportError."""
    if address.engine == "kafka":
        from gati.queues.kafka_admin import KafkaAdmin

        return KafkaAdmin(address)
    from gati.queues.postgres_admin import PostgresAdmin

    return PostgresAdmin(address)
