from __future__ import annotations

import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gati import events as ev
from gati.exporters.greenflash.encoder import GreenflashEncoder
from tests.exporters.turns import (  # fmt: skip
    PRODUCT,
    ROOT,
    agent_turn,
    answer,
    encode,
    llm,
    messages,
    ms,
    run_id,
    settings,
    tool,
    turn,
    user_text,
)


def test_body_has_the_sdks_arguments():
    (request,) = encode(agent_turn(), sample_rate=0.5, force_sample=True, environment="production")
    assert {k: v for k, v in request.body.items() if k != "messages"} == {
        "external_user_id": "u-7",
        "external_conversation_id": "c-1",
        "product_id": PRODUCT,
        "model": "gpt-4o",
        "properties": {"agent_name": "tutor", "environment": "production"},
        "sample_rate": 0.5,
        "force_sample": True,
    }
    assert (request.ordering_key, request.turn_id, request.endpoint) == ("c-1", ROOT, "messages")


def test_times_strictly_increase_across_turns():
    encoder = GreenflashEncoder(settings())
    first, second = agent_turn(), agent_turn(root=run_id(90), messages=[user_text("And of 4?", run_id(90))])
    result = messages(encoder.encode([first])) + messages(encoder.encode([second]))
    times = [message["createdAt"] for message in result]
    assert times == sorted(set(times))
    assert times[0] == "2027-01-15T08:00:00.000Z"
    assert times[1] == "2027-01-15T08:00:00.001Z"  # chain_start, at the same moment


def test_impossible_times_are_tolerated():
    result = messages(encode(turn(llm(3, at=-(10**15)), ended=10**16)))
    times = [message["createdAt"] for message in result]
    assert times == sorted(times)


def test_turns_of_a_conversation_share_a_request():
    turns = [agent_turn(root=run_id(100 + n), messages=[user_text("Hi", run_id(100 + n))]) for n in range(5)]
    (request,) = encode(*turns)
    assert request.items == 60
    assert request.turn_id == run_id(100)


def test_turns_of_different_conversations_do_not_share_a_request():
    turns = [agent_turn(root=run_id(100 + n), conversation=f"c-{n}") for n in range(3)]
    assert [request.ordering_key for request in encode(*turns)] == ["c-0", "c-1", "c-2"]


@pytest.mark.parametrize(
    ("target", "name", "value"),
    [
        ("conversation", "user_id", "u-8"),
        ("conversation", "organization_id", "o-8"),
        ("conversation", "properties", {"plan": "pro"}),
        ("turn", "agent_name", "another"),
        ("turn", "model", "another"),
    ],
)
def test_turns_with_different_request_fields_do_not_share_a_request(target: str, name: str, value: Any):
    first, other = agent_turn(root=run_id(100)), agent_turn(root=run_id(101))
    setattr(other.conversation if target == "conversation" else other, name, value)
    assert len(encode(first, other)) == 2
    setattr(first.conversation if target == "conversation" else first, name, value)
    assert len(encode(first, other)) == 1


def test_request_contains_whole_turns_or_a_part_of_one():
    turns = [agent_turn(root=run_id(100 + n)) for n in range(20)]
    requests = encode(*turns)
    assert [request.items for request in requests] == [96, 96, 48]
    wide = turn(*[tool(n, at=n) for n in range(100, 200)])
    assert [request.items for request in encode(wide)] == [100, 100, 4]
    assert {request.turn_id for request in encode(wide)} == {ROOT}


def test_manual_event_joins_its_conversation():
    encoder = GreenflashEncoder(settings())
    turn_ = agent_turn()
    turn_.conversation.properties = {"plan": "pro"}
    encoder.encode([turn_])
    event = ev.ToolCallEvent(run_id=ROOT, parent_event_id=run_id(4), tool_name="mail", user_id="anonymous")
    (request,) = encoder.encode([event])
    assert request.ordering_key == "c-1"
    assert request.body["external_user_id"] == "u-7"
    assert request.body["properties"]["plan"] == "pro"
    call, result = messages([request])
    assert (call["messageType"], call["parentExternalMessageId"]) == ("tool_call", run_id(4))
    assert (result["messageType"], result["parentExternalMessageId"]) == ("observation", event.event_id)


def test_unknown_parent_id_is_kept_as_property():
    (message,) = messages(encode(ev.Event(event_type="checkout", parent_event_id="elsewhere", conversation_id="c-9")))
    assert "parentExternalMessageId" not in message
    assert message["properties"]["parent_id"] == "elsewhere"


def test_event_without_conversation_gets_a_new_one():
    event = ev.Event(event_type="checkout", data={"cart": 3})
    (request,) = encode(event)
    assert request.ordering_key == event.event_id
    assert request.body["external_user_id"] == "anonymous"
    assert messages([request])[0]["output"] == {"name": "checkout", "data": {"cart": 3}}


def test_caches_are_bounded():
    encoder = GreenflashEncoder(settings())
    for n in range(12_000):
        root = run_id(n)
        encoder.encode([turn(llm(n + 50_000, root, system_prompt=str(n)), root=root, conversation=root)])
    remembered = [encoder._memories, encoder._context.message_ids, encoder._conversations, encoder._prompts._by_key]
    assert [len(each) <= bound for each, bound in zip(remembered, (4096, 16_384, 4096, 256), strict=True)] == [True] * 4


_texts = st.text(st.characters(exclude_categories=()), max_size=20)


_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | _texts | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts | st.integers(), inner, max_size=4),
    max_leaves=10,
)


_objects = st.dictionaries(_texts, _values, max_size=4)


@given(_texts, _objects, _objects, _values)
def test_any_input_gives_valid_messages(text: str, explicit: dict[str, Any], output: dict[str, Any], odd: Any):
    event = {"tags": [text], "error_type": text, "error_message": text, "started_ns": ms(1)}
    requests = encode(
        turn(
            tool(3, tool_name=text, input=explicit, output=odd, tool_call_id=text, **event),
            llm(4, model=text, completion=text, new_messages=[output], system_prompt=text, reasoning=text, **event),
            ev.CustomEvent(event_id=text or "x", name=text, payload=output, **event),
            ev.StepEvent(step_name=text, input=odd, output=odd, **event),
            ev.RetrievalEvent(query=text, documents=[explicit], **event),
            messages=[user_text(text)],
            answer=answer(text),
            context=text,
        ),
        ev.Event(event_type=text or "x", data=output, conversation_id=text or None, parent_event_id=text, user_id=text),
    )
    json.dumps([request.body for request in requests], allow_nan=False, ensure_ascii=False).encode()
    assert len(messages(requests)) >= 11


def test_turns_of_different_organizations_do_not_share_a_request():
    inside = agent_turn()
    inside.conversation.organization_id = "o-1"
    first, second = encode(inside, agent_turn(root=run_id(90)))
    assert first.body["external_organization_id"] == "o-1"
    assert "external_organization_id" not in second.body


def test_unset_options_are_not_sent():
    anonymous = turn(agent_name="")
    anonymous.conversation.user_id = ""
    (request,) = encode(anonymous, product_id=None, environment=None)
    assert {k: v for k, v in request.body.items() if k != "messages"} == {
        "external_user_id": "anonymous",
        "external_conversation_id": "c-1",
        "properties": {"agent_name": "tutor"},
    }
    (request,) = encode(turn(agent_name="writer"), force_sample=False, sample_rate=0.0)
    assert request.body["properties"] == {"agent_name": "writer"}
    assert (request.body["force_sample"], request.body["sample_rate"]) == (False, 0.0)


def test_turn_without_messages_gives_no_request():
    assert encode(ev.MemoryEvent(), detail="conversation") == []


def manual_event(**fields: Any) -> ev.Event:
    return ev.Event(**{"event_type": "checkout", "event_id": "e-1", **fields})


@pytest.mark.parametrize(
    ("fields", "options", "ordering_key"),
    [
        ({}, {}, "e-1"),
        ({"run_id": "r-1"}, {}, "r-1"),
        ({"run_id": "r-1", "conversation_id": "r-1"}, {"conversation_id": "c-init"}, "c-init"),
        ({"conversation_id": "c-2"}, {"conversation_id": "c-init"}, "c-2"),
        ({}, {"conversation_id": "c-init"}, "c-init"),
        ({"run_id": ROOT}, {"conversation_id": "c-init"}, "c-1"),  # the run is known
        ({"run_id": ROOT, "conversation_id": "c-2"}, {}, "c-2"),
    ],
)
def test_conversation_of_a_manual_event(fields: dict[str, Any], options: dict[str, Any], ordering_key: str):
    encoder = GreenflashEncoder(settings(**options))
    encoder.encode([agent_turn()])
    (request,) = encoder.encode([manual_event(**fields)])
    assert request.ordering_key == ordering_key
    assert request.turn_id == (fields.get("run_id") or "e-1")


def test_participants_of_a_manual_event():
    options = {"user_id": "u-init", "organization_id": "o-init", "properties": {"plan": "free"}}

    def participants(encoder: GreenflashEncoder, **fields: Any) -> tuple[Any, ...]:
        (request,) = encoder.encode([manual_event(conversation_id="c-1", **fields)])
        return tuple(request.body.get(name) for name in ("external_user_id", "external_organization_id", "properties"))

    init = {"plan": "free", "agent_name": "tutor"}
    assert participants(GreenflashEncoder(settings()), user_id="anonymous") == (
        "anonymous",
        None,
        {"agent_name": "tutor"},
    )
    assert participants(GreenflashEncoder(settings(**options))) == ("u-init", "o-init", init)
    assert participants(GreenflashEncoder(settings(**options)), user_id="bob", organization_id="o-2") == (
        "bob",
        "o-2",
        init,
    )
    encoder = GreenflashEncoder(settings(**options))
    known = agent_turn()
    known.conversation.organization_id, known.conversation.properties = "o-7", {"plan": "pro"}
    encoder.encode([known])
    assert participants(encoder) == ("u-7", "o-7", {"plan": "pro", "agent_name": "tutor"})
    assert participants(encoder, user_id="bob", agent_name="mine")[::2] == (
        "bob",
        {"plan": "pro", "agent_name": "mine"},
    )
    assert participants(encoder)[0] == "u-7"


def test_the_product_of_a_manual_event():
    def product(encoder: GreenflashEncoder, **fields: Any) -> Any:
        (request,) = encoder.encode([manual_event(conversation_id="c-1", **fields)])
        return request.body.get("product_id")

    own, other = "0b9f1c5e-7a44-4c63-9f0e-5f2b1f7c3a10", "1c9f1c5e-7a44-4c63-9f0e-5f2b1f7c3a11"
    encoder = GreenflashEncoder(settings())
    assert product(encoder) == PRODUCT
    known = agent_turn()
    known.conversation.product_id = own
    encoder.encode([known])
    assert product(encoder) == own
    assert product(encoder, product_id=other) == other


def test_a_lone_surrogate_among_the_users_values_does_not_lose_the_turn():
    (call,) = [
        message
        for message in messages(encode(turn(llm(3, parameters={"stop": ["\ud800 end"]}))))
        if message["messageType"] == "llm"
    ]
    assert "end" in str(call["properties"])


def test_after_an_exception_no_turn_joins_a_request_that_nobody_received():
    encoder = GreenflashEncoder(settings())
    with pytest.raises(AttributeError):
        encoder.encode([agent_turn(), cast(Any, None)])
    (request,) = encoder.encode([agent_turn()])
    assert len(request.body["messages"]) == 12


def test_unfinished_turns_are_bounded():
    encoder = GreenflashEncoder(settings())
    for n in range(5000):
        part = agent_turn(root=run_id(n), partial=True)
        part.events.pop()
        encoder.encode([part])
    assert len(encoder._context.open_agents) <= 4096


def test_times_across_seconds():
    result = messages(encode(turn(tool(3, at=999), llm(4, at=1000), tool(5, at=61_000), ended=61_500)))
    assert [m["createdAt"][17:] for m in result if m["messageType"] in ("tool_call", "llm")] == [
        "00.999Z", "01.000Z", "01.000Z",
    ]  # fmt: skip
    assert result[-1]["createdAt"] == "2027-01-15T08:01:01.500Z"


def test_the_server_does_not_sample_what_the_program_has_sampled() -> None:
    (request,) = encode(turn(agent_name="writer"), sample_rate=0.5)
    assert (request.body["force_sample"], request.body["sample_rate"]) == (True, 0.5)
    (request,) = encode(turn(agent_name="writer"))
    assert not {"force_sample", "sample_rate"} & request.body.keys()
