from __future__ import annotations

import json
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from gati import events as ev
from gati.exporters.base import Request
from gati.exporters.events_encoder import EventsEncoder
from gati.studio.api import events_api as rules
from tests.exporters.turns import ROOT, agent_turn, answer, llm, ms, run_id, settings, tool, turn, user_text


def encode(*items: ev.Item, **options: Any) -> list[Request]:
    return EventsEncoder(settings(**options)).encode(items)


def encoded_events(*items: ev.Item, **options: Any) -> list[dict[str, Any]]:
    result = []
    for request in encode(*items, **options):
        assert rules.find_event_errors(request.body) == []
        assert request.items == len(request.body["events"])
        result += request.body["events"]
    return result


def test_user_message_is_input_of_start_and_answer_is_output_of_end():
    first, *_, last = encoded_events(agent_turn())
    assert first["data"]["input"] == first["input"] == {"input": "What is the square root of 144?"}
    assert last["data"]["output"] == last["output"] == {"output": "The square root of 144 is 12."}
    assert last["data"]["total_cost"] == 0.002


def test_several_user_messages_are_also_listed():
    old = ev.ChatMessage("h:1", "user", "Hi", ms(-1), properties={"imported": True})
    first = encoded_events(turn(messages=[old, user_text("And now?")]))[0]
    assert first["input"] == {
        "input": "And now?",
        "messages": [{"role": "user", "content": "Hi"}, {"role": "user", "content": "And now?"}],
    }


def test_existing_input_key_is_kept():
    custom = agent_turn()
    custom.events[0].input = {"input": {"x": 1}}
    assert encoded_events(custom)[0]["input"] == {
        "input": {"x": 1},
        "messages": [{"role": "user", "content": "What is the square root of 144?"}],
    }


def test_events_form_a_tree_with_parents_first():
    known: set[str | None] = {None}
    for event in encoded_events(agent_turn()):
        assert event["parent_event_id"] in known
        known.add(event["event_id"])
    assert len(known) == 9


def test_bare_model_call_gets_a_start_and_an_end():
    bare = ev.Turn(
        ROOT, ev.Conversation("c-1", "u-7"), messages=[user_text("Hi")], answer=answer("Ho"), agentic=False, started_ns=ms(0),
        ended_ns=ms(9), events=[llm(1, None, event_id=ROOT, completion="Ho", tokens_in=3, cost=0.5)],
    )  # fmt: skip
    start, call, end = encoded_events(bare)
    assert (start["input"], end["output"]) == ({"input": "Hi"}, {"output": "Ho"})
    assert call["event_id"] == ROOT
    assert call["parent_event_id"] == end["parent_event_id"] == start["event_id"]
    assert (end["total_cost"], end["tokens_in"], end["model_calls"]) == (0.5, 3, 1)
    assert "tokens_out" not in end  # unknown


def test_tool_fields_have_both_names():
    data = encoded_events(turn(tool(3)))[1]["data"]
    assert data["tool_input"] == data["input"] == {"expression": "144**0.5"}
    assert data["tool_output"] == data["output"] == {"output": "12.0"}


def test_ids_are_short_and_stable():
    call = tool(3, event_id="call_0", tool_call_id="call_0")
    first, second = encoded_events(turn(call)), encoded_events(turn(call))
    assert [event["event_id"] for event in first] == [event["event_id"] for event in second]
    assert first[1]["event_id"] != encoded_events(turn(call, root=run_id(90)))[1]["event_id"]


def test_names_are_truncated_to_the_backends_limits():
    long = turn(tool(3), name="n" * 999, agent_name="a" * 999)
    long.events[1].event_type = "t" * 999
    event = encoded_events(long)[1]
    assert (len(event["event_type"]), len(event["agent_name"]) <= 255, len(event["run_name"]) <= 255) == (
        50,
        True,
        True,
    )


def test_manual_event_joins_its_run():
    encoder = EventsEncoder(settings())
    encoder.encode([agent_turn()])
    manual = ev.ToolCallEvent(run_id=ROOT, parent_event_id=run_id(4), tool_name="mail", agent_name="other")
    orphan = ev.Event(run_id=ROOT, parent_event_id="elsewhere", data={"status": "mine", "run_id": "x"})
    first, second = encoder.encode([manual, orphan])[0].body["events"]
    assert (first["run_id"], first["agent_name"], first["parent_event_id"]) == (ROOT, "tutor", run_id(4))
    assert (second["run_id"], second["parent_event_id"]) == (ROOT, ROOT)
    assert (second["data"]["parent_id"], second["data"]["status"]) == ("elsewhere", "mine")


def test_detail_conversation():
    result = encoded_events(agent_turn(), detail="conversation")
    assert [event["event_type"] for event in result] == ["agent_start", "tool_call", "agent_end"]
    assert result[1]["parent_event_id"] == ROOT


def test_capture_content_false_sends_no_content():
    secret = "s3cret"
    full = turn(
        tool(3, input={secret: secret}, output={"o": secret}, tags=[secret], metadata={"m": secret}, data={"d": secret}),
        llm(4, completion=secret, prompt=secret, system_prompt=secret, reasoning=secret, usage=ev.Usage(raw={"x": secret})),
        ev.RetrievalEvent(query=secret, documents=[{"text": secret}], error_message=secret, started_ns=ms(1)),
        ev.CustomEvent(payload={"x": secret}, started_ns=ms(1)),
        messages=[user_text(secret)],
        answer=answer(secret),
    )  # fmt: skip
    result = encoded_events(full, ev.Event(data={"d": secret}), capture_content=False)
    assert secret not in json.dumps(result)
    assert result[1]["data"]["tool_name"] == "calculator"
    assert result[2]["data"]["prompt"] == ""


def test_batches_stay_within_limits():
    big = turn(*[tool(n, at=n, output={"output": "x" * 2000}) for n in range(100, 200)])
    requests = encode(big, max_request_bytes=50_000)
    assert all(len(orjson.dumps(request.body)) <= 50_000 for request in requests)
    assert [request.items for request in encode(big)] == [100, 2]
    (request,) = encode(big, batch_size=10_000)
    assert request.items == 102


def test_huge_event_is_truncated_to_one_batch():
    huge = turn(tool(3, data={str(n): "x" * 500 for n in range(5000)}, input={"a": "y" * 900_000}))
    requests = encode(huge, max_request_bytes=20_000)
    assert all(len(orjson.dumps(request.body)) <= 20_000 for request in requests)
    assert sum(request.items for request in requests) == 3


def test_turns_of_a_conversation_share_a_batch_and_actions_are_skipped():
    requests = encode(agent_turn(), ev.Action("users", {"external_user_id": "u"}), agent_turn(root=run_id(90)))
    assert [(request.ordering_key, request.items) for request in requests] == [("c-1", 16)]


def test_caches_are_bounded():
    encoder = EventsEncoder(settings())
    for n in range(9000):
        encoder.encode([turn(llm(n + 50_000, run_id(n)), root=run_id(n))])
    assert len(encoder._parent_ids) <= 16_384
    assert len(encoder._run_names) <= 16_384


_texts = st.text(st.characters(exclude_categories=()), max_size=20)
_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | _texts | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts | st.integers(), inner, max_size=4),
    max_leaves=10,
)


@given(_texts, st.dictionaries(_texts, _values, max_size=4), _values)
def test_any_input_gives_valid_events(text: str, custom: dict[str, Any], odd: Any):
    event = {"tags": [text], "error_type": text, "error_message": text, "started_ns": ms(1), "data": custom}
    result = encoded_events(
        turn(
            tool(3, tool_name=text, input=custom, output=odd, tool_call_id=text, **event),
            llm(4, model=text, completion=text, new_messages=[custom], system_prompt=text, **event),
            ev.StepEvent(step_name=text, input=odd, output=odd, event_id=text, **event),
            messages=[user_text(text)],
            answer=answer(text),
            name=text,
            agent_name=text,
        ),
        ev.Event(event_type=text, conversation_id=text or None, parent_event_id=text, user_id=text, run_id=text),
    )
    json.dumps(result, allow_nan=False, ensure_ascii=False).encode()
    assert len(result) == 6
