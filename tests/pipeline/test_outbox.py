from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gati.exporters.base import DELIVERED, Outcome, Request, Verdict
from gati.pipeline import internal_errors
from gati.pipeline.codec import pack
from gati.pipeline.outbox import Outbox
from gati.pipeline.request_queue import Limits, batch_requests
from gati.pipeline.retry import Policy, RateBudget
from gati.pipeline.spool import Spool
from gati.pipeline.stats import DeliveryCounters
from tests.pipeline.kit import DOWN, FakeExporter, record_turn, running, spool_files, wait_until


def test_requests_of_a_conversation_are_sent_in_order_one_at_a_time(tmp_path: Path) -> None:
    exporter = FakeExporter()
    with running(tmp_path, exporter, connections=4) as pipeline:
        for n in range(2_000):
            record_turn(pipeline, f"c{n % 20}", str(n))
        assert pipeline.flush(20.0)
    assert not exporter.overtaken
    assert all(exporter.texts[f"c{k}"] == [str(n) for n in range(2_000) if n % 20 == k] for k in range(20))


def test_conversations_are_sent_concurrently_up_to_the_limit(tmp_path: Path) -> None:
    exporter = FakeExporter()
    exporter.gate.clear()
    with running(tmp_path, exporter, connections=3) as pipeline:
        for n in range(10):
            record_turn(pipeline, f"c{n}", "x")
        wait_until(lambda: len(exporter.in_flight) == 3)
        exporter.gate.set()
        assert pipeline.flush(20.0)
    assert exporter.most_in_flight == 3


def test_a_message_is_on_disk_before_it_is_sent_and_removed_afterwards(tmp_path: Path) -> None:
    exporter = FakeExporter()
    on_disk: list[str] = []

    def look(request: Request) -> Outcome:
        on_disk.append("".join(path.read_text() for path in spool_files(tmp_path)))
        return DELIVERED

    exporter.answer = look
    with running(tmp_path, exporter) as pipeline:
        record_turn(pipeline, "c", "to be kept")
        assert pipeline.flush(20.0)
        assert "to be kept" in on_disk[0]
        assert spool_files(tmp_path) == []


def test_the_requests_of_one_round_share_a_file(tmp_path: Path) -> None:
    exporter = FakeExporter()
    exporter.answer = lambda request: DOWN
    with running(tmp_path, exporter, patience=0, flush_interval=3600) as pipeline:
        for n in range(100):
            record_turn(pipeline, f"c{n}", "x")
        pipeline.flush(0.2)
        assert len(spool_files(tmp_path)) == 1


def test_an_outage_loses_nothing(tmp_path: Path) -> None:
    exporter = FakeExporter()
    exporter.answer = lambda request: DOWN
    with running(tmp_path, exporter) as pipeline:
        for n in range(500):
            record_turn(pipeline, f"c{n % 10}", str(n))
        assert pipeline.flush(0.3).spooled == 500
        exporter.answer = lambda request: DELIVERED
        assert pipeline.flush(20.0).delivered == 500
    assert not exporter.overtaken
    assert all(exporter.texts[f"c{k}"] == [str(n) for n in range(500) if n % 10 == k] for k in range(10))


def test_during_an_outage_one_request_at_a_time_probes_the_destination(tmp_path: Path) -> None:
    exporter = FakeExporter()
    exporter.answer = lambda request: DOWN
    with running(tmp_path, exporter, patience=0, connections=8) as pipeline:
        for n in range(200):
            record_turn(pipeline, f"c{n}", "x")
        wait_until(lambda: exporter.attempts > 20)
        exporter.most_in_flight = 0
        before = exporter.attempts
        wait_until(lambda: exporter.attempts > before + 10)
        assert exporter.most_in_flight == 1


def test_memory_does_not_grow_with_an_outage(tmp_path: Path) -> None:
    exporter = FakeExporter()
    exporter.answer = lambda request: DOWN
    with running(tmp_path, exporter, buffer_max_bytes=4_000_000) as pipeline:
        for n in range(600):
            record_turn(pipeline, f"c{n}", f"{n} " + "x" * 20_000)
            if n % 50 == 49:  # before the buffer is full, however slow the machine
                wait_until(lambda recorded=n + 1: pipeline.flush(0.05).spooled == recorded)
        assert pipeline.stats().memory_bytes < 2_500_000
        assert pipeline.stats().spool_bytes > 12_000_000
        exporter.answer = lambda request: DELIVERED
        assert pipeline.flush(30.0).delivered == 600
    assert exporter.total == 600


@pytest.mark.parametrize(("on_full", "survivors"), [("oldest", range(60, 100)), ("newest", range(40))])
def test_a_full_spool_drops_whole_turns_and_counts_them(tmp_path: Path, on_full: str, survivors: range) -> None:
    exporter = FakeExporter()
    exporter.answer = lambda request: DOWN
    with running(tmp_path, exporter, spool_max_bytes=1_000_000, on_full=on_full) as pipeline:
        for n in range(100):
            record_turn(pipeline, f"c{n}", f"{n:03d}" + "x" * 20_000)
            pipeline.flush(0.02)
        wait_until(lambda: (stats := pipeline.stats()).recorded == 100 and not stats.pending)
        stats = pipeline.stats()
        assert stats.balanced
        assert stats.dropped == {"spool_full": 100 - stats.spooled}
        assert sum(path.stat().st_size for path in spool_files(tmp_path)) == stats.spool_bytes <= 1_000_000
        exporter.answer = lambda request: DELIVERED
        assert pipeline.flush(20.0).delivered == stats.spooled
    kept = {int(text[:3]) for texts in exporter.texts.values() for text in texts}
    assert kept >= set(survivors)


def test_later_requests_of_a_dropped_turn_are_dropped(tmp_path: Path) -> None:
    counters = DeliveryCounters()
    outbox = Outbox(FakeExporter(), counters, None, Limits(memory=10_000))
    big = "x" * 3_000
    outbox.accept([Request("c", {"n": 1, "x": big}, 2, "turn 1")])
    outbox.accept([Request("c", {"n": 2, "x": big}, 2, "turn 2")])
    outbox.accept([Request("d", {"n": 3, "x": big}, 2, "turn 3")])
    assert counters.stats().dropped == {"memory_full": 2}
    outbox.accept([Request("c", {"n": 4}, 2, "turn 1")])
    assert counters.stats().dropped == {"memory_full": 4}
    assert counters.stats().pending == 4
    assert counters.stats().balanced


def test_without_a_spool_nothing_is_written_to_disk(tmp_path: Path) -> None:
    exporter = FakeExporter()
    exporter.answer = lambda request: DOWN
    with running(tmp_path / "spool", exporter, spool=False) as pipeline:
        record_turn(pipeline, "c", "x")
        assert pipeline.flush(0.1).pending == 1
        exporter.answer = lambda request: DELIVERED
        assert pipeline.flush(20.0).delivered == 1
    assert not (tmp_path / "spool").exists()


def test_memory_is_limited_without_a_spool(tmp_path: Path) -> None:
    exporter = FakeExporter()
    exporter.answer = lambda request: DOWN
    with running(tmp_path, exporter, spool=False, buffer_max_bytes=1_000_000) as pipeline:
        for n in range(100):
            record_turn(pipeline, f"c{n}", "x" * 20_000)
            pipeline.flush(0.01)
        wait_until(lambda: sum((stats := pipeline.stats()).dropped.values()) + stats.pending == 100)
        stats = pipeline.stats()
        assert stats.memory_bytes <= 500_000
        assert stats.dropped == {"memory_full": 100 - stats.pending}
        exporter.answer = lambda request: DELIVERED


def test_a_disk_that_cannot_be_written_is_logged_once_and_memory_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "spool").write_text("a file where the folder should be")
    exporter = FakeExporter()
    with running(tmp_path / "spool", exporter) as pipeline:
        for n in range(20):
            record_turn(pipeline, "c", str(n))
            assert pipeline.flush(20.0)
    assert exporter.texts["c"] == [str(n) for n in range(20)]
    assert sum("spool cannot be used" in line for line in caplog.messages) == 1


def test_messages_of_a_spool_that_is_deleted_while_in_use_are_counted_as_lost(tmp_path: Path) -> None:
    exporter = FakeExporter()
    exporter.gate.clear()
    with running(tmp_path / "spool", exporter, buffer_max_bytes=100_000) as pipeline:
        for n in range(40):
            record_turn(pipeline, f"c{n}", "x" * 20_000)
            pipeline.flush(0.01)
        shutil.rmtree(tmp_path / "spool")
        exporter.gate.set()
        pipeline.flush(20.0)
        stats = pipeline.stats()
        not_recorded = sum(stats.turns_dropped.values())  # if the worker is slow, the buffer is full
        assert stats.delivered + stats.dropped["spool_lost"] + not_recorded == 40
        record_turn(pipeline, "late", "x")
        assert pipeline.flush(20.0).delivered == 1


def test_a_rejected_request_is_set_aside_with_its_reason(tmp_path: Path) -> None:
    exporter = FakeExporter()
    exporter.answer = lambda request: Outcome(Verdict.REJECT, "400 bad") if "bad" in str(request.body) else DELIVERED
    with running(tmp_path, exporter) as pipeline:
        for text in ("good", "bad", "better"):
            record_turn(pipeline, "c", text)
        result = pipeline.flush(20.0)
        assert (result.delivered, result.rejected) == (2, 1)
    assert exporter.texts["c"] == ["good", "better"]
    (kept,) = tmp_path.glob("*/rejected/*.json")
    value = json.loads(kept.read_text())
    assert value["reason"] == "400 bad"
    assert value["request"]["body"] == {"messages": [{"content": "bad"}]}


class Together(FakeExporter):
    """Encode all items of a call as one request."""

    def encode(self, items: Any) -> list[Request]:
        return [Request("c", {"messages": [{"content": run.inputs} for run in items]}, len(items), "t")]


def test_one_bad_message_among_many_is_isolated_by_splitting(tmp_path: Path) -> None:
    exporter = Together()
    exporter.answer = lambda request: Outcome(Verdict.SPLIT, "400") if "bad" in str(request.body) else DELIVERED
    with running(tmp_path, exporter, flush_interval=3600) as pipeline:
        for n in range(50):
            record_turn(pipeline, "c", "bad" if n == 27 else str(n))
        result = pipeline.flush(20.0)
        assert (result.delivered, result.rejected) == (49, 1)
    assert exporter.texts["c"] == [str(n) for n in range(50) if n != 27]
    assert exporter.attempts < 15


def without_first(request: Request) -> Outcome:
    """Accept the first message of a request only; accept a single one never."""
    messages = request.body["messages"]
    rest = messages[1:] or messages
    body, omissions = {"messages": rest}, request.omissions + 1
    return Outcome(Verdict.PARTIAL, "omitted", rest=replace(request, body=body, items=len(rest), omissions=omissions))


def test_messages_that_an_answer_omits_are_sent_again_and_set_aside_after_three_times(tmp_path: Path) -> None:
    exporter = Together()
    exporter.answer = without_first
    with running(tmp_path, exporter, flush_interval=3600) as pipeline:
        for n in range(5):
            record_turn(pipeline, "c", str(n))
        result = pipeline.flush(20.0)
        assert (result.delivered, result.rejected, exporter.attempts) == (3, 2, 3)
        assert pipeline.stats().balanced
        exporter.answer = lambda request: DELIVERED
        record_turn(pipeline, "c", "later")
        assert pipeline.flush(20.0).delivered == 1
    (kept,) = tmp_path.glob("*/rejected/*.json")
    assert json.loads(kept.read_text())["request"]["body"] == {"messages": [{"content": "3"}, {"content": "4"}]}


def test_omitted_messages_survive_the_process(tmp_path: Path) -> None:
    exporter = Together()
    exporter.answers.append(DOWN)
    exporter.answer = lambda request: without_first(request) if request.omissions == 0 else DOWN
    with running(tmp_path, exporter, patience=0, flush_interval=3600) as pipeline:
        for n in range(3):
            record_turn(pipeline, "c", str(n))
        while not pipeline.stats().delivered:
            pipeline.flush(0.1)
    exporter = Together()
    with running(tmp_path, exporter) as pipeline:
        assert pipeline.flush(20.0).delivered == 2
    assert exporter.texts["c"] == ["1", "2"]


def test_a_delay_set_by_the_server_holds_while_other_requests_succeed() -> None:
    budget = RateBudget()
    outbox, other = (
        Outbox(FakeExporter(), DeliveryCounters(), None, Limits(), Policy(), budget=budget) for _ in range(2)
    )
    for each in (outbox, other):
        each.accept([Request(f"c{n}", {"messages": []}, 1, f"t{n}") for n in range(4)])
        each.open()
    limited, successful = outbox.next(0), outbox.next(0)
    assert limited is not None
    assert successful is not None
    outbox.settle(limited, Outcome(Verdict.RETRY, "429", retry_after=300.0))
    outbox.settle(successful, DELIVERED)
    outbox.retry_now()
    assert outbox.next(0) is None
    assert other.next(0) is None  # it shares the budget


def test_a_split_that_loses_messages_is_counted(tmp_path: Path) -> None:
    exporter = Together()
    exporter.answers.append(Outcome(Verdict.SPLIT, "413"))
    whole = exporter.split

    def split(request: Request) -> tuple[Request, Request] | None:
        halves = whole(request)
        assert halves
        halves[1].items -= 1
        return halves

    exporter.split = split
    with running(tmp_path, exporter, flush_interval=3600) as pipeline:
        for n in range(4):
            record_turn(pipeline, "c", str(n))
        pipeline.flush(20.0)
        assert pipeline.stats().dropped == {"split": 1}
        assert pipeline.stats().balanced


def test_messages_are_kept_while_the_key_is_refused_and_delivered_when_it_works(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    exporter = FakeExporter()
    exporter.answer = lambda request: Outcome(Verdict.PAUSE, "401 Invalid API key")
    with running(tmp_path, exporter) as pipeline:
        for n in range(20):
            record_turn(pipeline, f"c{n}", str(n))
        result = pipeline.flush(20.0)
        assert result.paused == ("fake",)
        assert (result.spooled, result.timed_out) == (20, False)
        assert pipeline.stats().paused == {"fake": "401 Invalid API key"}
        exporter.answer = lambda request: DELIVERED
        wait_until(lambda: exporter.total == 20)
        assert pipeline.flush(20.0)
        assert pipeline.stats().paused == {}
    assert sum("refuses the key" in line for line in caplog.messages) == 1


def test_a_request_that_never_succeeds_is_set_aside_without_blocking_others(tmp_path: Path) -> None:
    exporter = FakeExporter()
    exporter.answer = lambda request: Outcome(Verdict.RETRY, "500") if request.ordering_key == "poison" else DELIVERED
    with running(tmp_path, exporter) as pipeline:
        record_turn(pipeline, "poison", "x")
        n = 0
        while not pipeline.stats().rejected:
            record_turn(pipeline, "healthy", str(n))
            pipeline.flush(0.05)
            n += 1
    assert exporter.texts["healthy"] == [str(k) for k in range(n)]
    (kept,) = tmp_path.glob("*/rejected/*.json")
    assert "gave up after" in kept.read_text()


def test_an_exporter_that_raises_loses_no_message(tmp_path: Path) -> None:
    exporter = FakeExporter()
    failures = iter([True, True, True])

    def answer(request: Request) -> Outcome:
        if next(failures, False):
            raise LookupError("secret")
        return DELIVERED

    exporter.answer = answer
    with running(tmp_path, exporter) as pipeline:
        record_turn(pipeline, "c", "x")
        assert pipeline.flush(20.0)
        assert pipeline.stats().faults == {"exporter.fake.send": 3}
        assert pipeline.stats().retries == 3


def test_a_delay_set_by_the_server_is_kept_during_a_flush(tmp_path: Path) -> None:
    exporter = FakeExporter()
    exporter.answers.append(Outcome(Verdict.RETRY, "429", retry_after=0.25))
    with running(tmp_path, exporter) as pipeline:
        record_turn(pipeline, "c", "x")
        assert pipeline.flush(0.1).spooled == 1
        assert exporter.attempts == 1
        assert pipeline.flush(20.0).delivered == 1


def test_requests_other_than_messages_have_files_of_their_own(tmp_path: Path) -> None:
    exporter = FakeExporter()
    exporter.answer = lambda request: DELIVERED if request.endpoint == "ratings" else DOWN
    with running(tmp_path, exporter, patience=0, flush_interval=3600) as pipeline:
        record_turn(pipeline, "c1", "message")
        record_turn(pipeline, "c2", "rating", endpoint="ratings")
        pipeline.flush(0.2)
        (left,) = spool_files(tmp_path)
        assert "rating" not in left.read_text()


def test_readable_messages_of_a_damaged_file_are_delivered(tmp_path: Path) -> None:
    exporter = FakeExporter()
    exporter.answer = lambda request: DOWN
    with running(tmp_path, exporter, flush_interval=3600) as pipeline:
        for n in range(3):
            record_turn(pipeline, f"c{n}", str(n))
        pipeline.shutdown(0.05)
    (file,) = spool_files(tmp_path)
    lines = file.read_bytes().split(b"\n")
    file.write_bytes(b"\n".join([lines[0], lines[1][:20], *lines[2:]]))
    exporter = FakeExporter()
    with running(tmp_path, exporter) as pipeline:
        assert pipeline.flush(20.0).delivered == 2
        assert pipeline.stats().dropped == {"damaged": 1}
    assert sorted(exporter.texts) == ["c0", "c2"]
    assert list(tmp_path.glob("*/rejected/*.damaged"))


def test_delivered_requests_of_a_file_are_not_left_to_the_next_process(tmp_path: Path) -> None:
    exporter = FakeExporter()
    exporter.answer = lambda request: DOWN if request.ordering_key == "c1" else DELIVERED
    with running(tmp_path, exporter, flush_interval=3600) as pipeline:
        for n in range(3):
            record_turn(pipeline, f"c{n}", str(n))
        assert pipeline.flush(0.3).spooled == 1
        pipeline.shutdown(0.05)
    later = FakeExporter()
    with running(tmp_path, later) as pipeline:
        assert pipeline.flush(20.0).delivered == 1
        assert pipeline.stats().recovered == 1
    assert later.texts == {"c1": ["1"]}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_falls_back_to_memory(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir(mode=0o500)
    exporter = FakeExporter()
    with running(tmp_path / "spool", exporter) as pipeline:
        record_turn(pipeline, "c", "x")
        assert pipeline.flush(20.0)


def test_a_request_with_its_own_file_keeps_its_position() -> None:
    requests = [
        Request("c", {"n": n}, 1, "t", endpoint) for n, endpoint in enumerate(["messages", "ratings", "messages"])
    ]
    assert [
        [request.body["n"] for request, _ in batch]
        for batch in batch_requests([(request, pack(request)) for request in requests])
    ] == [[0], [1], [2]]


def test_a_turn_in_two_files_is_dropped_whole(tmp_path: Path) -> None:
    counters = DeliveryCounters()
    spool = Spool(tmp_path, "fake", "a1")
    outbox = Outbox(FakeExporter(), counters, spool, Limits(memory=1_000, disk=10_000))
    big = "x" * 3_500
    outbox.accept([Request("c", {"x": "in memory"}, 1, "turn 0")])
    outbox.accept([Request("c", {"x": big}, 1, "turn 1")])
    outbox.accept([Request("c", {"x": big}, 1, "turn 1")])
    outbox.accept([Request("d", {"x": big}, 1, "turn 2")])
    outbox.accept([Request("d", {"x": big}, 1, "turn 2")])
    outbox.open()
    sent_turns = []
    while (queued := outbox.next(0)) is not None:
        sent_turns.append(queued.turn_id)
        outbox.settle(queued, DELIVERED)
    assert sent_turns == ["turn 2", "turn 2"]
    assert counters.stats().dropped == {"spool_full": 3}
    assert counters.stats().balanced
    spool.close()


@pytest.mark.parametrize("fails", ["set_aside", "remove", "rewrite", "close"])
def test_a_disk_that_starts_to_fail_loses_no_message(
    tmp_path: Path, fails: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The disk itself fails, which can only be simulated."""

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Spool, fails, broken)
    exporter = Together()
    exporter.answer = lambda request: (
        DELIVERED if "bad" not in str(request.body) else Outcome(Verdict.SPLIT if request.items > 1 else Verdict.REJECT)
    )
    with running(tmp_path, exporter, flush_interval=3600) as pipeline:
        for n in range(20):
            record_turn(pipeline, "c", "bad" if n == 7 else str(n))
        result = pipeline.flush(20.0)
        assert (result.delivered, result.rejected) == (19, 1)
        record_turn(pipeline, "c", "later")
        assert pipeline.flush(20.0).delivered == 1
    assert exporter.texts["c"] == [*(str(n) for n in range(20) if n != 7), "later"]
    assert sum("spool cannot be used" in line for line in caplog.messages) <= 1


def test_an_unreadable_file_is_counted_and_removed(tmp_path: Path) -> None:
    exporter = FakeExporter()
    exporter.answer = lambda request: DOWN
    with running(tmp_path, exporter, flush_interval=3600) as pipeline:
        for n in range(3):
            record_turn(pipeline, f"c{n}", str(n))
        pipeline.shutdown(0.05)
    (file,) = spool_files(tmp_path)
    file.write_bytes(b"\x00" * file.stat().st_size)
    with running(tmp_path, FakeExporter()) as pipeline:
        assert pipeline.flush(20.0).delivered == 0
        assert pipeline.stats().dropped == {"damaged": 3}
    assert spool_files(tmp_path) == []


class Unpackable(dict[str, Any]):
    """A body that an exporter of a user's may return."""

    def items(self) -> Any:
        raise ValueError


@pytest.mark.parametrize("place", ["before the disk", "after the disk", "while it is packed"])
def test_requests_that_an_error_keeps_from_being_queued_are_counted_once(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(internal_errors, "RAISE", False)
    counters = DeliveryCounters()
    outbox = Outbox(FakeExporter(), counters, Spool(tmp_path, "fake", "a1"), Limits())
    outbox.accept([Request("c", {"n": 0}, 2, "turn 0")])

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    body: dict[str, Any] = {"n": 1, "x": 2**70}
    if place == "while it is packed":
        body = {"x": Unpackable(a=2**70)}
    else:
        target = outbox._keeper.disk if place == "before the disk" else outbox._keeper
        monkeypatch.setattr(target, "reserve" if place == "before the disk" else "clean_up", fail)
    outbox.accept([Request("c", body, 3, "turn 1"), Request("d", {"n": 2}, 5, "turn 2")])
    stats = counters.stats()
    assert (stats.recorded, stats.balanced) == (10, True)
    lost = {"before the disk": 8, "after the disk": 0, "while it is packed": 3}
    assert stats.dropped == ({"internal_error": lost[place]} if lost[place] else {})


def test_what_is_in_memory_only_at_a_shutdown_is_counted_as_dropped(tmp_path: Path) -> None:
    exporter, drops = FakeExporter(), []
    exporter.answer = lambda request: DOWN
    with running(tmp_path, exporter, spool=False, on_drop=drops.append) as pipeline:
        for n in range(3):
            record_turn(pipeline, f"c{n}", "x")
        assert pipeline.flush(0.1).pending == 3
        result = pipeline.shutdown(0.0)
        assert (result.pending, result.dropped) == (0, 3)
        assert pipeline.stats().dropped == {"shutdown": 3}
    assert sum(drop.messages for drop in drops if drop.reason == "shutdown") == 3


@pytest.mark.parametrize("outcome", [DELIVERED, DOWN, Outcome(Verdict.REJECT, "bad"), Outcome(Verdict.PAUSE, "key")])
def test_a_request_in_flight_at_a_shutdown_is_counted_by_its_outcome(outcome: Outcome) -> None:
    counters = DeliveryCounters()
    outbox = Outbox(FakeExporter(), counters, None, Limits())
    outbox.accept([Request("c", {"n": 0}, 2, "turn 0"), Request("d", {"n": 1}, 3, "turn 1")])
    outbox.open()
    queued = outbox.next(0)
    assert queued is not None
    outbox.close()
    assert (counters.stats().pending, counters.stats().dropped) == (2, {"shutdown": 3})
    outbox.settle(queued, outcome)
    stats = counters.stats()
    assert (stats.pending, stats.balanced) == (0, True)
    place = {Verdict.OK: (2, 0, 3), Verdict.REJECT: (0, 2, 3)}.get(outcome.verdict, (0, 0, 5))
    assert (stats.delivered, stats.rejected, stats.dropped["shutdown"]) == place
