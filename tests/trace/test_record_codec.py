"""Records survive being packed, and wait as one object that the garbage collector does not track."""

from __future__ import annotations

import gc
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gati.events import Event, Prompt
from gati.langchain.snapshot import take_snapshot
from gati.trace.deferred_media import DeferredMedia
from gati.trace.record_codec import RecordWithObjects, pack_record, unpack_record
from gati.trace.records import (
    Custom,
    ErrorInfo,
    FirstToken,
    Gap,
    GraphState,
    HistoryRead,
    ManualEvent,
    Message,
    ModelCall,
    ModelResult,
    ObjectName,
    Record,
    RepeatedHistory,
    RunEnded,
    RunFailed,
    RunStarted,
    Scope,
    Template,
    TemplateText,
)

RUN, PARENT = uuid.uuid4(), uuid.uuid4()
CALL = {"name": "t", "args": {"rows": [1, [2.5, None]]}, "id": "c"}
ANSWER = Message(
    "ai", [{"type": "text", "text": "Hi"}], "a", "n", (CALL,), (CALL,), "c", "ok", {"x": [1]}, {"n": 1}, {}
)
NESTED: dict[str, Any] = {
    "messages": [ANSWER, Message("human", "Hi \ud800 \0 ü")],
    "object": ObjectName("<a.B>"),
    "deep": [[{"m": ANSWER}]],
    "numbers": [2**100, -1, float("inf"), True, b"raw"],
}
TEXTS = ((TemplateText("Be {how}", "f-string"), TemplateText("x", "literal")), ())
RECORDS: list[Record] = [
    RunStarted(RUN, None, "chain", "c", 1, NESTED, ("tag",), {"k": 1, "o": ObjectName("<a.B>")}, {"state": [ANSWER]}),
    RunStarted(RUN, PARENT, "model", "m", 1, ModelCall(("system", ANSWER), (ANSWER,), 3, {"tools": ["t"]})),
    RunStarted(
        RUN, PARENT, "prompt", "p", 1, {"how": "x"}, (), None, Template(TEXTS, ("how",), {"a": 1}, "n", "h", TEXTS)
    ),
    RunStarted(
        RUN, None, "tool", "t", 1, "text", scope=Scope("c", "u", None, {"p": ObjectName("<a.B>")}), configurable={}
    ),
    RunEnded(RUN, 2, ModelResult((ANSWER,), {"model_name": "m"}), NESTED),
    RunEnded(RUN, 2, ANSWER),
    RunEnded(RUN, 2),
    RunFailed(RUN, 2, ErrorInfo("E", "text", "interrupt", [{"value": ANSWER}]), ModelResult((ANSWER,)), None, {1: 2}),
    Custom(RUN, "name", 3, NESTED),
    GraphState(None, "interrupted", 3, "a|b", ({"value": "x"},), "interrupt_before"),
    HistoryRead(RUN, RepeatedHistory(("human", "ai"), (1, -(2**62)), True, "a")),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_comes_out_as_it_was_packed(record: Record) -> None:
    packed = pack_record(record)
    assert type(packed) is bytes
    assert not gc.is_tracked(packed)
    found = unpack_record(packed)
    assert (type(found), found) == (type(record), record)
    assert repr(found) == repr(record)


def test_objects_without_a_packed_form_are_kept_beside_the_bytes() -> None:
    media, prompt = DeferredMedia("y" * 5_000), Prompt("Be kind.")
    record = RunStarted(RUN, None, "chain", "c", 1, {"picture": [media]}, scope=Scope("c", system_prompt=prompt))
    packed = pack_record(record)
    assert isinstance(packed, RecordWithObjects)
    assert packed.size > 5_000
    found = unpack_record(packed)
    assert isinstance(found, RunStarted)
    assert found.inputs["picture"][0] is media
    assert found.scope is not None
    assert found.scope.system_prompt is prompt


def test_a_text_of_a_subclass_becomes_a_plain_text_without_calling_its_methods() -> None:
    class Text(str):
        def __str__(self) -> str:
            raise AssertionError

        __repr__ = __len__ = __iter__ = __str__  # type: ignore[assignment]  # other signatures

    found = unpack_record(pack_record(RunStarted(RUN, None, "chain", Text("name"), 1, Text("input"))))
    assert isinstance(found, RunStarted)
    assert (found.name, found.inputs) == ("name", "input")
    assert type(found.name) is type(found.inputs) is str


@pytest.mark.parametrize("record", [FirstToken(RUN, 1, []), ManualEvent(Event()), Gap(1)])
def test_records_that_hold_live_objects_are_not_packed(record: Record) -> None:
    assert pack_record(record) is record
    assert unpack_record(record) is record


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.builds(object),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(VALUES)
def test_every_snapshot_survives(value: Any) -> None:
    snapshot = take_snapshot(value)
    record = RunEnded(RUN, 1, snapshot, [snapshot])
    assert unpack_record(pack_record(record)) == record
