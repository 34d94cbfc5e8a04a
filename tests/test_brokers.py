"""The brokers that tests use are real, and keep their data when they are stopped."""

from __future__ import annotations

import psycopg
from confluent_kafka import Consumer, Producer

from tests.brokers import KafkaBroker, PostgresServer


def test_postgresql_keeps_its_data_when_it_is_stopped_or_killed(postgres: str, postgres_server: PostgresServer) -> None:
    with psycopg.connect(postgres) as connection:
        connection.execute("CREATE TABLE numbers (n int)")
        connection.execute("INSERT INTO numbers VALUES (1)")
    for end in (postgres_server.stop, postgres_server.kill):
        end()
        postgres_server.start()
        with psycopg.connect(postgres) as connection:
            assert connection.execute("SELECT n FROM numbers").fetchall() == [(1,)]


def test_kafka_keeps_its_data_when_it_is_killed(kafka: KafkaBroker) -> None:
    topic = kafka.new_topic().rpartition("/")[2]
    producer = Producer({"bootstrap.servers": kafka.address})
    producer.produce(topic, b"value", b"key")
    assert producer.flush(30) == 0
    kafka.kill()
    kafka.start()
    consumer = Consumer({"bootstrap.servers": kafka.address, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    message = consumer.poll(30)
    assert message is not None
    assert (message.key(), message.value()) == (b"key", b"value")
    consumer.close()
