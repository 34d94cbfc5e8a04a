"""Sizes of requests: `batch_size`, `max_request_bytes`, truncation and splitting."""

from __future__ import annotations

import orjson
import pytest

from gati import events as ev
from gati.exporters.greenflash.encoder import GreenflashEncoder, shorten_message, to_wire_names
from tests.exporters.turns import (  # fmt: skip
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


def test_request_splits_down_to_one_message():
    encoder = GreenflashEncoder(settings())
    requests = encoder.encode([agent_turn()])
    whole = messages(requests)
    for _ in range(4):
        requests = [half for request in requests for half in encoder.split(request) or (request,)]
    assert [request.items for request in requests] == [1] * 12
    assert messages(requests) == whole
    assert encoder.split(requests[0]) is None


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


@pytest.mark.parametrize("name", ["content", "context", "input", "output", "properties"])
def test_large_fields_are_truncated(name: str):
    short = shorten_message({"externalMessageId": "m", name: "x" * 9000}, 500)
    assert len(orjson.dumps(short)) <= 500
    assert "9000 bytes in all" in short[name]


def test_shorten_message_returns_fitting_messages_unchanged():
    message = {"externalMessageId": "m" * 400, "output": {"text": "x" * 50}}
    assert shorten_message(message, len(orjson.dumps(message))) is message
    assert shorten_message(message, 100)["externalMessageId"] == "m" * 400
