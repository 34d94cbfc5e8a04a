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
from tests.exporters.turns import ROOT, agent_turn, answer, llm, ms, run_id, said, settings, tool, turn


def encode(*items: ev.Item, **options: Any) -> list[Request]:
    return EventsEncoder(settings(**options)).encode(items)


def told(*items: ev.Item, **options: Any) -> list[dict[str, Any]]:
    found = []
    for request in encode(*items, **options):
        assert rules.find_event_errors(request.body) == []
        assert request.items == len(request.body["events"])
        found += request.body["events"]
    return found


def test_the_persons_words_stand_in_the_start_and_the_answer_in_the_end():
    first, *_, last = told(agent_turn())
    assert first["data"]["input"] == first["input"] == {"input": "What is the square root of 144?"}
    assert last["data"]["output"] == last["output"] == {"output": "The square root of 144 is 12."}
    assert last["data"]["total_cost"] == 0.002


def test_several_texts_stand_as_messages_too():
    old = ev.ChatMessage("h:1", "user", "Hi", ms(-1), properties={"imported": True})
    first = told(turn(messages=[old, said("And now?")]))[0]
    assert first["input"] == {
        "input": "And now?",
        "messages": [{"role": "user", "content": "Hi"}, {"role": "user", "content": "And now?"}],
    }


def test_an_input_of_the_programs_own_is_kept():
    given_ = agent_turn()
    given_.events[0].input = {"input": {"x": 1}}
    assert told(given_)[0]["input"] == {
        "input": {"x": 1},
        "messages": [{"role": "user", "content": "What is the square root of 144?"}],
    }


def test_parents_form_a_tree_and_stand_before_their_children():
    known: set[str | None] = {None}
    for event in told(agent_turn()):
        assert event["parent_event_id"] in known
        known.add(event["event_id"])
    assert len(known) == 9


def test_a_bare_model_gets_a_start_and_an_end():
    bare = ev.Turn(
        ROOT, ev.Conversation("c-1", "u-7"), messages=[said("Hi")], answer=answer("Ho"), agentic=False, started_ns=ms(0),
        ended_ns=ms(9), events=[llm(1, None, event_id=ROOT, completion="Ho", tokens_in=3, cost=0.5)],
    )  # fmt: skip
    start, call, end = told(bare)
    assert (start["input"], end["output"]) == ({"input": "Hi"}, {"output": "Ho"})
    assert call["event_id"] == ROOT
    assert call["parent_event_id"] == end["parent_event_id"] == start["event_id"]
    assert (end["total_cost"], end["tokens_in"], end["model_calls"]) == (0.5, 3, 1)
    assert "tokens_out" not in end  # unknown


def test_tools_have_both_names_of_their_fields():
    data = told(turn(tool(3)))[1]["data"]
    assert data["tool_input"] == data["input"] == {"expression": "144**0.5"}
    assert data["tool_output"] == data["output"] == {"output": "12.0"}


def test_ids_are_short_and_the_same_each_time():
    call = tool(3, event_id="call_0", tool_call_id="call_0")
    one, other = told(turn(call)), told(turn(call))
    assert [event["event_id"] for event in one] == [event["event_id"] for event in other]
    assert one[1]["event_id"] != told(turn(call, root=run_id(90)))[1]["event_id"]


def test_names_are_cut_to_what_the_backend_takes():
    long = turn(tool(3), name="n" * 999, agent_name="a" * 999)
    long.events[1].event_type = "t" * 999
    event = told(long)[1]
    assert (len(event["event_type"]), len(event["agent_name"]) <= 255, len(event["run_name"]) <= 255) == (
        50,
        True,
        True,
    )


def test_an_event_made_by_hand_joins_its_run():
    encoder = EventsEncoder(settings())
    encoder.encode([agent_turn()])
    by_hand = ev.ToolCallEvent(run_id=ROOT, parent_event_id=run_id(4), tool_name="mail", agent_name="other")
    lost = ev.Event(run_id=ROOT, parent_event_id="elsewhere", data={"status": "mine", "run_id": "x"})
    first, second = encoder.encode([by_hand, lost])[0].body["events"]
    assert (first["run_id"], first["agent_name"], first["parent_event_id"]) == (ROOT, "tutor", run_id(4))
    assert (second["run_id"], second["parent_event_id"]) == (ROOT, ROOT)
    assert (second["data"]["parent_id"], second["data"]["status"]) == ("elsewhere", "mine")


def test_the_conversation_alone():
    found = told(agent_turn(), detail="conversation")
    assert [event["event_type"] for event in found] == ["agent_start", "tool_call", "agent_end"]
    assert found[1]["parent_event_id"] == ROOT


def test_no_content_leaves_the_process():
    secret = "s3cret"
    full = turn(
        tool(3, input={secret: secret}, output={"o": secret}, tags=[secret], metadata={"m": secret}, data={"d": secret}),
        llm(4, completion=secret, prompt=secret, system_prompt=secret, reasoning=secret, usage=ev.Usage(raw={"x": secret})),
        ev.RetrievalEvent(query=secret, documents=[{"text": secret}], error_message=secret, started_ns=ms(1)),
        ev.CustomEvent(payload={"x": secret}, started_ns=ms(1)),
        messages=[said(secret)],
        answer=answer(secret),
    )  # fmt: skip
    found = told(full, ev.Event(data={"d": secret}), capture_content=False)
    assert secret not in json.dumps(found)
    assert found[1]["data"]["tool_name"] == "calculator"
    assert found[2]["data"]["prompt"] == ""


def test_batches_keep_to_their_bounds():
    big = turn(*[tool(n, at=n, output={"output": "x" * 2000}) for n in range(100, 200)])
    requests = encode(big, max_request_bytes=50_000)
    assert all(len(orjson.dumps(request.body)) <= 50_000 for request in requests)
    assert [request.items for request in encode(big)] == [100, 2]
    (request,) = encode(big, batch_size=10_000)
    assert request.items == 102


def test_one_event_may_not_fill_more_than_a_batch():
    huge = turn(tool(3, data={str(n): "x" * 500 for n in range(5000)}, input={"a": "y" * 900_000}))
    requests = encode(huge, max_request_bytes=20_000)
    assert all(len(orjson.dumps(request.body)) <= 20_000 for request in requests)
    assert sum(request.items for request in requests) == 3


def test_turns_of_one_conversation_share_a_batch_and_actions_make_none():
    requests = encode(agent_turn(), ev.Action("users", {"external_user_id": "u"}), agent_turn(root=run_id(90)))
    assert [(request.ordering_key, request.items) for request in requests] == [("c-1", 16)]


def test_what_is_remembered_is_bounded():
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
def test_whatever_comes_in_valid_events_go_out(text: str, given_: dict[str, Any], odd: Any):
    event = {"tags": [text], "error_type": text, "error_message": text, "started_ns": ms(1), "data": given_}
    found = told(
        turn(
            tool(3, tool_name=text, input=given_, output=odd, tool_call_id=text, **event),
            llm(4, model=text, completion=text, new_messages=[given_], system_prompt=text, **event),
            ev.StepEvent(step_name=text, input=odd, output=odd, event_id=text, **event),
            messages=[said(text)],
            answer=answer(text),
            name=text,
            agent_name=text,
        ),
        ev.Event(event_type=text, conversation_id=text or None, parent_event_id=text, user_id=text, run_id=text),
    )
    json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
    assert len(found) == 6
