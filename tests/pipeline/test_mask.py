"""The mask on typed turns: what it sees, what it does not see, and what happens when it fails."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as settings_
from hypothesis import strategies as st

from gati import contract, events
from gati.events import (
    Action,
    AgentEndEvent,
    AgentStartEvent,
    ChatMessage,
    Conversation,
    CustomEvent,
    EmbeddingEvent,
    Event,
    LLMCallEvent,
    MemoryEvent,
    NodeExecutionEvent,
    Prompt,
    PromptComponent,
    RetrievalEvent,
    StepEvent,
    ToolCallEvent,
    Turn,
    Usage,
)
from gati.exporters.events_encoder import EventsEncoder
from gati.exporters.greenflash.encoder import GreenflashEncoder
from gati.limits import cut_text
from gati.pipeline import internal_errors
from gati.pipeline.mask import MARKER, Masking
from gati.settings import Mask, load

SHA = "12345678" * 8
RUN = str(uuid.UUID(int=12345678901234567890))


def upper(text: str, path: str, kind: str) -> str:
    return text.upper()


def masked(item: Any, mask: Mask = upper) -> Any:
    return Masking(mask).item(item)


def example_turn() -> Turn:
    """A turn that uses every class of event, with text in every field that may hold one."""
    prompt = Prompt(
        "You help ada.",
        "shop/agent",
        [PromptComponent("You help {{who}}. Be {{how}}!", "base")],
        {"who": "ada", "how": "kind"},
    )
    described: dict[str, Any] = {"run_id": RUN, "agent_name": "shop", "run_name": "LangGraph", "tags": ["vip"]}
    return Turn(
        RUN,
        Conversation("c-12345678", "u-12345678", "o-1", {"plan": "free", "PLAN": "paid"}, prompt),
        "LangGraph",
        "shop",
        messages=[
            ChatMessage(
                f"{RUN}:user", "user", "hello", 1,
                properties={"attachments": [{"type": "image", "image_url": {"url": "http://x"}}], "status": "resumed"},
            )
        ],
        events=[
            AgentStartEvent(event_id=RUN, name="LangGraph", input={"city": "oslo"}, metadata={"who": "ada", "environment": "prod"}, **described),
            LLMCallEvent(
                event_id="m1", model="gpt-4o", provider="openai", prompt="hello", system_prompt="You help ada.", completion="hi",
                finish_reason="tool_calls", usage=Usage(1, 2, raw={"prompt_tokens": 1}), tools=["find"], reasoning="hm",
                tool_requests=[{"id": "call_12345678", "name": "find", "args": {"city": "oslo"}}],
                new_messages=[{"role": "human", "content": [{"type": "text", "text": "old"}]}],
                parameters={"model": "gpt-4o", "temperature": 0.5, "stop": ["end"]}, structured_prompt=prompt, **described,
            ),
            ToolCallEvent(
                event_id="t1", tool_name="find", input={"city": "oslo"},
                output={"output": {"picture": {"mime": "image/png", "bytes": 3, "sha256": SHA}}},
                tool_call_id="call_12345678", requested_by="m1", **described,
            ),
            ToolCallEvent(event_id="t2", tool_name="find", status="error", error_type="ValueError", error_message="no ada", **described),
            NodeExecutionEvent(event_id="n1", node_name="answer", state_after={"note": "x"}, **described),
            StepEvent(event_id="s1", step_name="inner", name="inner", workflow=True, **described),
            StepEvent(event_id="s2", step_name="rank ada", name="rank ada", input={"input": "x"}, **described),
            RetrievalEvent(event_id="r1", query="q", documents=[{"text": "d", "metadata": {"page": "a"}, "score": 0.5}], **described),
            EmbeddingEvent(event_id="e1", input={"texts": ["a"]}, output={"vectors": 1, "dimensions": 3}, **described),
            MemoryEvent(event_id="y1", write=True, input={"namespace": ["ada"], "key": "k", "value": {"v": "x"}}, **described),
            CustomEvent(event_id="c1", name="progress", payload={"name": "progress", "data": {"step": "one"}}, **described),
            CustomEvent(
                event_id=f"{RUN}:interrupt:0", name="interrupt",
                payload={"name": "interrupt", "data": {"value": {"ask": "ok"}, "id": "0123456789abcdef" * 2}}, **described,
            ),
            AgentEndEvent(event_id=f"{RUN}:end", output={"output": "bye"}, tokens_in=1, **described),
        ],
        answer=ChatMessage(f"{RUN}:answer", "assistant", "bye", 2, RUN),
        context="d",
        model="gpt-4o",
    )  # fmt: skip


def strings(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every string of an encoded value with its path; keys are part of the path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from strings(item, f"{path}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from strings(item, path)


def test_texts_and_the_users_keys_are_masked() -> None:
    turn = masked(example_turn())
    start, call, tool, failed, node, _, step, found, *_ = turn.events
    assert turn.messages[0].text == "HELLO"
    assert turn.answer.text == "BYE"
    assert turn.context == "D"
    assert turn.messages[0].properties["attachments"] == [{"type": "image", "image_url": {"url": "HTTP://X"}}]
    assert start.input == {"CITY": "OSLO"}
    assert start.metadata == {"WHO": "ADA", "environment": "prod"}
    assert call.tool_requests[0]["args"] == {"CITY": "OSLO"}
    assert call.new_messages == [{"role": "human", "content": [{"type": "text", "text": "OLD"}]}]
    assert call.parameters == {"model": "gpt-4o", "temperature": 0.5, "stop": ["END"]}
    assert tool.input == {"CITY": "OSLO"}
    assert failed.error_message == "NO ADA"
    assert node.state_after == {"NOTE": "X"}
    assert step.step_name == "RANK ADA"
    assert found.documents == [{"text": "D", "metadata": {"PAGE": "A"}, "score": 0.5}]
    assert {tag for event in turn.events for tag in event.tags} == {"VIP"}


def test_ids_names_enumerations_and_hashes_are_not_shown_to_the_mask() -> None:
    turn, before = masked(example_turn()), example_turn()
    kept = {name for name, known in contract.EVENT_FIELDS.items() if known.kind != contract.Kind.TEXT} - {
        "name",
        "step_name",
    }
    for event, original in zip(turn.events, before.events, strict=True):
        for item in fields(event):
            if item.name in kept and item.name != "timestamp":
                assert getattr(event, item.name) == getattr(original, item.name), item.name
    assert turn.events[2].output["output"]["PICTURE"]["sha256"] == SHA
    assert turn.events[11].payload["data"] == {"value": {"ASK": "OK"}, "id": "0123456789abcdef" * 2}
    assert (turn.conversation.id, turn.conversation.user_id) == ("c-12345678", "u-12345678")
    assert [event.name for event in turn.events] == [
        event.name if event.name != "rank ada" else "RANK ADA" for event in before.events
    ]


def test_two_keys_that_become_equal_stay_apart() -> None:
    assert masked(example_turn()).conversation.properties == {"PLAN": "FREE", "PLAN~2": "PAID"}


def test_a_masked_key_never_replaces_a_key_of_gati() -> None:
    event = EmbeddingEvent(input={"texts": ["a"], "ada": "b"}, output={})
    assert masked(event, lambda text, path, kind: "texts").input == {"texts": ["texts"], "texts~2": "texts"}


def test_variables_of_a_prompt_keep_their_marks_and_names() -> None:
    prompt = masked(example_turn()).conversation.prompt
    assert prompt.components[0].content == "YOU HELP {{who}}. BE {{how}}!"
    assert prompt.variables == {"who": "ADA", "how": "KIND"}
    assert (prompt.external_id, prompt.components[0].name) == ("shop/agent", "base")


def test_the_turn_itself_is_not_changed() -> None:
    turn = example_turn()
    before = repr(turn)
    masked(turn)
    assert repr(turn) == before


def test_a_payload_made_by_hand_is_the_users_own() -> None:
    assert masked(CustomEvent(name="note", payload={"name": "ada"})).payload == {"NAME": "ADA"}
    data = {"id": "ada@example.org"}
    assert masked(CustomEvent(name="note", payload={"name": "note", "data": data})).payload["data"] == {
        "id": "ADA@EXAMPLE.ORG"
    }


def test_a_field_of_a_users_subclass_is_masked() -> None:
    from dataclasses import dataclass

    @dataclass(slots=True, kw_only=True)
    class Refund(Event):
        reason: str = ""

    assert masked(Refund(reason="angry")).reason == "ANGRY"


def test_a_text_where_a_number_belongs_is_masked() -> None:
    event = ToolCallEvent(tool_name="find")
    event.latency_ms = "ada"  # type: ignore[assignment]  # events made by hand hold anything
    assert masked(event).latency_ms == "ADA"


def test_actions_take_the_same_path() -> None:
    user = Action("users", {"external_user_id": "u-1", "name": "ada", "email": "a@b", "properties": {"plan": "free"}})
    assert masked(user).body == {
        "external_user_id": "u-1", "name": "ADA", "email": "A@B", "properties": {"PLAN": "FREE"},
    }  # fmt: skip
    rating = Action("ratings", {"rating": 1.0, "external_conversation_id": "c-1", "feedback": "good"})
    assert masked(rating).body == {"rating": 1.0, "external_conversation_id": "c-1", "feedback": "GOOD"}
    sold = Action("events", {"event_type": "upgrade", "value": "149.00 eur", "value_type": "currency"})
    assert masked(sold).body == sold.body
    said = Action("events", {"event_type": "note", "value": "from ada", "value_type": "text"})
    assert masked(said).body["value"] == "FROM ADA"


def test_the_mask_receives_the_path_and_the_message_type() -> None:
    seen: dict[tuple[str, str], str] = {}

    def mask(text: str, path: str, kind: str) -> str:
        seen[kind, path] = text
        return text

    masked(example_turn(), mask)
    expected = {
        ("user_message", "text"), ("user_message", "properties.attachments.0.image_url.url"), ("assistant_message", "text"),
        ("assistant_message", "context"), ("chain_start", "input.city"), ("chain_start", "metadata.who"), ("llm", "prompt"),
        ("llm", "tool_requests.0.args.city"), ("llm", "new_messages.0.content.0.text"), ("llm", "tags.0"),
        ("tool_call", "input.city"), ("tool_call", "error_message"), ("task", "state_after.note"), ("task", "step_name"),
        ("retrieval", "documents.0.metadata.page"), ("callback", "payload.data.step"), ("memory_write", "input.value.v"),
        ("conversation", "properties.plan"), ("system_prompt", "components.0.content"), ("system_prompt", "variables.who"),
    }  # fmt: skip
    assert expected - seen.keys() == set()
    # The path of a key is that of the object that holds it.
    assert ("chain_start", "input") in seen


@pytest.fixture
def production(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contain internal errors instead of raising them."""
    monkeypatch.setattr(internal_errors, "RAISE", False)


@pytest.mark.parametrize("result", [None, 7, b"bytes"])
def test_a_mask_that_returns_no_text_drops_the_text(result: Any, production: None) -> None:
    masking = Masking(lambda text, path, kind: result)
    event: Any = masking.item(RetrievalEvent(query="q"))
    assert event.query == MARKER
    assert masking.failures == 1


@pytest.mark.parametrize("error", [ValueError, RecursionError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_mask_that_raises_drops_the_text(error: type[BaseException], production: None) -> None:
    def mask(text: str, path: str, kind: str) -> str:
        raise error(text)

    masking = Masking(mask)
    event: Any = masking.item(ToolCallEvent(tool_name="find", input={"city": "oslo"}))
    assert event.input == {MARKER: MARKER}
    assert event.tool_name == "find"
    assert masking.failures == 2


# -- Properties ------------------------------------------------------------------------------------

_TEXT = st.text(st.characters(codec="ascii", min_codepoint=32), max_size=12)
_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=8,
)
_OBJECT = st.dictionaries(_TEXT, _VALUE, max_size=4)


def raising(error: type[BaseException]) -> Mask:
    def mask(text: str, path: str, kind: str) -> str:
        raise error

    return mask


MASKS: dict[str, Mask] = {
    "upper": upper,
    "blank": lambda text, path, kind: "",
    "digits": lambda text, path, kind: re.sub(r"\d{8,}", "[number]", text),
    "none": lambda text, path, kind: None,  # type: ignore[dict-item,return-value]  # a mask that forgot to return
    "raise": raising(ValueError),
    "exit": raising(SystemExit),
}


def structure(value: Any) -> Any:
    """Everything of an encoded message that no mask may change: ids, types, names, numbers, gati's keys."""
    message = dict(value)
    kind = message["messageType"]
    known = contract.MESSAGE_TYPES[kind]
    properties = message.get("properties") or {}
    exempt = {"name"} if kind == "task" else set()
    return {
        **{key: message.get(key) for key in ("externalMessageId", "messageType", "parentExternalMessageId", "toolName", "model")},
        "properties": {
            name: item if contract.PROPERTIES[name].kind is not contract.Kind.TEXT and name not in exempt else None
            for name, item in properties.items()
            if name != "prompt_version"
        },
        "input": sorted(message.get("input") or ()) if known.input is not None else None,
        # A text that is empty after masking needs no key.
        "output": sorted(set(message.get("output") or ()) - {"text"}) if known.output is not None else None,
    }  # fmt: skip


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.usefixtures("production")
@settings_(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_=_OBJECT, result=_OBJECT, text=_TEXT)
def test_no_mask_changes_ids_names_numbers_or_keys_of_gati(name: str, given_: Any, result: Any, text: str) -> None:
    turn = example_turn()
    turn.messages[0].text = text or "x"
    tool = turn.events[2]
    assert isinstance(tool, ToolCallEvent)
    tool.input, tool.output = given_, {"output": result}
    settings = load(local=False, api_key="gf_test")
    plain = GreenflashEncoder(settings).encode([turn])
    changed = GreenflashEncoder(settings).encode([masked(turn, MASKS[name])])
    messages = [
        # An empty thought is no message.
        [structure(m) for request in requests for m in request.body["messages"] if m["messageType"] != "thought"]
        for requests in (plain, changed)
    ]
    assert messages[0] == messages[1]
    for request in changed:
        for message in request.body["messages"]:
            assert contract.unknown_keys(message) == []
    envelopes = [
        [e["event_id"] for request in EventsEncoder(settings).encode([t]) for e in request.body["events"]]
        for t in (turn, masked(turn, MASKS[name]))
    ]
    assert envelopes[0] == envelopes[1]


@given(given_=_OBJECT, properties=_OBJECT, tags=st.lists(_TEXT, max_size=2), text=_TEXT)
def test_a_blanking_mask_leaves_no_text_of_the_user(given_: Any, properties: Any, tags: list[str], text: str) -> None:
    secret = "s3cret-" + uuid.uuid4().hex

    def poison(value: Any) -> Any:
        if isinstance(value, str):
            return value + secret
        if isinstance(value, dict):
            return {key + secret: poison(item) for key, item in value.items()}
        return [poison(item) for item in value] if isinstance(value, list) else value

    turn = example_turn()
    turn.conversation.properties = poison(properties)
    turn.messages[0].text = text + secret
    for event in turn.events:
        event.tags, event.data, event.error_message = poison(tags), poison(given_), secret
        for name in ("input", "output", "state_after", "metadata", "payload"):
            if hasattr(event, name):
                setattr(event, name, poison(given_))
    encoded = GreenflashEncoder(load(local=False)).encode([masked(turn, lambda text, path, kind: "")])
    assert secret not in repr([request.body for request in encoded])


def test_every_field_of_an_event_is_in_the_contract() -> None:
    classes = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)]
    assert {item.name for kind in classes for item in fields(kind)} - contract.EVENT_FIELDS.keys() == set()
    assert {kind.kind for kind in classes} == set(contract.MESSAGE_TYPE_OF_EVENT)


def test_the_mask_sees_a_shortened_text_without_its_marker() -> None:
    seen = []

    def mask(text: str, path: str, kind: str) -> str:
        seen.append(text)
        return "***"

    turn = example_turn()
    turn.messages[0].text = cut_text("my secret " * 1000, 100, whole_hash=True)
    assert masked(turn, mask).messages[0].text == "***… [shortened by gati, 10000 bytes in all]"
    assert not any("gati" in text for text in seen)
