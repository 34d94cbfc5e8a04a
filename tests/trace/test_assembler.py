"""`gati.trace.assembler`: when a turn is returned, and that nothing is kept afterwards."""

from __future__ import annotations

import itertools
from typing import Any
from uuid import UUID

import pytest

from gati.events import Action, LLMCallEvent, Turn, iso
from gati.settings import load
from gati.trace import assembler as module
from gati.trace.assembler import Assembler
from gati.trace.cut_off_turns import WAIT_NS
from gati.trace.records import (
    Custom,
    ErrorInfo,
    FirstToken,
    Gap,
    ManualEvent,
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
        return not (assembler._runs or assembler._traces or assembler._builders or assembler._cut_off_turns)


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
    assert len(program.turns) == 1
    assert program.is_empty()


def test_a_cancelled_run_that_never_ends_delays_its_turn_only_for_a_while():
    program = Program()
    root = program.start(inputs="hi")
    model = program.model(root)
    program.fail(root, CANCELLED)
    assert program.turns == []
    program.items += program.assembler.tick(program.now + WAIT_NS // 2)
    assert program.turns == []
    program.items += program.assembler.tick(program.now + WAIT_NS + 1)
    (turn,) = program.turns
    assert turn.status == "aborted"
    assert program.abandoned == [model]
    assert program.is_empty()


def test_finish_cut_off_does_not_wait_for_runs_that_were_cut_off():
    program = Program()
    root = program.start(inputs="hi")
    program.model(root)
    program.fail(root, CANCELLED)
    program.items += program.assembler.finish_cut_off()
    assert [turn.status for turn in program.turns] == ["aborted"]


def test_finish_cut_off_keeps_turns_whose_root_is_running():
    program = Program()
    program.start(inputs="hi")
    assert program.assembler.finish_cut_off() == []
    assert program.assembler.open_turns == 1


def test_the_end_of_a_run_whose_turn_was_returned_is_ignored():
    program = Program()
    root = program.start(inputs="hi")
    model = program.model(root)
    program.fail(root, CANCELLED)
    program.items += program.assembler.finish_cut_off()
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


def test_a_root_that_starts_with_an_ended_id_is_a_new_turn() -> None:
    program = Program()
    for _ in range(3):
        root = UUID(int=7)
        program.feed(RunStarted(root, None, "chain", "chain", program.at(), "hi", (), {}))
        program.feed(RunStarted(root, None, "chain", "chain", program.at(), "hi", (), {}))
        program.end(root)
        program.end(root)
    assert [turn.run_id for turn in program.turns] == [str(root), f"{root}:2", f"{root}:3"]
    assert [turn.messages[0].id for turn in program.turns] == [f"{turn.run_id}:user" for turn in program.turns]
    assert program.is_empty()


def test_a_root_that_starts_again_while_runs_of_the_first_turn_are_open_is_a_new_turn() -> None:
    program = Program()
    root = program.start(inputs="hi")
    model = program.model(root)
    program.fail(root, CANCELLED)
    program.feed(RunStarted(root, None, "chain", "chain", program.at(), "hi", (), {}))
    program.end(root, "Hello.")
    program.answer(model, "too late")
    assert [(turn.run_id, turn.status) for turn in program.turns] == [
        (str(root), "aborted"),
        (f"{root}:2", "completed"),
    ]
    assert program.abandoned == [model]
    assert program.is_empty()


def test_a_turn_that_was_cut_off_is_returned_when_the_next_turn_of_its_conversation_begins() -> None:
    program = Program()

    def start(**ids: str) -> UUID:
        run = UUID(int=program.now)
        program.feed(RunStarted(run, None, "chain", "chain", program.at(), "hi", (), ids))
        return run

    cut_off = start(conversation_id="cut-off")
    program.model(cut_off)
    program.fail(cut_off, CANCELLED)
    other = start(conversation_id="d")
    assert program.turns == []
    # The id may be known only when a run below the next root has started.
    following = start()
    assert program.turns == []
    below = UUID(int=99)
    found = {"conversation_id": "cut-off"}
    program.feed(RunStarted(below, following, "chain", "chain", program.at(), configurable=found))
    assert [turn.run_id for turn in program.turns] == [str(cut_off)]
    for run in (below, following, other):
        program.end(run)
    assert program.is_empty()


def test_what_a_model_streams_after_its_root_was_cut_off_is_not_the_answer() -> None:
    program = Program()
    root = program.start(inputs="hi")
    model = program.model(root)
    pieces = ["Hel"]
    program.feed(FirstToken(model, program.at(), pieces))
    program.feed(RunFailed(root, program.at(), CANCELLED, streamed={model.int: 1}))
    pieces.append("lo.")
    program.answer(model, "Hello.")
    (turn,) = program.turns
    assert turn.status == "aborted"
    assert turn.answer is not None
    assert turn.answer.text == "Hel"


def test_a_rating_inside_a_run_is_returned_after_its_turn() -> None:
    program = Program()
    root = program.start(inputs="hi")
    program.feed(ManualEvent(Action("ratings", {"rating": 1.0}), None, root, {"thread_id": "c", "user_id": "u"}))
    assert program.items == []
    program.end(root)
    turn, action = program.items
    assert (turn.conversation.id, turn.conversation.user_id) == ("c", "u")
    assert action.body == {"rating": 1.0, "external_conversation_id": "c"}


def test_a_rating_inside_a_turn_that_is_lost_in_a_gap_is_returned() -> None:
    program = Program()
    root = program.start(inputs="hi")
    program.feed(ManualEvent(Action("ratings", {"rating": 1.0}), None, root, {"thread_id": "c"}))
    program.feed(Gap(1))
    (action,) = program.items
    assert action.body == {"rating": 1.0, "external_conversation_id": "c"}


@pytest.mark.parametrize("offset", [0, 1, -SECOND, 1_700_000_000 * SECOND])
def test_a_given_offset_is_added_to_the_times_of_records(offset: int):
    run = UUID(int=1)
    assembler = Assembler(load(local=False, conversation_id="c"), offset_ns=offset)
    started, ended = RunStarted(run, None, "chain", "chain", 5 * SECOND, "hi"), RunEnded(run, 6 * SECOND, "Hello.")
    records: Any = [started, ended]
    for deliver in (assembler.feed, lambda records: assembler.advance(iter(records))):
        (turn,) = deliver(records)
        assert isinstance(turn, Turn)
        assert turn.answer is not None
        assert turn.answer.at_ns == 6 * SECOND + offset


@pytest.mark.parametrize(
    "message", [{"role": "user", "content": "hi"}, {"type": "human", "content": "hi"}, ["user", "hi"]]
)
def test_a_turn_is_returned_in_whatever_form_a_model_reports_its_messages(message: Any):
    program = Program(conversation_id=None)
    step = program.start(kind="step", inputs="hi")
    program.answer(program.start(step, "model", ModelCall((), (message,), 1)), "Hello.")
    program.end(step, "Hello.")
    (turn,) = program.turns
    assert [asked.text for asked in turn.messages] == ["hi"]
    assert turn.answer is not None
    assert turn.answer.text == "Hello."
