"""The checks of `gati doctor` for a queue: connection, limits and permissions. They publish and create nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gati.cli.check import Check

if TYPE_CHECKING:
    from gati.queues.address import QueueAddress

CHECK_SECONDS = 10.0
"""Longest time for an answer of the broker."""

MIN_BYTES = 1_000_000
"""Size of messages that a topic should accept: gati's requests have up to 950,000 bytes, besides key and headers."""

MIN_PARTITIONS = 4
"""Partitions for a single relay, so that others can join."""

MIN_POSTGRES = 140000
"""Oldest supported version of PostgreSQL, as in `server_version_num`."""


def check_queue(address: QueueAddress) -> Iterator[Check]:
    """Check the connection to a queue and what it allows."""
    return _check_kafka(address) if address.engine == "kafka" else _check_postgres(address)


def _check_kafka(address: QueueAddress) -> Iterator[Check]:
    try:
        import confluent_kafka  # late: an extra

        from gati.queues.kafka import check_topic
    except ImportError:
        yield Check("queue", "fail", "confluent-kafka is not installed", "pip install 'gati-greenflash[kafka]'")
        return
    try:
        topic = check_topic(address, CHECK_SECONDS)
    except confluent_kafka.KafkaException as error:
        yield Check(
            "queue", "fail", f"{address.label}: {error.args[0].str()}", "check the address, and create the topic"
        )
        return
    yield Check("queue", "pass", f"{address.label} answers")
    if topic.partitions < MIN_PARTITIONS:
        found = f"{topic.partitions}, which limits the number of relays"
        yield Check("partitions", "warn", found, "begin with four partitions for each planned relay")
    else:
        yield Check("partitions", "pass", str(topic.partitions))
    if topic.max_bytes is None:
        yield Check("limit", "warn", "the broker does not let this user read it", "allow DescribeConfigs on the topic")
    elif topic.max_bytes < MIN_BYTES:
        found = (
            f"max.message.bytes is {topic.max_bytes:,}; larger requests are split, and larger messages are set aside"
        )
        yield Check("limit", "warn", found, f"set max.message.bytes of the topic to {MIN_BYTES:,} or more")
    else:
        yield Check("limit", "pass", f"max.message.bytes is {topic.max_bytes:,}")


def _check_postgres(address: QueueAddress) -> Iterator[Check]:
    try:
        import psycopg  # late: an extra

        from gati.queues.bounded_connection import reason_of
        from gati.queues.postgres import check_database
    except ImportError:
        yield Check("queue", "fail", "psycopg is not installed", "pip install 'gati-greenflash[postgres]'")
        return
    try:
        database = check_database(address, CHECK_SECONDS)
    except psycopg.Error as error:
        yield Check("queue", "fail", f"{address.label}: {reason_of(error)}", "check the address and the credentials")
        return
    yield Check("queue", "pass", f"{address.label} answers")
    version = f"PostgreSQL {database.version // 10_000}"
    if database.version < MIN_POSTGRES:
        yield Check("version", "fail", version, "PostgreSQL 14 or newer is required")
    else:
        yield Check("version", "pass", version)
    tables = "the tables exist" if database.has_tables else "the first program or relay creates the tables"
    if database.may_publish:
        yield Check("permission", "pass", tables)
    elif database.has_tables:
        yield Check(
            "permission", "fail", "this user must not insert", "GRANT INSERT ON gati_turns, and USAGE ON gati_turns_id"
        )
    else:
        yield Check("permission", "fail", "this user must not create the tables", "run `gati relay` as a user that may")
