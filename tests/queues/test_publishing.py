"""Programs with a queue, on real brokers: what they publish, and what happens when something fails."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from gati import observe
from gati.queues.exporter import MAX_BYTES
from gati.queues.message import FORMAT
from gati.testing import ScriptedChatModel
from tests.brokers import ExternalKafka
from tests.pipeline.kit import wait_until
from tests.queues.brokered import KafkaQueue, PostgresQueue, Queue
from tests.servers import API_KEY, LocalServer

ROOT = Path(__file__).parents[2]
PRODUCT = "0b9f1c5e-7a44-4c63-9f0e-5f2b1f7c3a10"
SECONDS = 60.0
"""Longest flush, even on a slow machine."""
KILLS = int(os.environ.get("GATI_TEST_QUEUE_KILLS", "20"))
"""Programs that are killed. Read here, because each test clears the variables that begin with `GATI_`."""


def start(queue: Queue, tmp_path: Path, **options: Any) -> None:
    observe.init(queue=queue.address, spool_dir=tmp_path / "spool", **options)


def run_turns(*turns: tuple[str, str], reply: str = "certainly") -> None:
    for conversation, text in turns:
        with observe.conversation(conversation, user_id="u"):
            ScriptedChatModel(replies=[reply]).invoke(text)


def numbered(conversations: int, first: int, last: int) -> list[tuple[str, str]]:
    return [(f"c{c}", str(n)) for n in range(first, last + 1) for c in range(conversations)]


def expected(conversations: int, last: int) -> dict[str, list[str]]:
    return {f"c{c}": [str(n) for n in range(1, last + 1)] for c in range(conversations)}


def test_conversations_are_published_in_order_and_without_a_key(
    queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATI_QUEUE", queue.address)
    observe.init(spool_dir=tmp_path / "spool", product_id=PRODUCT)
    run_turns(*numbered(3, 1, 5))
    observe.log_rating(rating=1, rating_min=0, rating_max=1, conversation_id="c0")
    observe.identify_user("u", name="Ada")
    result = observe.flush(timeout=SECONDS)
    assert result
    assert (result.delivered, result.published) == (0, 3 * 5 * 3 + 2)
    assert queue.user_texts() == expected(3, 5)
    published = queue.read()
    assert {message.account for message in published} == {PRODUCT}
    assert {message.format for message in published} == {FORMAT}
    assert {message.endpoint for message in published} == {"messages", "ratings", "users"}
    assert all(message.published_ms > 1_700_000_000_000 for message in published)
    assert observe.stats().balanced
    assert not list(Path.home().rglob("*.db")), "the embedded store is off"
    assert capfd.readouterr().err == ""


def test_with_a_queue_nothing_is_sent_to_greenflash(queue: Queue, tmp_path: Path, greenflash: LocalServer) -> None:
    start(queue, tmp_path, api_key=API_KEY, base_url=greenflash.url)
    run_turns(("c", "1"))
    assert observe.flush(timeout=SECONDS).published == 3
    assert greenflash.messages() == []


def test_nothing_leaves_unmasked_or_uncaptured_or_left_out(queue: Queue, tmp_path: Path) -> None:
    start(queue, tmp_path, mask=lambda text, path, kind: text.replace("secret", "***"))
    run_turns(("c", "a secret"), reply="your secret")
    assert observe.flush(timeout=SECONDS)
    start(queue, tmp_path, capture_content=False)
    run_turns(("c", "a secret"), reply="your secret")
    assert observe.flush(timeout=SECONDS)
    published = len(queue.read())
    assert published == 2
    start(queue, tmp_path, sample_rate=0.0)
    run_turns(("d", "a secret"))
    assert observe.flush(timeout=SECONDS)
    assert observe.stats().sampled_out == 1
    values = [message.value for message in queue.read()]
    assert len(values) == published
    assert not any(b"secret" in value for value in values)


def test_a_forked_child_publishes_through_a_connection_of_its_own(queue: Queue, tmp_path: Path) -> None:
    program = f"""
import os, sys
from gati import observe
from gati.testing import ScriptedChatModel

def turn(conversation):
    with observe.conversation(conversation, user_id="u"):
        ScriptedChatModel(replies=["certainly"]).invoke("1")
    assert observe.flush(timeout={SECONDS}), observe.stats()

observe.init(queue={queue.address!r}, spool_dir={str(tmp_path / "spool")!r})
turn("before")
if os.fork() == 0:
    turn("child")
    sys.exit(0)  # with all finalizers
assert os.wait()[1] == 0
turn("after")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program], cwd=ROOT, timeout=100, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert queue.user_texts() == {"before": ["1"], "child": ["1"], "after": ["1"]}


def test_while_the_broker_is_away_turns_wait_in_the_spool_even_if_the_program_is_killed(
    queue: Queue, tmp_path: Path
) -> None:
    start(queue, tmp_path, timeout=1.0)
    run_turns(*numbered(3, 1, 4))
    assert observe.flush(timeout=SECONDS)
    queue.broker.kill()
    run_turns(*numbered(3, 5, 8))
    result = observe.flush(timeout=3.0)
    assert not result
    assert result.spooled == 3 * 4 * 3
    observe.shutdown(timeout=0.0)
    run_and_kill(queue, tmp_path)
    queue.broker.start()
    start(queue, tmp_path)  # as the next process
    run_turns(*numbered(3, 9, 12))
    assert observe.flush(timeout=SECONDS)
    assert queue.user_texts() == expected(3, 12)
    assert observe.stats().recovered == 3 * 4 * 3, "what belongs to another product waits for a program of it"
    start(queue, tmp_path, product_id=PRODUCT)
    run_turns(("d", "4"))
    assert observe.flush(timeout=SECONDS)
    assert queue.user_texts()["d"] == ["1", "2", "3", "4"]
    assert {message.account for message in queue.read() if message.key == "d"} == {PRODUCT}


def run_and_kill(queue: Queue, tmp_path: Path) -> None:
    """Run a program of another product that is killed as soon as its turns are on disk."""
    program = f"""
import os, signal, time
from gati import observe
from gati.testing import ScriptedChatModel

observe.init(queue={queue.address!r}, spool_dir={str(tmp_path / "spool")!r}, timeout=1.0, product_id={PRODUCT!r})
for n in range(1, 4):
    with observe.conversation("d", user_id="u"):
        ScriptedChatModel(replies=["certainly"]).invoke(str(n))
while observe.stats().spooled < 9:
    time.sleep(0.01)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=100, check=False)
    assert done.returncode == -signal.SIGKILL


def test_a_broker_that_hangs_delays_publication_and_nothing_else(queue: Queue, tmp_path: Path) -> None:
    if isinstance(queue.broker, ExternalKafka):
        pytest.skip("GATI_TEST_KAFKA is a broker that tests cannot stop")
    start(queue, tmp_path, timeout=1.0)
    run_turns(*numbered(3, 1, 2))
    assert observe.flush(timeout=SECONDS)
    queue.broker.pause()
    try:
        run_turns(*numbered(3, 3, 4))
        wait_until(lambda: observe.stats().retries)
        assert not observe.flush(timeout=0.1)
    finally:
        queue.broker.resume()
    assert observe.flush(timeout=SECONDS)
    assert queue.user_texts() == expected(3, 4)


def test_a_killed_program_loses_only_what_the_broker_has_not_acknowledged(queue: Queue) -> None:
    rng = random.Random(18)
    command = [sys.executable, "-W", "ignore", "-m", "tests.queues.program", queue.address]
    program = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert program.stdin
    assert program.stdout
    begun: dict[str, tuple[int, int]] = {}
    try:
        assert program.stdout.readline() == "ready\n"
        for life in range(KILLS):
            program.stdin.write(f"life {life}\n")
            program.stdin.flush()
            child = int(program.stdout.readline())
            enough = rng.randrange(1, 40)
            turns = published = 0
            while (line := program.stdout.readline()) != "killed\n":
                turns, published = map(int, line.split())
                if turns == enough:
                    os.kill(child, signal.SIGKILL)
            begun[f"life {life}"] = turns, published
    finally:
        os.killpg(program.pid, signal.SIGKILL)
        program.communicate()
    found = queue.user_texts()
    for life, (turns, published) in begun.items():
        texts = found.get(life, [])
        assert texts == [str(n + 1) for n in range(len(texts))], "in order and without a gap"
        assert published // 3 <= len(texts) <= turns + 1


def test_a_large_turn_is_published_in_parts_below_the_limit(queue: Queue, tmp_path: Path) -> None:
    start(queue, tmp_path)
    with observe.conversation("c0", user_id="u"), observe.span("work"):
        for n in range(20):
            ScriptedChatModel(replies=[f"{n} " + "y" * 60_000]).invoke(f"{n} " + "x" * 60_000)
    assert observe.flush(timeout=SECONDS)
    published = queue.read()
    assert len(published) > 1
    assert all(len(message.value) < MAX_BYTES + 2_000 for message in published)
    messages = [message for body in queue.bodies() for message in body["messages"]]
    assert len({message["externalMessageId"] for message in messages}) == observe.stats().published
    assert [message["createdAt"] for message in messages] == sorted(message["createdAt"] for message in messages)


def test_requests_above_the_topics_limit_are_split_and_what_is_left_is_set_aside(
    kafka_queue: KafkaQueue, tmp_path: Path
) -> None:
    kafka_queue.set_max_bytes(100_000)
    start(kafka_queue, tmp_path, max_field_bytes=200_000)
    run_turns(*[("c0", f"{n} " + "x" * 30_000) for n in range(4)])
    run_turns(("c1", "x" * 150_000))
    run_turns(("c1", "after"))
    result = observe.flush(timeout=SECONDS)
    stats = observe.stats()
    assert stats.balanced
    assert result.rejected == 1, "the message of 150,000 bytes"
    assert stats.published == stats.recorded - 1
    assert all(len(message.value) <= 100_000 for message in kafka_queue.read())
    texts = [
        m["content"] for body in kafka_queue.bodies() for m in body["messages"] if m["messageType"] == "user_message"
    ]
    assert [text[:2] for text in texts if text.endswith("xx")] == ["0 ", "1 ", "2 ", "3 "]
    assert "after" in texts


def test_init_connects_to_nothing_and_a_wrong_address_is_reported_by_the_flush(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("psycopg")
    for address in ("postgresql://gati@127.0.0.1:1/app", "kafka://127.0.0.1:1/topic"):
        observe.init(queue=address, spool_dir=tmp_path / "spool", timeout=1.0)
        assert not [thread for thread in threading.enumerate() if "sender" in thread.name]
        run_turns(("c", "1"))
        result = observe.flush(timeout=3.0)
        assert (result.spooled, result.published) == (3, 0)
        assert observe.stats().retries
        observe.shutdown(timeout=0.0)
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert any("queue could not be reached" in line and "127.0.0.1" in line for line in lines)


def test_two_programs_may_create_the_tables_while_they_publish(postgres: str, tmp_path: Path) -> None:
    psycopg = pytest.importorskip("psycopg")
    queue = PostgresQueue.__new__(PostgresQueue)
    queue.address = postgres
    observe.init(queue=postgres, spool_dir=tmp_path / "spool")
    run_turns(("c0", "1"))
    assert observe.flush(timeout=SECONDS)
    with psycopg.connect(postgres, autocommit=True) as connection:  # as after a midnight that nobody prepared
        for (name,) in connection.execute(
            "SELECT tablename FROM pg_tables WHERE tablename ~ '^gati_turns_2'"
        ).fetchall():
            connection.execute(f"DROP TABLE {name}")
    run_turns(("c0", "2"))
    assert observe.flush(timeout=SECONDS)
    assert queue.user_texts() == {"c0": ["2"]}
