from __future__ import annotations

from pathlib import Path

from gati.exporters.base import Outcome, Verdict
from gati.pipeline.recovery import drain_spool, spool_status
from tests.pipeline.kit import DOWN, QUICK, FakeExporter, record_turn, running, spool_files


def leave(spool_dir: Path, count: int, account: str = "a1") -> None:
    exporter = FakeExporter(account=account)
    exporter.answer = lambda request: DOWN
    with running(spool_dir, exporter, patience=0) as pipeline:
        for n in range(count):
            record_turn(pipeline, f"c{n % 3}", str(n))
        pipeline.flush(0.05)


def test_drain_delivers_a_spool(tmp_path: Path) -> None:
    leave(tmp_path, 30)
    exporter, steps = FakeExporter(), []
    result = drain_spool(tmp_path, [exporter], lambda done, total: steps.append((done, total)), policy=QUICK)
    assert result.delivered == 30
    assert result
    assert exporter.texts["c1"] == [str(n) for n in range(1, 30, 3)]
    assert steps[-1] == (30, 30)
    assert spool_files(tmp_path) == []
    assert not list(tmp_path.glob("*/owners/*"))


def test_drain_leaves_other_accounts_alone(tmp_path: Path) -> None:
    leave(tmp_path, 3, account="other")
    exporter = FakeExporter()
    assert drain_spool(tmp_path, [exporter], policy=QUICK).delivered == 0
    assert exporter.attempts == 0


def test_drain_stops_after_its_timeout_and_releases_the_rest(tmp_path: Path) -> None:
    leave(tmp_path, 3)
    exporter = FakeExporter()
    exporter.answer = lambda request: DOWN
    result = drain_spool(tmp_path, [exporter], timeout=0.1, policy=QUICK)
    assert (result.spooled, result.timed_out) == (3, True)
    assert spool_status(tmp_path)[0].orphaned == 3


def test_drain_stops_if_the_key_is_refused(tmp_path: Path) -> None:
    leave(tmp_path, 3)
    exporter = FakeExporter()
    exporter.answer = lambda request: Outcome(Verdict.PAUSE, "401")
    result = drain_spool(tmp_path, [exporter], policy=QUICK)
    assert (result.paused, result.spooled) == (("fake",), 3)


def test_the_status_counts_waiting_orphaned_and_rejected_messages(tmp_path: Path) -> None:
    assert spool_status(tmp_path / "none") == []
    leave(tmp_path, 4)
    exporter = FakeExporter(account="a2")
    exporter.answer = lambda request: Outcome(Verdict.REJECT, "no") if request.ordering_key == "bad" else DOWN
    with running(tmp_path, exporter, patience=0) as pipeline:
        record_turn(pipeline, "bad", "x")
        pipeline.flush(20.0)
        record_turn(pipeline, "c", "x")
        pipeline.flush(0.1)
        first, second = spool_status(tmp_path)
        assert (first.account, first.messages, first.orphaned, first.processes) == ("fake-a1", 4, 4, 0)
        assert (second.account, second.messages, second.orphaned, second.processes) == ("fake-a2", 1, 0, 1)
        assert second.rejected == 1
        assert second.size_bytes > 0
        assert second.oldest_ms
