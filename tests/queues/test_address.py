"""Addresses of queues."""

from __future__ import annotations

import re

import pytest

from gati.errors import ConfigurationError
from gati.queues.address import QueueAddress


def test_an_address_of_kafka_has_servers_and_a_topic() -> None:
    address = QueueAddress.parse("kafka://one:9092,two/gati.turns")
    assert (address.engine, address.servers, address.topic) == ("kafka", "one:9092,two:9092", "gati.turns")
    assert address.label == "kafka://one:9092,two:9092/gati.turns"
    assert address.dead_topic == "gati.dead"
    assert QueueAddress.parse("kafka://one/other").dead_topic == "other.dead"


def test_credentials_and_parameters_become_options_of_librdkafka() -> None:
    address = QueueAddress.parse("kafka://me:s%40cret@one/t?ssl.ca.location=/ca.pem&security.protocol=SASL_PLAINTEXT")
    assert dict(address.options) == {
        "sasl.mechanism": "PLAIN",
        "sasl.password": "s@cret",
        "sasl.username": "me",
        "security.protocol": "SASL_PLAINTEXT",
        "ssl.ca.location": "/ca.pem",
    }
    assert "s@cret" not in repr(address) + address.label


def test_an_address_of_postgresql_is_passed_on_as_it_is() -> None:
    address = QueueAddress.parse("postgres://me:secret@db:5433/app?sslmode=require")
    assert (address.engine, address.url) == ("postgres", "postgresql://me:secret@db:5433/app?sslmode=require")
    assert address.label == "postgresql://db:5433/app"
    assert "secret" not in repr(address)
    assert QueueAddress.parse("postgresql:///app?host=/var/run/postgresql").label == "postgresql:///app"


@pytest.mark.parametrize(
    "text",
    [
        "", "kafka", "kafka://one", "kafka://one/", "kafka:///topic", "kafka://one:0/t", "kafka://one:70000/t",
        "kafka://one/a b", "kafka://one/a/b", "kafka://one,/t", "amqp://one/t", "redis://one/0", "postgresql://db",
        "postgresql://db/", "http://one/t", "kafka://one/t?plugin.library.paths=/tmp/x.so", "kafka://one/t?nonsense",
        "kafka://one/t?bootstrap.servers=two:9092", "kafka://o[ne/t",
    ],
)  # fmt: skip
def test_another_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="queue"):
        QueueAddress.parse(text)


def test_an_error_shows_no_password() -> None:
    with pytest.raises(ConfigurationError) as caught:
        QueueAddress.parse("kafka://me:s3cret@one?sasl.password=s3cret")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me:s3/cret@host/db", "postgresql://me:s3?cret@host/db", "postgresql://me:s3#cret@host/db",
        "postgresql:me:s3cret@host/db", "me:s3cret@host", "kafka://me:s3/cret@host/t",
        "kafka://me:s3 cret@host/t", "amqp://me:s3cret@host", "kafka://host/t#s3cret",
    ],
)  # fmt: skip
def test_a_password_that_breaks_the_address_is_not_shown(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        QueueAddress.parse(text)
    assert not re.search("s3|cret", str(caught.value))
