"""Any value that a program may use, on its way from a callback to a request.

The program's objects must stay unchanged, no user code may run, later changes must not be recorded, and requests must be
valid and bounded.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import copy
import dataclasses
import enum
import hashlib
import json
import math
import sys
import threading
import types
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, NamedTuple, TypedDict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel, ConfigDict

from gati import observe
from gati.exporters.sanitize import bounded_json
from gati.langchain.message_snapshot import snapshot_message, snapshot_tool_message
from gati.langchain.snapshot import BUDGET, DEPTH, error_info, take_snapshot
from gati.testing import ScriptedChatModel
from gati.trace.deferred_media import describe_all
from gati.trace.records import Message, ObjectName
from tests.servers import LocalServer

# -- unusual objects ------------------------------------------------------------------------------


class Touched(Exception):
    """User code ran."""


def refuse(*_: object, **__: object) -> Any:
    raise Touched


class Hostile:
    """Raises on any access, like a database proxy, a closed session or a lazy object."""

    __repr__ = __str__ = __len__ = __iter__ = __bool__ = __eq__ = __getattr__ = __call__ = __reduce_ex__ = refuse
    __hash__ = object.__hash__

    @property
    def __class__(self) -> Any:
        raise Touched

    @property
    def content(self) -> str:
        raise Touched


class HostileDict(dict[str, Any]):
    __iter__ = __len__ = keys = items = values = __getitem__ = get = copy = __repr__ = refuse


class HostileList(list[Any]):
    __iter__ = __len__ = __getitem__ = __repr__ = copy = refuse


class HostileText(str):
    __slots__ = ()
    __str__ = __repr__ = __len__ = __format__ = refuse


class HostileNumber(int):
    __str__ = __repr__ = __int__ = __index__ = refuse


@dataclasses.dataclass
class HostileField:
    """A dataclass with a field that was replaced by a property."""

    kept: int = 1
    computed: int = dataclasses.field(default=2, init=False)


HostileField.computed = property(refuse)


class OpenModel(BaseModel):
    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    kept: Any = None

    @property
    def computed(self) -> str:
        raise Touched


class Point(NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass
class Plain:
    inner: Any


@dataclasses.dataclass(slots=True)
class Slotted:
    inner: Any


class Colour(enum.Enum):
    RED = "red"


def numbers() -> Iterator[int]:
    yield from range(3)


HOSTILE = [
    Hostile, HostileDict, lambda: HostileDict(a=1), HostileList, lambda: HostileList([1]), lambda: HostileText("text"),
    lambda: HostileNumber(7), HostileField, lambda: OpenModel(kept=1, more=2),
]  # fmt: skip
STRANGE = [
    *HOSTILE, threading.Lock, threading.RLock, threading.local, numbers, lambda: iter([1]), object, lambda: math.nan,
    lambda: math.inf, lambda: 10**400, lambda: "\ud800", lambda: "a\0b", lambda: b"\xff" * 1_000, lambda: bytearray(b"x"),
    lambda: memoryview(b"x"), lambda: np.arange(3), lambda: np.float64("nan"), lambda: np.int64(3), lambda: np.array(2.5),
    lambda: np.datetime64("2026-01-01"), uuid.uuid4, lambda: datetime.now(UTC), lambda: Decimal("NaN"),
    lambda: PurePosixPath("a/b"), lambda: Colour.RED, lambda: Colour, lambda: ValueError("x"), lambda: refuse, lambda: len,
    lambda: types.SimpleNamespace(a=1), lambda: collections.deque([1, 2]), lambda: {3, 4}, lambda: frozenset({5}),
    lambda: collections.OrderedDict(a=1), lambda: collections.defaultdict(list), lambda: Ellipsis, lambda: 1 + 2j,
    lambda: range(5), lambda: "é" * 10_000, lambda: HumanMessage("hello"),
    lambda: ToolMessage("done", tool_call_id="c", artifact={"lock": threading.Lock()}),
]  # fmt: skip

# Hypothesis inspects its examples, which some of these objects do not allow, so it generates their factories.
Make = Callable[[], Any]
LEAF: st.SearchStrategy[Make] = st.sampled_from(STRANGE) | (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
).map(lambda value: lambda: value)
KEY = (
    st.text(max_size=8)
    | st.integers()
    | st.none()
    | st.tuples(st.integers(), st.text(max_size=3))
    | st.floats()
    | st.binary(max_size=3)
)
AROUND: list[Callable[[Any], Any]] = [
    lambda value: (value, value),
    lambda value: Point(value, 1),
    Plain,
    Slotted,
    lambda value: OpenModel(kept=value),
    lambda value: OpenModel(more=value),
    lambda value: ToolMessage("x", tool_call_id="c", artifact=value),
    lambda value: AIMessage("x", additional_kwargs={"more": value}),
]
ANYTHING: st.SearchStrategy[Make] = st.recursive(
    LEAF,
    lambda inner: (
        st.lists(inner, max_size=5).map(lambda makers: lambda: [make() for make in makers])
        | st.dictionaries(KEY, inner, max_size=5).map(lambda made: lambda: {key: make() for key, make in made.items()})
        | st.tuples(st.sampled_from(AROUND), inner).map(lambda pair: lambda: pair[0](pair[1]()))
    ),
    max_leaves=12,
)


def values(value: Any) -> Iterator[Any]:
    """Yield every value in a snapshot."""
    yield value
    if type(value) is dict:
        for key, item in value.items():
            yield key
            yield from values(item)
    elif type(value) in {list, tuple, Message}:
        for item in value:
            yield from values(item)


PLAIN_TYPES = {str, ObjectName, int, float, bool, type(None), bytes, dict, list, tuple, Message}


def depth_of(value: Any) -> int:
    inner = value.values() if type(value) is dict else value if type(value) in {list, tuple, Message} else ()
    return 1 + max((depth_of(item) for item in inner), default=0)


# -- one snapshot -------------------------------------------------------------------------


@given(ANYTHING)
def test_a_snapshot_contains_only_plain_values_and_serializes_to_json(make: Make):
    frozen = take_snapshot(make())
    assert {type(inner) for inner in values(frozen)} <= PLAIN_TYPES
    json.dumps(bounded_json(frozen, 100_000)[0], allow_nan=False).encode()


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_no_user_code_runs(number: int):
    calls: list[str] = []
    value = HOSTILE[number]()

    def watch(frame: types.FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename == __file__:
            calls.append(frame.f_code.co_name)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        frozen = take_snapshot({"value": value})
    finally:
        sys.setprofile(before)
    assert calls == []
    assert {type(inner) for inner in values(frozen)} <= PLAIN_TYPES


def test_unusual_containers_keep_their_contents():
    assert take_snapshot(HostileDict(a=HostileList([HostileText("text"), HostileNumber(7)]))) == {"a": ["text", 7]}
    assert take_snapshot([HostileField(), OpenModel(kept=1, more=2)]) == [{"kept": 1}, {"kept": 1, "more": 2}]
    assert take_snapshot([Point(1, 2), Plain(3), Slotted(4), Colour.RED]) == [
        {"x": 1, "y": 2},
        {"inner": 3},
        {"inner": 4},
        "red",
    ]
    assert take_snapshot([np.float64(1.5), np.int64(3), np.array(2)]) == [1.5, 3, 2]
    assert take_snapshot([Hostile(), np.arange(3)]) == [f"<{__name__}.Hostile>", "<numpy.ndarray>"]


def test_a_generator_is_not_read():
    stream, lines = numbers(), iter(["a"])
    take_snapshot({"stream": stream, "lines": [lines]})
    assert list(stream) == [0, 1, 2]
    assert next(lines) == "a"


COPIABLE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4) | inner.map(Plain)
    ),
    max_leaves=12,
)


def spoil(value: Any) -> None:
    """Change everything that can be changed, as a program may do later."""
    if isinstance(value, list):
        for item in value:
            spoil(item)
        value.append("edited")
    elif isinstance(value, dict):
        for item in value.values():
            spoil(item)
        value["edited"] = True
    elif isinstance(value, Plain):
        spoil(value.inner)
        value.inner = "edited"


@given(COPIABLE)
def test_user_objects_are_unchanged_and_later_changes_are_not_recorded(value: Any):
    before = copy.deepcopy(value)
    frozen = take_snapshot(value)
    assert value == before
    first = copy.deepcopy(frozen)
    spoil(value)
    assert frozen == first


def test_later_changes_of_a_message_are_not_recorded():
    call = {"name": "add", "args": {"numbers": [1, 2]}, "id": "c", "type": "tool_call"}
    content: Any = [{"type": "text", "text": "hello"}]
    original = AIMessage(content, tool_calls=[call], additional_kwargs={"reasoning": {"summary": ["a"]}})
    kept = snapshot_message(original)
    first = copy.deepcopy(kept)
    original.tool_calls[0]["args"]["numbers"].append(3)
    original.tool_calls[0]["name"] = "subtract"
    original.content[0]["text"] = "bye"
    original.additional_kwargs["reasoning"]["summary"].clear()
    assert kept == first


# -- bounds -------------------------------------------------------------------------------


def test_every_kind_of_cycle_terminates():
    loop: list[Any] = []
    loop.append(loop)
    table: dict[str, Any] = {}
    table["self"] = table
    node = Plain(None)
    node.inner = [node]
    model = OpenModel()
    model.kept = {"back": model}
    assert take_snapshot(loop) == ["…"]
    assert take_snapshot(table) == {"self": "…"}
    assert take_snapshot(node) == {"inner": ["…"]}
    assert take_snapshot(model) == {"kept": {"back": "…"}}


@pytest.mark.parametrize("count", [1, 3, 50])
def test_messages_that_contain_each_other_share_one_budget(count: int):
    # A tool that returns the state as its artifact: each message contains the list of all messages.
    history: list[BaseMessage] = [ToolMessage("x", tool_call_id=str(i)) for i in range(count)]
    for item in history:
        item.artifact = {"messages": history}
    assert sum(1 for _ in values(take_snapshot(history))) < 20 * BUDGET
    assert sum(1 for _ in values(snapshot_message(history[0]))) < 20 * BUDGET


@given(st.integers(0, 5), st.sampled_from([10, 100, 10_000]))
def test_depth_is_bounded(kind: int, depth: int):
    deep: Any = "bottom"
    for _ in range(depth):
        deep = [
            [deep],
            {"k": deep},
            (deep,),
            Plain(deep),
            Slotted(deep),
            ToolMessage("x", tool_call_id="c", artifact=deep),
        ][kind]
    # A message adds several levels.
    assert depth_of(take_snapshot(deep)) <= 3 * DEPTH


@pytest.mark.parametrize(
    "huge",
    [
        list(range(300_000)),
        dict.fromkeys(range(300_000), 1),
        set(range(300_000)),
        collections.deque(range(300_000)),
        tuple([[1, 2, 3]] * 100_000),
        {str(i): {"rows": [[j] * 50 for j in range(50)]} for i in range(20)},
    ],
    ids=lambda huge: type(huge).__name__,
)
def test_a_huge_container_is_truncated_and_marked(huge: Any):
    frozen = take_snapshot(huge)
    found = list(values(frozen))
    assert len(found) <= 2 * BUDGET + 100
    assert any("more" in text and "…" in text for text in map(str, found)) or any(text == "…" for text in found)


def test_a_text_within_the_limit_is_shared_and_not_copied():
    text, raw = "x" * 60_000, b"x" * 60_000
    frozen = take_snapshot({"a": [text], "b": raw})
    assert frozen["a"][0] is text
    assert frozen["b"] is raw
    assert Message(*snapshot_message(HumanMessage(text))).content is text


LONG = "a word " * 100_000
WAYS: dict[str, Callable[[str], Any]] = {
    "a text": lambda text: take_snapshot(text),
    "a small dict": lambda text: take_snapshot({"a": text}),
    "a small list": lambda text: take_snapshot({"a": [text, 1]}),
    "a large dict": lambda text: take_snapshot({**{str(n): n for n in range(100)}, "a": text}),
    "a deep value": lambda text: take_snapshot({"a": [{"b": ({"c": text},)}]}),
    "a subclass": lambda text: take_snapshot([type("Text", (str,), {})(text)]),
    "a message": lambda text: snapshot_message(HumanMessage(text)),
    "an answer": lambda text: snapshot_message(AIMessage(text), result=True),
    "blocks": lambda text: snapshot_message(HumanMessage([{"type": "text", "text": text}])),
    "a tool's result": lambda text: snapshot_tool_message(ToolMessage(text, tool_call_id="c", artifact={"a": [text]})),
    "arguments": lambda text: snapshot_message(
        AIMessage("", tool_calls=[{"name": "t", "id": "c", "args": {"a": text}}])
    ),
    "metadata": lambda text: snapshot_message(AIMessage("", response_metadata={"a": text}), result=True),
    "an error": lambda text: error_info(ValueError(text)),
    "many texts": lambda text: take_snapshot([text] * 1_000),
    "many texts within the limit": lambda text: take_snapshot([text[:60_000]] * 1_000),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_long_text_is_cut_when_it_is_taken(way: str):
    frozen = WAYS[way](LONG)
    assert "shortened by gati" in str(frozen)
    assert len(str(frozen)) < 5 * 64 * 1024 + 300_000


def test_large_media_are_referenced_until_they_are_hashed():
    raw = bytes(range(256)) * 1000
    coded = base64.b64encode(raw).decode()
    blocks = [{"type": "image", "base64": coded}, {"image_url": {"url": f"data:image/png;base64,{coded}"}}, raw]
    frozen = take_snapshot(blocks)
    describe_all()
    sha256 = hashlib.sha256(raw).hexdigest()
    assert [frozen[0]["base64"]["sha256"], frozen[1]["image_url"]["url"]["sha256"], frozen[2]["sha256"]] == [sha256] * 3


def test_a_long_id_keeps_its_difference():
    one, other = (take_snapshot({"thread_id": "x" * 1_000_000 + end})["thread_id"] for end in "12")
    assert one != other
    assert len(one) == len(other) == 255


@given(st.sampled_from([*ToolMessage.model_fields, "tool_calls", "invalid_tool_calls"]), ANYTHING)
def test_a_message_field_may_contain_any_value(field: str, make: Make):
    odd = ToolMessage("x", tool_call_id="c")
    odd.__dict__[field] = make()
    assert {type(inner) for inner in values(snapshot_message(odd, result=True))} <= PLAIN_TYPES


# -- end to end ---------------------------------------------------------------------------

LIMIT = 4_096
PRODUCT = "7f3a9f0e-6f57-4b7e-9f5e-2f4d2a6f8f11"
FEW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture
def watched(greenflash: LocalServer) -> Iterator[LocalServer]:
    """A server that receives the records of this process; the test fails after an internal error."""
    observe.init(
        agent_name="zoo",
        api_key=greenflash.api_key,
        base_url=greenflash.url,
        product_id=PRODUCT,
        max_field_bytes=LIMIT,
        batch_size=50,
        conversation_id="zoo",
    )
    before = dict(observe.stats().faults)  # other tests of this process cause some
    yield greenflash
    assert observe.stats().faults == before


def delivered(server: LocalServer) -> list[dict[str, Any]]:
    """Flush and return all delivered messages; the server rejects invalid ones."""
    result = observe.flush(timeout=30.0)
    assert result, result
    sent = [one for body in server.bodies() for one in body["messages"]]
    assert sent
    for one in sent:
        # The limit applies to input, output, properties and content each; names and ids are bounded, too.
        assert len(json.dumps(one, allow_nan=False)) < 8 * LIMIT + 8_192
    return sent


def test_any_chain_input_and_output_is_delivered(watched: LocalServer):
    @FEW
    @given(ANYTHING)
    def run(make: Make) -> None:
        value = make()
        assert RunnableLambda(lambda given: given).invoke({"value": value})["value"] is value

    run()
    assert {one["messageType"] for one in delivered(watched)} >= {"chain_start", "chain_end"}


class State(TypedDict):
    question: str
    value: Any
    answer: str


def test_any_graph_state_is_delivered(watched: LocalServer):
    graph = StateGraph(State)
    graph.add_node("look", lambda state: {"answer": "seen", "value": state["value"]})
    graph.add_edge(START, "look")
    graph.add_edge("look", END)
    program = graph.compile()

    @FEW
    @given(ANYTHING)
    def run(make: Make) -> None:
        value = make()
        assert program.invoke({"question": "What is it?", "value": value, "answer": ""})["value"] is value

    run()
    assert {one["messageType"] for one in delivered(watched)} >= {"user_message", "task", "chain_end"}


def test_any_tool_result_is_delivered(watched: LocalServer):
    results: list[Any] = []

    @tool
    def fetch(name: str) -> Any:
        """Fetch something."""
        return results[-1]

    @FEW
    @given(ANYTHING)
    def run(make: Make) -> None:
        value = make()
        results.append(value)
        with contextlib.suppress(Touched):  # LangChain itself reads `__class__` of some of these objects
            assert fetch.invoke({"name": "\ud800 \0 name"}) is value

    run()
    assert {one["messageType"] for one in delivered(watched)} >= {"tool_call", "observation"}


def test_any_tool_exception_is_delivered(watched: LocalServer):
    class Failure(Exception):
        __str__ = __repr__ = refuse

    @tool
    def fail(text: str) -> str:
        """Fail."""
        raise Failure(Hostile()) if text == "hostile" else ValueError(text)

    for text in ("hostile", "x" * 5_000_000, "\ud800\0"):
        with pytest.raises((Failure, ValueError)):
            fail.invoke({"text": text})
    assert "tool_error" in {one["messageType"] for one in delivered(watched)}


def test_any_message_content_is_delivered(watched: LocalServer):
    @FEW
    @given(ANYTHING, st.text(min_size=1, max_size=20))
    def run(make: Make, text: str) -> None:
        value = make()
        answer = AIMessage(text, additional_kwargs={"odd": value}, response_metadata={"odd": value})
        question = HumanMessage(text, additional_kwargs={"odd": value})
        model = ScriptedChatModel(respond=lambda _: answer)
        assert model.invoke([SystemMessage(text), question], {"metadata": {"odd": value}}).content == text
        assert question.additional_kwargs["odd"] is value

    run()
    assert {one["messageType"] for one in delivered(watched)} >= {"user_message", "llm"}


def test_huge_texts_and_images_are_truncated(watched: LocalServer):
    picture = {"type": "image", "base64": "QUJD" * 1_300_000, "mime_type": "image/png"}
    question = HumanMessage([{"type": "text", "text": "é" * 5_000_000}, picture])
    model = ScriptedChatModel(replies=["ä" * 5_000_000])
    assert len(model.invoke([question]).content) == 5_000_000
    assert question.content[1]["base64"] == picture["base64"]
    sent = delivered(watched)
    texts = [one["content"] for one in sent if one.get("content")]
    assert len(texts) == 2
    assert all("10000000 bytes in all" in text for text in texts)
    assert "QUJDQUJD" not in json.dumps(sent)


def test_any_manual_event_is_delivered(watched: LocalServer):
    @FEW
    @given(ANYTHING)
    def run(make: Make) -> None:
        with observe.conversation("zoo", user_id="u", properties={"odd": make()}):
            RunnableLambda(len).invoke("four")

    run()
    delivered(watched)
