from __future__ import annotations

from pathlib import Path

from gati.exporters.base import Outcome, Verdict
from gati.pipeline.recovery import drain_spool, spool_status
from tests.pipeline.kit import DOWN, QUICK, Destination, files, running, say


def leave(spool_dir: Path, count: int, account: str = "a1") -> None:
    desk = Destination(account=account)
    desk.answer = lambda request: DOWN
    with running(spool_dir, desk, patience=0) as pipeline:
        for n in range(count):
            say(pipeline, f"c{n % 3}", str(n))
        pipeline.flush(0.05)


def test_a_spool_can_be_delivered_by_hand(tmp_path: Path) -> None:
    leave(tmp_path, 30)
    desk, steps = Destination(), []
    result = drain_spool(tmp_path, [desk], lambda done, total: steps.append((done, total)), policy=QUICK)
    assert result.delivered == 30
    assert result
    assert desk.texts["c1"] == [str(n) for n in range(1, 30, 3)]
    assert steps[-1] == (30, 30)
    assert files(tmp_path) == []
    assert not list(tmp_path.glob("*/owners/*"))


def test_other_accounts_are_left_alone(tmp_path: Path) -> None:
    leave(tmp_path, 3, account="other")
    desk = Destination()
    assert drain_spool(tmp_path, [desk], policy=QUICK).delivered == 0
    assert desk.attempts == 0


def test_a_drain_keeps_its_time_and_gives_back_what_is_left(tmp_path: Path) -> None:
    leave(tmp_path, 3)
    desk = Destination()
    desk.answer = lambda request: DOWN
    result = drain_spool(tmp_path, [desk], timeout=0.1, policy=QUICK)
    assert (result.spooled, result.timed_out) == (3, True)
    assert spool_status(tmp_path)[0].orphaned == 3


def test_a_drain_with_a_refused_key_stops_and_says_so(tmp_path: Path) -> None:
    leave(tmp_path, 3)
    desk = Destination()
    desk.answer = lambda request: Outcome(Verdict.PAUSE, "401")
    result = drain_spool(tmp_path, [desk], policy=QUICK)
    assert (result.paused, result.spooled) == (("desk",), 3)


def test_the_status_tells_what_waits_whose_it_is_and_what_was_refused(tmp_path: Path) -> None:
    assert spool_status(tmp_path / "none") == []
    leave(tmp_path, 4)
    desk = Destination(account="a2")
    desk.answer = lambda request: Outcome(Verdict.REJECT, "no") if request.ordering_key == "bad" else DOWN
    with running(tmp_path, desk, patience=0) as pipeline:
        say(pipeline, "bad", "x")
        pipeline.flush(20.0)
        say(pipeline, "c", "x")
        pipeline.flush(0.1)
        first, second = spool_status(tmp_path)
        assert (first.account, first.messages, first.orphaned, first.processes) == ("desk-a1", 4, 4, 0)
        assert (second.account, second.messages, second.orphaned, second.processes) == ("desk-a2", 1, 0, 1)
        assert second.rejected == 1
        assert second.size_bytes > 0
        assert second.oldest_ms
