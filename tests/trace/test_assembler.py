"""`gati.trace.assembler`: when a turn is returned, and that nothing is kept afterwards."""

from __future__ import annotations

import itertools
from typing import Any
from uuid import UUID

import pytest

from gati.events import LLMCallEvent, Turn, iso
from gati.settings import load
from gati.trace import assembler as module
from gati.trace.assembler import LINGER_NS, Assembler
from gati.trace.records import (
    Custom,
    ErrorInfo,
    FirstToken,
    Gap,
    Message,
    ModelCall,
    ModelResult,
    Record,
    RunEnded,
    RunFailed,
    RunStarted,
)

SECOND = 1_000_000_000


class Program:
    """Feeds the records of a simulated program; its clock advances with each record."""

    def __init__(self, timeout: float = 3600.0, conversation_id: str | None = "c") -> None:
        self.abandoned: list[UUID] = []
        self.assembler = Assembler(
            load(local=False, turn_timeout=timeout, conversation_id=conversation_id), self.abandoned.append
        )
        self.now = 10 * SECOND
        self.items: list[Any] = []
        self._ids = itertools.count(1)

    def feed(self, *records: Record) -> None:
        self.items += self.assembler.feed(list(records))

    def at(self) -> int:
        self.now += 1_000
        return self.now

    def start(self, parent: UUID | None = None, kind: str = "chain", inputs: Any = None) -> UUID:
        run = UUID(int=next(self._ids))
        self.feed(RunStarted(run, parent, kind, kind, self.at(), inputs, (), {}))
        return run

    def model(self, parent: UUID | None, text: str = "hi") -> UUID:
        return self.start(parent, "model", ModelCall((), (Message("human", text),), 1))

    def answer(self, run: UUID, text: str) -> None:
        self.feed(RunEnded(run, self.at(), ModelResult((Message("ai", text),))))

    def end(self, run: UUID, output: Any = "done", inputs: Any = None) -> None:
        self.feed(RunEnded(run, self.at(), output, inputs))

    def fail(self, run: UUID, fault: ErrorInfo) -> None:
        self.feed(RunFailed(run, self.at(), fault))

    @property
    def turns(self) -> list[Turn]:
        return [item for item in self.items if isinstance(item, Turn)]

    def is_empty(self) -> bool:
        assembler = self.assembler
        return not (assembler._runs or assembler._traces or assembler._builders or assembler._lingering)


CANCELLED = ErrorInfo("CancelledError", "", "cancelled")


def test_a_turn_is_returned_when_its_root_and_every_run_below_have_ended():
    program = Program()
    root = program.start(inputs="hi")
    model = program.model(root)
    assert program.assembler.open_turns == 1
    program.answer(model, "Hello.")
    assert program.turns == []
    program.end(root, "Hello.")
    (turn,) = program.turns
    assert (turn.run_id, turn.status) == (str(root), "completed")
    assert turn.answer is not None
    assert turn.answer.text == "Hello."
    assert program.assembler.open_turns == 0
    assert program.is_empty()


def test_repeated_records_of_a_run_are_ignored():
    program = Program()
    root = program.start(inputs="hi")
    repeated = RunStarted(root, None, "chain", "chain", program.at(), "other", (), {})
    program.feed(repeated)
    program.end(root)
    program.end(root)
    program.feed(repeated)
    assert len(program.turns) == 1
    assert program.is_empty()


def test_a_cancelled_run_that_never_ends_delays_its_turn_only_for_a_while():
    program = Program()
    root = program.start(inputs="hi")
    model = program.model(root)
    program.fail(root, CANCELLED)
    assert program.turns == []
    program.items += program.assembler.tick(program.now + LINGER_NS // 2)
    assert program.turns == []
    program.items += program.assembler.tick(program.now + LINGER_NS + 1)
    (turn,) = program.turns
    assert turn.status == "aborted"
    assert program.abandoned == [model]
    assert program.is_empty()


def test_settle_does_not_wait_for_runs_that_were_cut_off():
    program = Program()
    root = program.start(inputs="hi")
    program.model(root)
    program.fail(root, CANCELLED)
    program.items += program.assembler.settle()
    assert [turn.status for turn in program.turns] == ["aborted"]


def test_settle_keeps_turns_whose_root_is_running():
    program = Program()
    program.start(inputs="hi")
    assert program.assembler.settle() == []
    assert program.assembler.open_turns == 1


def test_the_end_of_a_run_whose_turn_was_returned_is_ignored():
    program = Program()
    root = program.start(inputs="hi")
    model = program.model(root)
    program.fail(root, CANCELLED)
    program.items += program.assembler.settle()
    program.answer(model, "too late")
    assert len(program.turns) == 1
    assert program.is_empty()


def test_work_that_continues_after_the_root_becomes_a_later_part():
    program = Program()
    root = program.start(inputs="hi")
    task = program.start(root)
    model = program.model(task, "remember")
    program.end(root, "Hello.")
    (turn,) = program.turns
    assert turn.answer is not None
    assert not turn.partial
    program.answer(model, "Noted.")
    program.end(task)
    late = program.turns[1]
    assert (late.run_id, late.partial, late.answer) == (str(root), True, None)
    (call,) = [event for event in late.events if isinstance(event, LLMCallEvent)]
    assert (call.parent_event_id, call.completion, call.internal) == (str(root), "Noted.", True)
    assert program.is_empty()


def test_work_that_starts_after_the_root_becomes_a_later_part():
    program = Program()
    root = program.start(inputs="hi")
    program.end(root)
    model = program.model(root, "remember")
    program.answer(model, "Noted.")
    assert [turn.run_id for turn in program.turns] == [str(root)] * 2
    assert program.turns[1].conversation is program.turns[0].conversation


def test_a_run_with_an_unknown_parent_is_a_root():
    program = Program()
    root = program.start(UUID(int=999), inputs="hi")
    program.end(root)
    assert [turn.run_id for turn in program.turns] == [str(root)]


def test_a_turn_without_records_times_out_as_unfinished():
    program = Program(timeout=60.0)
    root = program.start(inputs="hi")
    program.items += program.assembler.tick(program.now + 59 * SECOND)
    assert program.turns == []
    program.items += program.assembler.tick(program.now + 61 * SECOND)
    assert [(turn.run_id, turn.status) for turn in program.turns] == [(str(root), "unfinished")]
    assert program.abandoned == [root]
    assert program.is_empty()


def test_drain_returns_open_turns_and_open_later_parts():
    program = Program()
    root = program.start(inputs="hi")
    task = program.start(root)
    program.model(task)
    program.end(root, "Hello.")
    second = program.start(inputs="other")
    program.items += program.assembler.drain()
    delivered = [(turn.run_id, turn.status, turn.partial) for turn in program.turns]
    assert delivered == [
        (str(root), "completed", False),
        (str(root), "completed", True),
        (str(second), "unfinished", False),
    ]
    assert program.is_empty()


def test_a_gap_drops_whole_turns():
    program = Program()
    program.now = module.perf_counter_ns()
    root = program.start(inputs="hi")
    model = program.model(root)
    program.feed(Gap(3))
    program.answer(model, "Hello.")
    orphan = program.model(root, "what next?")
    program.answer(orphan, "No idea.")
    program.end(root, "Hello.")
    assert program.turns == []
    whole = program.start(inputs="hello again")
    program.answer(program.model(whole), "Hello.")
    program.end(whole, "Hello.")
    assert [turn.run_id for turn in program.turns] == [str(whole)]
    assert program.is_empty()


def test_the_number_of_remembered_runs_is_bounded(monkeypatch: Any):
    monkeypatch.setattr(module, "REMEMBERED_RUNS", 10)
    program = Program()
    for _ in range(50):
        root = program.start(inputs="hi")
        program.answer(program.model(root), "Hello.")
        program.end(root, "Hello.")
    assert len(program.assembler._ended) == 10
    assert len(program.turns) == 50


def test_only_the_first_token_counts_and_its_chunks_are_the_partial_answer():
    program = Program()
    root = program.model(None)
    pieces = ["Hel"]
    program.feed(FirstToken(root, program.at(), pieces), FirstToken(root, program.at(), ["other"]))
    pieces.append("lo")
    program.fail(root, ErrorInfo("GeneratorExit", "", "closed"))
    (turn,) = program.turns
    assert turn.answer is not None
    assert (turn.answer.text, turn.status) == ("Hello", "aborted")
    (call,) = [event for event in turn.events if isinstance(event, LLMCallEvent)]
    assert call.time_to_first_token_ms == 0.001


def test_every_event_of_a_turn_has_its_envelope_and_a_true_timestamp():
    program = Program(conversation_id=None)
    root = program.start(inputs="hi")
    program.feed(Custom(root, "progress", program.at(), 1))
    program.answer(program.model(root), "Hello.")
    program.end(root, "Hello.")
    (turn,) = program.turns
    assert [event.kind for event in turn.events] == ["agent_start", "custom", "llm_call", "agent_end"]
    for event in turn.events:
        assert event.timestamp == iso(event.started_ns)
        assert (event.run_id, event.run_name, event.agent_name) == (str(root), "chain", "agent")
        assert (event.conversation_id, event.user_id) == (str(root), "anonymous")


@pytest.mark.parametrize("offset", [-(10**30), -(10**21), 10**21, 10**30])
def test_a_broken_clock_does_not_cost_the_turn(offset: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "time_ns", lambda: offset)
    program = Program()
    root = program.start(inputs="hi")
    program.answer(program.model(root), "Hello.")
    program.end(root, "Hello.")
    (turn,) = program.turns
    assert {event.timestamp for event in turn.events} <= {"1970-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"}
