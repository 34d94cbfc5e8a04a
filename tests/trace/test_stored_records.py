"""Every record survives being stored and read by another process; damaged ones are refused."""

from __future__ import annotations

import random
import uuid
from typing import Any

import pytest

from gati.events import Action, Event, LLMCallEvent, Prompt, PromptComponent, Usage
from gati.trace.deferred_media import DeferredMedia, describe_all
from gati.trace.record_codec import RUN as RUN_POSITION
from gati.trace.record_codec import head_of, key_at, pack_record
from gati.trace.records import (
    FirstToken,
    Gap,
    HistoryRead,
    ManualEvent,
    Message,
    ModelCall,
    ObjectName,
    Record,
    RepeatedMessages,
    RunEnded,
    RunStarted,
    Scope,
)
from gati.trace.stored_records import StreamedText, left_out, restored, run_key, run_number, stored, stored_text
from tests.trace.test_record_codec import RECORDS

RUN = uuid.uuid4()
EVENTS: list[Record] = [
    ManualEvent(
        Event(event_type="kind", data={"a": [1]}, tags=["x"]), Scope("c", "u", None, {"k": ObjectName("<a.B>")}), RUN
    ),
    ManualEvent(LLMCallEvent(usage=Usage(1, 2), structured_prompt=Prompt("a", components=[PromptComponent("b")]))),
    ManualEvent(Action("ratings", {"rating": 3}), None, RUN, {"thread_id": "c"}),
    FirstToken(RUN, 1, ["a", "b"]),
]


@pytest.mark.parametrize("record", [*RECORDS, *EVENTS], ids=lambda record: type(record).__name__)
def test_a_record_comes_back_as_it_was_stored(record: Any) -> None:
    found = restored(stored(pack_record(record)), 0)
    expected = None if type(record) is HistoryRead else record
    assert (type(found), repr(found)) == (type(expected), repr(expected))


@pytest.mark.parametrize("record", [*RECORDS, *EVENTS], ids=lambda record: type(record).__name__)
def test_the_run_of_a_stored_record_is_found_without_unpacking_it(record: Any) -> None:
    run = getattr(record, "run_id", None)
    key = run_key(stored(pack_record(record)))
    assert key == (b"" if run is None else key_at(head_of(record), RUN_POSITION))
    assert run is None or run_number(key) == run.int


def test_times_are_those_of_the_clock_of_the_reading_process() -> None:
    found = restored(stored(pack_record(RunEnded(RUN, 5, "x"))), -7)
    assert found == RunEnded(RUN, -2, "x")


def test_hashes_of_another_process_are_left_out() -> None:
    call = ModelCall((), (Message("human", "Hi"),), 3, None, RepeatedMessages("id", hash("text"), (1, 2)))
    found = restored(stored(pack_record(RunStarted(RUN, None, "model", "m", 1, call))), 0)
    assert isinstance(found, RunStarted)
    assert found.inputs == call._replace(repeats=RepeatedMessages("id", None, (1, 2)))


def test_the_objects_of_a_record_come_back() -> None:
    media, known = DeferredMedia("y" * 5_000), DeferredMedia("z" * 5_000)
    prompt = Prompt("Be kind.", variables={"a": "b"})
    known.describe()
    inputs = {"pictures": [media, known], "m": Message("human", "Hi")}
    packed = pack_record(RunStarted(RUN, None, "chain", "c", 1, inputs, scope=Scope("c", system_prompt=prompt)))
    found = restored(stored(packed), 0)
    describe_all()
    assert isinstance(found, RunStarted)
    assert found.scope == Scope("c", system_prompt=prompt)
    assert found.inputs["m"] == Message("human", "Hi")
    assert found.inputs["pictures"] == [{"mime": "application/octet-stream", "bytes": 5_000}, dict(known)]


def test_streamed_text_comes_back() -> None:
    text = StreamedText(RUN.int, 3, ["a", "b"])
    assert restored(stored_text(text), 0) == text


def test_what_is_left_out_names_its_run() -> None:
    record = pack_record(RunEnded(RUN, 1, "x" * 10_000))
    assert len(left_out(stored(record))) < 200
    assert run_key(left_out(stored(record))) == run_key(stored(record))
    assert restored(left_out(stored(record)), 0) is None
    assert restored(stored(Gap(1)), 0) is None


def test_damaged_records_raise_nothing_but_value_errors() -> None:
    rng = random.Random(20)
    wholes = [stored(pack_record(record)) for record in [*RECORDS, *EVENTS]]
    for _ in range(4_000):
        data = bytearray(rng.choice(wholes))
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.choice([*b"OMTXS(", 0, 255, rng.randrange(256)])
        try:
            restored(bytes(data[: rng.randrange(1, len(data) + 1)]), 0)
            run_key(bytes(data))
        except ValueError:
            pass
