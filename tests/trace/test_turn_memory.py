"""Open turns take a bounded amount of memory: what a turn could not hold is left out and reported."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from gati.events import Turn
from gati.settings import Settings
from gati.trace.assembler import OPEN_TURNS_SHARE, Assembler
from gati.trace.records import Custom, Gap, RunEnded, RunStarted, Scope

LIMIT = 1_000_000


def assembler(reports: list[str]) -> Assembler:
    settings = Settings(buffer_max_bytes=int(LIMIT / OPEN_TURNS_SHARE))
    return Assembler(settings, report_error=lambda place, error: reports.append(place))


def started(run_id: UUID, parent: UUID | None, at: int, **more: Any) -> RunStarted:
    scope = Scope(conversation_id=str(run_id)) if parent is None else None
    return RunStarted(run_id, parent, "tool" if parent else "chain", "step", at, scope=scope, **more)


def test_a_turn_of_many_steps_keeps_those_that_fit() -> None:
    reports: list[str] = []
    turns, root, at = assembler(reports), uuid4(), 0
    turns.feed([started(root, None, 0, inputs={"messages": "question"})])
    for at in range(10_000):
        step = uuid4()
        turns.feed([started(step, root, at), RunEnded(step, at, "result")])
        assert turns.open_bytes <= LIMIT
    below = [uuid4(), uuid4(), uuid4()]
    turns.feed([started(below[0], root, at), started(below[1], below[0], at), started(below[2], below[1], at)])
    turns.feed([Custom(root, "progress", at, "data"), *(RunEnded(step, at) for step in reversed(below))])
    (turn,) = turns.feed([RunEnded(root, at, "answer")])
    assert isinstance(turn, Turn)
    assert 300 < len(turn.events) < 1_000
    assert len(turn.events) + len(reports) == 10_000 + 3 + 1 + 2  # the turn's own events
    assert set(reports) == {"open_turn"}
    assert (turns.open_bytes, turns.open_turns) == (0, 0)


def test_open_steps_that_were_left_out_belong_to_the_turn_after_its_end() -> None:
    turns, root, late, child = assembler([]), uuid4(), uuid4(), uuid4()
    turns.feed([started(root, None, 0)])
    for at in range(2_000):
        turns.feed([started(uuid4(), root, at)])
    turns.feed([started(late, root, 1)])
    (turn,) = turns.drain()
    assert turns.feed([started(child, late, 2), RunEnded(late, 3)]) == []
    (part,) = turns.feed([RunEnded(child, 3, "result")])
    assert isinstance(turn, Turn)
    assert isinstance(part, Turn)
    assert part.run_id == turn.run_id
    assert turns.open_bytes == 0


def test_of_too_many_open_turns_the_one_that_waits_longest_is_delivered_as_it_is() -> None:
    turns, roots, done = assembler([]), [uuid4() for _ in range(3_000)], []
    for at, root in enumerate(roots):
        done += turns.feed([started(root, None, at, inputs={"messages": "question"})])
        assert turns.open_bytes <= LIMIT + 1_000
    assert 2_000 < len(done) < 2_900
    assert [turn.run_id for turn in done] == [str(root) for root in roots[: len(done)]]
    assert turns.turns_begun == 3_000


def test_a_gap_frees_the_memory_of_open_turns() -> None:
    turns, root = assembler([]), uuid4()
    turns.feed([started(root, None, 0), started(uuid4(), root, 1)])
    assert turns.open_bytes > 0
    turns.feed([Gap(1)])
    assert turns.open_bytes == 0
