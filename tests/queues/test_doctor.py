"""`gati doctor --queue` on real brokers."""

from __future__ import annotations

import json

import psycopg
import pytest
from typer.testing import CliRunner

from gati.cli.commands import app
from tests.queues.brokered import KafkaQueue, Queue


def doctor(address: str, *arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    done = CliRunner().invoke(app, ["doctor", "--json", *arguments], env={"GATI_QUEUE": address})
    return done.exit_code, {check["name"]: check for check in json.loads(done.stdout)}


def test_the_doctor_accepts_a_queue_and_publishes_nothing(queue: Queue) -> None:
    code, checks = doctor(queue.address, "--queue")
    assert code == 0
    assert {check["verdict"] for check in checks.values()} == {"pass"}
    assert checks["queue"]["found"].endswith("answers")
    if isinstance(queue, KafkaQueue):
        assert queue.read() == []
    else:
        assert checks["permission"]["found"] == "the first program or relay creates the tables"


def test_the_doctor_sends_its_test_messages_to_the_queue(queue: Queue) -> None:
    code, checks = doctor(queue.address)
    assert (code, checks["delivery"]["verdict"]) == (0, "pass")
    assert "messages published" in checks["delivery"]["found"]
    assert len(queue.user_texts()) == 1


def test_the_doctor_warns_of_a_small_limit_and_few_partitions(kafka_queue: KafkaQueue) -> None:
    small = KafkaQueue(kafka_queue.broker, partitions=1)  # type: ignore[arg-type]  # a Kafka broker
    small.set_max_bytes(100_000)
    code, checks = doctor(small.address, "--queue")
    assert code == 0
    assert (checks["limit"]["verdict"], checks["partitions"]["verdict"]) == ("warn", "warn")
    assert "100,000" in checks["limit"]["found"]


def test_the_doctor_names_a_topic_that_does_not_exist(kafka_queue: KafkaQueue) -> None:
    code, checks = doctor(kafka_queue.address + ".missing", "--queue")
    assert (code, checks["queue"]["verdict"]) == (1, "fail")
    assert "Unknown topic" in checks["queue"]["found"]


def test_the_doctor_names_a_missing_permission(postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE ROLE reader LOGIN")
    code, checks = doctor(postgres.replace("gati@", "reader@"), "--queue")
    assert (code, checks["permission"]["verdict"]) == (1, "fail")


@pytest.mark.parametrize("address", ["kafka://127.0.0.1:1/t", "postgresql://me:s3cret@127.0.0.1:1/app"])
def test_the_doctor_fails_if_no_broker_answers(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gati.cli.queue_check.CHECK_SECONDS", 1.0)
    code, checks = doctor(address, "--queue")
    assert (code, checks["queue"]["verdict"]) == (1, "fail")
    assert "127.0.0.1" in checks["queue"]["found"]
    assert "s3cret" not in json.dumps(checks)


def test_the_doctor_says_that_no_queue_is_set() -> None:
    code, checks = doctor("", "--queue")
    assert (code, checks["queue"]["found"]) == (1, "not set")
