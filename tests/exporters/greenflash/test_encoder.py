from __future__ import annotations

import json
from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gati import events as ev
from gati.exporters.base import Request
from gati.exporters.greenflash.encoder import GreenflashEncoder, shorten_message, to_wire_names
from tests.exporters.turns import (
    PRODUCT,
    ROOT,
    agent_turn,
    answer,
    llm,
    messages,
    ms,
    node,
    run_id,
    settings,
    tool,
    turn,
    user_text,
)  # fmt: skip


def encode(*items: ev.Item, **options: Any) -> list[Request]:
    return GreenflashEncoder(settings(**options)).encode(items)


def prompts(requests: list[Request]) -> list[Any]:
    return [request.body.get("system_prompt") for request in requests]


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


def test_batch_size_is_limited_to_what_greenflash_accepts():
    wide = turn(*[tool(n, at=n) for n in range(100, 200)])
    assert [request.items for request in encode(wide, batch_size=10_000)] == [100, 100, 4]


def test_batch_size_limits_messages_per_request():
    assert [request.items for request in encode(agent_turn(), batch_size=5)] == [5, 5, 2]


def test_requests_stay_below_max_request_bytes():
    big = turn(*[tool(n, at=n, output={"output": "x" * 4000}) for n in range(100, 200)])
    requests = encode(big, max_request_bytes=20_000)
    assert all(len(orjson.dumps(to_wire_names(request.body))) <= 20_000 for request in requests)
    assert len(messages(requests)) == 204


@pytest.mark.parametrize("text", ["\x01" * 40_000, '"' * 40_000, "ü" * 40_000, "😀" * 40_000])
def test_escaped_texts_stay_below_max_request_bytes(text: str):
    big = turn(
        tool(3, output={"a": text, "b": text}, input={"c": text}),
        messages=[user_text(text)],
        answer=answer(text),
        context=text,
    )
    requests = encode(big, max_request_bytes=50_000)
    assert all(len(orjson.dumps(to_wire_names(request.body))) <= 50_000 for request in requests)
    assert len(messages(requests)) == 6


@pytest.mark.parametrize("letter", ["x", "😀"])
@pytest.mark.parametrize("who", ["program", "person"])
def test_requests_are_filled_in_order(who: str, letter: str):
    text = {"text": letter * 4000}
    steps = [ev.StepEvent(event_id=run_id(n), input=text, output=text, started_ns=ms(n)) for n in range(100, 130)]
    texts = [ev.ChatMessage(f"history:{n}", "user", letter * 4000, ms(n)) for n in range(30)]
    result = turn(*steps) if who == "program" else turn(messages=texts)
    requests = encode(result, max_request_bytes=20_000)
    assert all(len(orjson.dumps(to_wire_names(request.body))) in range(13_000, 20_001) for request in requests[:-1])


@pytest.mark.parametrize("text", ["x", '"', "\x01"])
def test_long_prompt_leaves_space_for_messages(text: str):
    requests = encode(
        turn(llm(3, system_prompt=text * 60_000), messages=[user_text(text * 5000)]), max_request_bytes=50_000
    )
    assert all(len(orjson.dumps(to_wire_names(request.body))) <= 50_000 for request in requests)
    assert [request.body["system_prompt"][:6000] for request in requests] == [text * 6000] * len(requests)
    assert len(messages(requests)) == 5


def test_request_one_byte_above_the_limit_is_truncated():
    call = ev.LLMCallEvent(run_id=ROOT, system_prompt="\x01" * 1000, completion="\x01" * 1000, started_ns=ms(1))
    (whole,) = encode(call)
    size = len(orjson.dumps(whole.body))
    assert encode(call, max_request_bytes=size)[0].body == whole.body
    (short,) = encode(call, max_request_bytes=size - 1)
    assert len(orjson.dumps(short.body)) < size
    assert "1000 bytes in all" in messages([short])[0]["output"]["text"]


def test_huge_message_is_truncated_with_its_original_size():
    (request,) = encode(turn(messages=[user_text("x" * 5_000_000)]))
    assert request.body["messages"][0]["content"].endswith("… [shortened by gati, 5000000 bytes in all]")


def test_truncated_message_keeps_its_ids():
    message = {"externalMessageId": "m" * 40, "messageType": "llm", "output": {"text": "x" * 9000}}
    short = shorten_message(message, 500)
    assert len(orjson.dumps(short)) <= 500
    assert short["externalMessageId"] == "m" * 40
    assert "9000 bytes in all" in short["output"]["text"]


def test_messages_with_different_prompts_go_into_separate_requests():
    requests = encode(
        turn(
            llm(3, at=1, system_prompt="You route.", completion="writer", internal=True),
            node(4, "writer", 2, 200),
            llm(5, run_id(4), 201, system_prompt="You write.", completion="12", is_answer=True),
            llm(6, at=400, system_prompt="You route.", completion="done", internal=True),
        )
    )
    assert prompts(requests) == ["You write.", "You route."]
    kinds = [[message["messageType"] for message in request.body["messages"]] for request in requests]
    assert kinds == [["user_message", "chain_start", "task", "llm", "final_response", "chain_end"], ["llm", "llm"]]


def test_user_visible_messages_have_the_prompt_of_the_answering_call():
    requests = encode(
        turn(
            llm(3, at=1, system_prompt="You route.", completion="writer", internal=True),
            llm(5, at=201, system_prompt="You write.", completion="12", is_answer=True),
            llm(6, at=400, system_prompt="You name chats.", completion="Roots", internal=True),
        )
    )
    assert prompts(requests) == ["You write.", "You route.", "You name chats."]
    kinds = [message["messageType"] for message in requests[0].body["messages"]]
    assert kinds == ["user_message", "chain_start", "llm", "assistant_message", "chain_end"]


def test_parents_precede_children_with_any_prompts():
    requests = encode(
        turn(
            llm(3, at=1, system_prompt="A", tool_requests=[{"name": "agent"}]),
            tool(4, at=100),
            ev.StepEvent(
                event_id=run_id(5), parent_event_id=run_id(4), step_name="sub", workflow=True, started_ns=ms(101)
            ),
            llm(6, run_id(5), 102, system_prompt="B", completion="x", internal=True),
            tool(7, run_id(6), 103),
            llm(8, run_id(7), 104, system_prompt="A", completion="12", is_answer=True),
            llm(9, at=300, system_prompt="B", completion="y"),
        )
    )
    known: set[str] = set()
    for message in messages(requests):
        assert message.get("parentExternalMessageId") in {*known, None}
        known.add(message["externalMessageId"])
    assert len(known) == 13
    assert prompts(requests) == ["A", "B", "A"]


def test_explicit_prompt_applies_to_every_call():
    explicit = turn(llm(3, system_prompt="A"), llm(4, at=20, system_prompt="B"))
    explicit.conversation.prompt = ev.Prompt("", external_id="tutor")
    (request,) = encode(explicit)
    assert request.body["system_prompt"] == {"externalPromptId": "tutor"}


def test_turn_without_prompt_inherits_that_of_the_previous_turn():
    encoder = GreenflashEncoder(settings())
    encoder.encode([turn(llm(3, system_prompt="A", is_answer=True))])
    assert prompts(encoder.encode([turn(root=run_id(50))])) == ["A"]
    assert prompts(encoder.encode([turn(llm(4, is_answer=True), root=run_id(51))])) == ["A"]


def test_answer_of_a_call_without_prompt_does_not_inherit_one():
    encoder = GreenflashEncoder(settings())
    encoder.encode([turn(llm(3, system_prompt="A", is_answer=True))])
    requests = encoder.encode(
        [turn(llm(4, system_prompt="R", internal=True), llm(5, at=200, is_answer=True), root=run_id(50))]
    )
    assert prompts(requests) == [None, "R"]
    assert "assistant_message" in kinds(requests)[0]


def test_hundreds_of_prompts_in_one_turn_are_all_sent():
    calls = [llm(n, at=n, system_prompt=f"It is {n} o'clock.") for n in range(100, 500)]
    requests = encode(turn(*calls))
    assert set(prompts(requests)) == {f"It is {n} o'clock." for n in range(100, 500)}


def test_request_splits_down_to_one_message():
    encoder = GreenflashEncoder(settings())
    requests = encoder.encode([agent_turn()])
    whole = messages(requests)
    for _ in range(4):
        requests = [half for request in requests for half in encoder.split(request) or (request,)]
    assert [request.items for request in requests] == [1] * 12
    assert messages(requests) == whole
    assert encoder.split(requests[0]) is None


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


def kinds(requests: list[Request]) -> list[list[str]]:
    return [[message["messageType"] for message in request.body["messages"]] for request in requests]


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        # The answer has no prompt if the call that produced it had none.
        ([("A", "internal"), (None, "answer")], {None: "answer", "A": "internal"}),
        ([(None, "answer"), ("A", "internal")], {None: "answer", "A": "internal"}),
        ([(None, "answer"), ("A", "plain")], {None: "answer", "A": "plain"}),
        # Otherwise it has the prompt of the call that produced it.
        ([("A", "answer"), ("B", "plain")], {"A": "answer", "B": "plain"}),
        ([("A", "plain"), ("B", "answer")], {"B": "answer", "A": "plain"}),
        ([("A", "answer"), ("B", "answer")], {"B": "answer", "A": "answer"}),
        # If that is unknown, it has the prompt of the latest call that may have produced it.
        ([("A", "plain"), ("B", "plain")], {"B": "answer", "A": "plain"}),
        ([("A", "plain"), ("B", "internal")], {"A": "answer", "B": "internal"}),
        # It never has the prompt of an internal call, such as a router's.
        ([("A", "internal"), ("B", "internal")], {None: "answer", "A": "internal", "B": "internal"}),
        ([("A", "internal"), (None, "plain")], {None: "answer", "A": "internal"}),
    ],
)
def test_prompt_of_the_answer(calls: list[tuple[str | None, str]], expected: dict[str | None, str]):
    calls_made = [
        llm(
            n, at=n, system_prompt=prompt or "", completion="x", is_answer=role == "answer", internal=role == "internal"
        )
        for n, (prompt, role) in enumerate(calls, 3)
    ]
    requests = encode(turn(*calls_made))
    assert prompts(requests) == list(expected)
    assert "assistant_message" in kinds(requests)[0]
    assert kinds(requests)[1:] == [["llm"]] * (len(expected) - 1)


def test_explicit_prompt_takes_precedence_over_calls():
    explicit = turn(llm(3, system_prompt="A", is_answer=True), llm(4, at=20, structured_prompt=ev.Prompt("B", "b")))
    explicit.conversation.prompt = ev.Prompt("E")
    (request,) = encode(explicit)
    assert request.body["system_prompt"] == "E"
    second = messages([request])[3]
    assert (second["messageType"], second["properties"]["prompt_id"]) == ("llm", "b")


def test_call_without_prompt_has_the_explicit_one():
    explicit = turn(llm(3, is_answer=True))
    explicit.conversation.prompt = ev.Prompt("E", "e")
    (request,) = encode(explicit)
    assert messages([request])[2]["properties"]["prompt_id"] == "e"


def test_capture_content_false_sends_no_prompt_and_one_request():
    explicit = turn(llm(3, system_prompt="A", internal=True), llm(4, at=20, system_prompt="B", is_answer=True))
    encoder = GreenflashEncoder(settings(capture_content=False))
    assert prompts(encoder.encode([explicit])) == [None]
    assert prompts(encoder.encode([turn(root=run_id(50))])) == [None]


def test_children_of_a_call_have_its_prompt():
    requests = encode(
        turn(
            llm(3, at=1, system_prompt="A", internal=True, reasoning="Hm."),
            llm(4, at=200, system_prompt="B", is_answer=True),
            llm(5, run_id(3), at=300),
        )
    )
    assert prompts(requests) == ["B", "A"]
    assert kinds(requests)[1] == ["llm", "thought", "llm"]


def test_children_of_an_earlier_part_have_the_prompt_of_the_answer():
    whole = turn(
        llm(3, at=1, system_prompt="A", internal=True),
        tool(4, at=150),
        llm(5, at=200, system_prompt="B", is_answer=True),
    )
    encoder = GreenflashEncoder(settings())
    encoder.encode([ev.Turn(ROOT, whole.conversation, messages=whole.messages, events=whole.events[:1], partial=True)])
    requests = encoder.encode([ev.Turn(ROOT, whole.conversation, events=whole.events[1:4], partial=True)])
    assert dict(zip(prompts(requests), kinds(requests), strict=True)) == {
        "A": ["llm"],
        "B": ["tool_call", "observation", "llm"],
    }


def test_manual_call_does_not_change_the_conversations_prompt():
    encoder = GreenflashEncoder(settings())
    encoder.encode([turn(llm(3, system_prompt="A", is_answer=True))])
    made = ev.LLMCallEvent(run_id=ROOT, system_prompt="H", completion="x")
    assert prompts(encoder.encode([made])) == ["H"]
    assert prompts(encoder.encode([turn(root=run_id(50))])) == ["A"]


def test_turns_stay_in_order_across_prompts():
    def short(number: int, *called: ev.Event) -> ev.Turn:
        return turn(llm(number, system_prompt="A", is_answer=True), *called, root=run_id(number + 1))

    requests = encode(short(100), short(110, llm(115, at=9, system_prompt="B", internal=True)), short(120))
    assert [request.turn_id for request in requests] == [run_id(101), run_id(111), run_id(111), run_id(121)]
    assert prompts(requests) == ["A", "A", "B", "A"]
    times = [message["createdAt"] for request in requests[:2] for message in request.body["messages"]]
    assert times == sorted(set(times))


def test_no_turn_joins_after_one_with_several_requests():
    wide = turn(*[tool(n, at=n) for n in range(100, 150)])
    assert [request.items for request in encode(wide, turn(root=run_id(9)))] == [100, 4, 4]


def test_turn_that_fills_a_request_exactly():
    fits = turn(*[tool(n, at=n) for n in range(100, 148)])
    assert [request.items for request in encode(fits)] == [100]
    pair = turn(root=run_id(9)), fits
    assert [request.items for request in encode(*pair)] == [4, 100]


def test_turns_share_a_request_up_to_the_limit():
    first, second = turn(*[tool(n, at=n) for n in range(100, 146)]), turn(root=run_id(9))
    assert [request.items for request in encode(first, second)] == [100]
    assert [request.items for request in encode(first, second, batch_size=99)] == [96, 4]


def test_joined_turns_stay_below_max_request_bytes():
    turns = [turn(root=run_id(100 + n), messages=[user_text("x" * 2000, run_id(100 + n))]) for n in range(30)]
    requests = encode(*turns, max_request_bytes=20_000)
    assert all(len(orjson.dumps(to_wire_names(request.body))) <= 20_000 for request in requests)
    assert len(messages(requests)) == 120
    assert all(request.items % 4 == 0 for request in requests)
    assert len(encode(*turns)) == 2  # of 100 messages and of 20


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


def test_action_is_never_split():
    encoder = GreenflashEncoder(settings())
    (request,) = encoder.encode([ev.Action("users", {"external_user_id": "u", "properties": {}})])
    assert encoder.split(request) is None
    request.body["messages"] = [{}, {}]
    assert encoder.split(request) is None


def test_halves_keep_ordering_key_and_turn_id():
    encoder = GreenflashEncoder(settings())
    (request,) = encoder.encode([turn()])
    halves = encoder.split(request)
    assert halves is not None
    assert [(half.ordering_key, half.turn_id, half.items, half.endpoint) for half in halves] == [
        ("c-1", ROOT, 2, "messages")
    ] * 2
    assert {**halves[0].body, "messages": 0} == {**request.body, "messages": 0}


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


def test_a_managed_prompt_is_a_reference_unless_the_destination_does_not_have_it():
    version = "6f1d2c3b-4a59-4e68-8d7c-0b1a2f3e4d5c"
    prompt = ev.Prompt("Be kind", external_id="tutor", managed=ev.ManagedVersion(version))
    given = turn(llm(3, structured_prompt=prompt, is_answer=True))
    assert version in str(prompts(encode(given)))
    assert "Be kind" not in str(prompts(encode(given)))
    copies = GreenflashEncoder(settings(), prompt_references=False).encode([given])
    assert version not in str(prompts(copies))
    assert "Be kind" in str(prompts(copies))


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


@pytest.mark.parametrize("name", ["content", "context", "input", "output", "properties"])
def test_large_fields_are_truncated(name: str):
    short = shorten_message({"externalMessageId": "m", name: "x" * 9000}, 500)
    assert len(orjson.dumps(short)) <= 500
    assert "9000 bytes in all" in short[name]


def test_shorten_message_returns_fitting_messages_unchanged():
    message = {"externalMessageId": "m" * 400, "output": {"text": "x" * 50}}
    assert shorten_message(message, len(orjson.dumps(message))) is message
    assert shorten_message(message, 100)["externalMessageId"] == "m" * 400


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
