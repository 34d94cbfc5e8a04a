"""`gati.trace.tool_calls`: which model run requested a call, and which calls were never run."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import orjson
import pytest

from gati.trace.conversation_state import ConversationState, WaitingCall
from gati.trace.records import ErrorInfo, Message, ModelCall, ModelResult, RunStarted
from gati.trace.resumes import Resume
from gati.trace.run_tree import Run
from gati.trace.tool_calls import ToolCallLedger


def run(kind: str, output: Any = None, parent: Run | None = None, **more: Any) -> Run:
    started = RunStarted(uuid4(), parent.id if parent else None, kind, more.pop("name", ""), 0, **more)
    made = Run(started, parent)
    made.output, made.ended = output, 1
    return made


ROOT = run("chain")


def model_run(*requests: dict[str, Any], new: tuple[Message, ...] = ()) -> Run:
    answer = ModelResult((Message("ai", "", tool_calls=requests),))
    return run("model", answer, ROOT, inputs=ModelCall((), new, len(new)))


def request(name: str, call_id: str, **args: Any) -> dict[str, Any]:
    return {"name": name, "id": call_id, "args": args, "type": "tool_call"}


def node(**update: Any) -> Run:
    return run("chain", update, ROOT, tags=("graph:step:1",))


def answered(call_id: str, text: str = "done", status: str | None = None) -> Message:
    return Message("tool", text, tool_call_id=call_id, status=status)


def ledger_of(
    *runs: Run, state: ConversationState | None = None, resumed: bool = False, decision: Any = None
) -> ToolCallLedger:
    ledger = ToolCallLedger(state or ConversationState(), Resume([], decision) if resumed else None)
    for added in runs:
        ledger.add(added)
    ledger.link()
    return ledger


def test_a_tool_is_linked_to_the_model_that_requested_it():
    model, tool = model_run(request("look", "c1")), run("tool", "seen", ROOT, extra="c1")
    ledger = ledger_of(model, tool)
    assert (ledger.id_of(tool), ledger.requester_of(tool)) == ("c1", str(model.id))
    assert ledger.take_never_run(final=True) == []


def test_a_tool_without_a_call_id_is_linked_by_name_and_arguments():
    model = model_run(request("look", "c1", at="sky"), request("look", "c2", at="sea"))
    tool = run("tool", "blue", ROOT, name="look", inputs={"at": "sea"})
    assert ledger_of(model, tool).id_of(tool) == "c2"


def test_a_request_that_only_a_message_answered_was_never_run():
    model = model_run(request("lok", "c1"))
    ledger = ledger_of(model, node(messages=[answered("c1", "no such tool", "error")]))
    ((requested, by, answer),) = ledger.take_never_run(final=False)
    assert (requested["name"], by, answer.content if answer else None) == ("lok", model, "no such tool")
    assert ledger.take_never_run(final=True) == []


def test_a_request_without_an_answer_waits():
    assert ledger_of(model_run(request("look", "c1"))).take_never_run(final=True) == []


def test_an_invalid_request_without_an_answer_is_returned_at_the_end():
    ledger = ledger_of(model_run({"name": "look", "id": "c1", "args": "{", "type": "invalid_tool_call"}))
    assert ledger.take_never_run(final=False) == []
    assert [requested["id"] for requested, _, _ in ledger.take_never_run(final=True)] == ["c1"]


def test_the_shape_of_a_structured_answer_is_not_a_call():
    shaped = node(messages=[answered("c1", "Returning structured response")], structured_response={"sky": "blue"})
    assert ledger_of(model_run(request("Sky", "c1")), shaped).take_never_run(final=True) == []


def test_a_repeated_id_is_a_new_call():
    first, second = model_run(request("lok", "c1")), model_run(request("look", "c1"))
    tool = run("tool", "seen", ROOT, extra="c1")
    ledger = ledger_of(first, node(messages=[answered("c1", "no such tool", "error")]), second, tool)
    assert [(requested["name"], by) for requested, by, _ in ledger.take_never_run(final=True)] == [("lok", first)]
    assert ledger.requester_of(tool) == str(second.id)


def test_an_earlier_answer_does_not_answer_a_new_request_with_the_same_id():
    model = model_run(request("look", "c1"), new=(answered("c1", "of yesterday"),))
    assert ledger_of(model).take_never_run(final=True) == []


def test_the_next_turn_reports_the_decision_on_a_waiting_call():
    state = ConversationState()
    model, paused = model_run(request("delete", "c1"), request("look", "c2")), run("tool", None, ROOT, extra="c1")
    paused.error = ErrorInfo("GraphInterrupt", "", "interrupt")
    ledger_of(model, paused, run("tool", "seen", ROOT, extra="c2")).save_to(state, "waiting")
    assert (set(state.waiting), state.answered) == ({"c1"}, {"c2"})

    after = ledger_of(node(messages=[answered("c1", "refused", "error")]), state=state, resumed=True)
    ((message, requested),) = after.decisions()
    assert (message.content, requested) == ("refused", request("delete", "c1"))
    assert after.requested_by("c1") == str(model.id)
    assert after.is_reported("c2")
    after.save_to(state, "completed")
    assert (state.waiting, state.answered) == ({}, frozenset())


def test_a_decision_on_a_call_of_another_process_has_the_nodes_request():
    ai = Message("ai", "", tool_calls=(request("delete", "c1", path="/a"),))
    resumed = ledger_of(node(messages=[ai, answered("c1", "refused", "error")]), resumed=True)
    ((_, requested),) = resumed.decisions()
    assert requested == request("delete", "c1", path="/a")


def test_fabricated_tool_messages_are_not_decisions():
    ai = Message("ai", "back to you", tool_calls=(request("transfer_back", "c1"),))
    assert list(ledger_of(node(messages=[ai, answered("c1")])).decisions()) == []


def test_a_result_in_the_next_input_is_a_decision():
    state = ConversationState()
    state.waiting = {"c1": WaitingCall(request("browse", "c1"), "model-run")}
    ledger = ledger_of(state=state)
    ledger.add_input({"messages": [answered("c1", "the page")]})
    ((message, requested),) = ledger.decisions()
    assert (message.content, requested) == ("the page", request("browse", "c1"))


def test_results_after_the_last_answer_in_a_direct_model_call_are_decisions():
    state = ConversationState()
    model = model_run(request("look", "c1"), request("browse", "c2"))
    ledger_of(model).save_to(state, "completed")
    ledger_of(run("tool", "seen", extra="c1"), state=state).save_to(state, "completed")
    state.note_call("c1")
    ledger = ledger_of(state=state)
    earlier = (answered("c0", "of an earlier turn"), Message("ai", "Shall I?"), Message("human", "Yes."))
    given = (*earlier, answered("c1", "seen"), answered("c2"), Message("human", "And hurry."))
    ledger.add_input(ModelCall((), given, 6))
    ((message, requested),) = ledger.decisions()
    assert (message.content, requested) == ("done", request("browse", "c2"))
    assert ledger.requested_by("c2") == str(model.id)


def test_a_call_whose_id_an_earlier_turn_used_has_a_result_of_its_own():
    state = ConversationState()
    state.note_call("c1")
    ledger_of(model_run(request("look", "c1"))).save_to(state, "completed")
    ledger = ledger_of(state=state)
    ledger.add_input(ModelCall((), (answered("c1", "new"),), 1))
    assert [message.content for message, _ in ledger.decisions()] == ["new"]


# -- tools that the program calls itself ------------------------------------------------------------------


def by_hand(name: str, output: Any, parent: Run = ROOT, started: int = 0, **args: Any) -> Run:
    made = run("tool", output, parent, name=name, inputs=args)
    made.started = started
    return made


def waiting_for(*requests: dict[str, Any], **more: Any) -> ConversationState:
    state = ConversationState()
    state.waiting = {str(r["id"]): WaitingCall(r, "model-run", **more) for r in requests}
    return state


def test_an_edited_call_is_the_one_whose_answer_has_the_result():
    state = waiting_for(request("send", "c1", to="ann"), request("send", "c2", to="bob"))
    first, second = (
        by_hand("send", "sent to eve", started=1, to="eve"),
        by_hand("send", "sent to bob", started=2, to="bob"),
    )
    written = node(messages=[answered("c1", "sent to eve"), answered("c2", "sent to bob")])
    ledger = ledger_of(first, second, written, state=state, resumed=True)
    assert [ledger.id_of(first), ledger.id_of(second)] == ["c1", "c2"]
    assert list(ledger.decisions()) == []


def test_an_edited_call_whose_answer_is_not_written_yet_has_the_arguments_that_the_person_gave():
    state = waiting_for(request("send", "c1", to="ann"))
    ran = by_hand("send", "sent", to="eve")
    ledger = ledger_of(ran, state=state, resumed=True, decision=[{"type": "edit", "args": {"args": {"to": "eve"}}}])
    assert ledger.id_of(ran) == "c1"
    assert ledger_of(ran, state=state, resumed=True, decision={"args": {"to": "joe"}}).id_of(ran) is None


@pytest.mark.parametrize(
    "decision",
    [
        "Oslo",
        {"args": "Oslo"},
        [{"type": "edit", "args": "Oslo"}],
        {"edited": {"arguments": ["Oslo"]}},
        {"args": {"__arg1": "Oslo"}},
        [{"type": "accept"}, {"type": "edit", "args": {"query": "Oslo"}}],
    ],
)
def test_a_call_of_a_tool_with_one_text_has_the_text_that_the_person_gave(decision: Any):
    ran = by_hand("look", "cold")
    ran.inputs = "Oslo"
    state = waiting_for(request("look", "c1", __arg1="Rome"))
    assert ledger_of(ran, state=state, resumed=True, decision=decision).id_of(ran) == "c1"
    for other in ({"args": "Oslo, Norway"}, {"Oslo": "no"}, [{"type": "edit", "args": ""}], None):
        assert ledger_of(ran, state=state, resumed=True, decision=other).id_of(ran) is None


def test_a_run_without_the_arguments_and_the_result_of_a_call_is_not_its_run():
    ran = by_hand("send", "sent to eve", to="eve")
    assert (
        ledger_of(model_run(request("send", "c1", to="ann")), ran, node(messages=[answered("c1", "ignored")])).id_of(
            ran
        )
        is None
    )


def test_a_result_that_is_no_text_is_found_in_the_answer_too():
    for output, text in (({"n": 3}, '{"n": 3}'), (3, "3"), (None, "null"), (["a"], "['a']")):
        ran = by_hand("count", output, more=1)
        ledger = ledger_of(model_run(request("count", "c1")), ran, node(messages=[answered("c1", text)]))
        assert ledger.id_of(ran) == "c1", text


def test_a_failure_is_found_in_the_answer_too():
    ran = by_hand("count", None, more=1)
    ran.error = ErrorInfo("ValueError", "no numbers", None)
    written = node(messages=[answered("c1", "Error: no numbers")])
    assert ledger_of(model_run(request("count", "c1")), ran, written).id_of(ran) == "c1"


@pytest.mark.parametrize(
    ("error", "answer", "expected"),
    [
        (ErrorInfo("KeyError", "'a'"), answered("c1", "sent to 'a'"), None),
        (ErrorInfo("ValueError", "no"), answered("c1", "There is nothing new."), None),
        (ErrorInfo("KeyError", "'a'"), answered("c1", "KeyError: 'a'"), "c1"),
        (ErrorInfo("TimeoutExpired", "no"), answered("c1", "TimeoutExpired('no')"), "c1"),
        (ErrorInfo("KeyError", "'a'"), answered("c1", "Please fix 'a'.", "error"), "c1"),
        (ErrorInfo("ValueError", "no"), answered("c1", "no"), "c1"),
        (ErrorInfo("ValueError", "no such flight today"), answered("c1", "Sorry, no such flight today."), "c1"),
    ],
)
def test_a_short_failure_is_found_in_an_answer_that_reports_a_failure(
    error: ErrorInfo, answer: Message, expected: str | None
):
    ran = by_hand("count", None, more=1)
    ran.error = error
    assert ledger_of(model_run(request("count", "c1")), ran, node(messages=[answer])).id_of(ran) == expected


class Counted(dict[str, Any]):
    """A result that counts how often it is serialized."""

    times = 0

    def __str__(self) -> str:
        self.times += 1
        return super().__repr__()


def test_results_and_answers_are_converted_once_for_any_number_of_calls(monkeypatch: pytest.MonkeyPatch):
    numbers, loads = range(30), orjson.loads
    parsed: list[str] = []
    monkeypatch.setattr(orjson, "loads", lambda text: parsed.append(text) or loads(text))
    state = waiting_for(*(request("send", f"c{number}", to="ann") for number in numbers))
    runs = [by_hand("send", Counted(sent=number), started=number, to=f"eve {number}") for number in numbers]
    written = node(messages=[answered(f"c{number}", f'{{"text": "Message {number}"}}') for number in numbers])
    ledger_of(*runs, written, state=state, resumed=True)
    assert max(run.output.times for run in runs) == 1
    assert len(parsed) <= len(numbers)


def test_a_call_that_an_enclosing_tool_executes_is_not_open_for_what_the_tool_calls():
    model = model_run(request("book", "c1", hotel="Grand"), request("book", "c2", hotel="Grand"))
    outer = run("tool", "booked", ROOT, name="book", inputs={"hotel": "Grand"}, extra="c1")
    inner = by_hand("book", "booked", parent=outer, hotel="Grand")
    ledger = ledger_of(model, inner, outer)
    assert [ledger.id_of(outer), ledger.id_of(inner)] == ["c1", None]


def test_of_two_nested_tools_without_an_id_the_outer_one_executes_the_call():
    outer = by_hand("book", "booked", hotel="Grand")
    inner = by_hand("book", "booked", parent=outer, started=1, hotel="Grand")
    ledger = ledger_of(model_run(request("book", "c1", hotel="Grand")), inner, outer)
    assert [ledger.id_of(outer), ledger.id_of(inner)] == ["c1", None]


def test_an_agent_in_a_tool_calls_its_own_tools_by_hand_also_after_a_pause():
    state = ConversationState()
    asker = run("tool", None, ROOT, name="ask", extra="c1")
    model = run("model", ModelResult((Message("ai", "", tool_calls=(request("pay", "p1", sum=5),)),)), asker)
    paid = by_hand("pay", "paid", parent=asker, started=1, sum=5)
    assert ledger_of(model, paid, asker).id_of(paid) == "p1"
    asker.error = ErrorInfo("GraphInterrupt", "", "interrupt")
    ledger_of(model, asker, state=state).save_to(state, "waiting")
    again = run("tool", "asked", ROOT, name="ask", extra="c1")
    outside, inside = by_hand("pay", "paid", sum=5), by_hand("pay", "paid", parent=again, started=1, sum=5)
    ledger = ledger_of(outside, inside, again, state=state, resumed=True)
    assert [ledger.id_of(outside), ledger.id_of(inside)] == [None, "p1"]


def test_a_request_after_a_run_is_not_the_one_that_it_executed():
    model = model_run(request("look", "c1", at="sky"))
    model.started = 5
    ran = by_hand("look", "blue", at="sky")
    assert ledger_of(ran, model).id_of(ran) is None


def test_a_run_belongs_to_the_request_before_it_if_an_id_is_repeated():
    first, second = model_run(request("look", "0", at="sky")), model_run(request("look", "0", at="sky"))
    second.started = 2
    ran, again = by_hand("look", "blue", started=1, at="sky"), by_hand("look", "grey", started=3, at="sky")
    ledger = ledger_of(first, ran, node(messages=[answered("0", "blue")]), second, again)
    assert [ledger.requester_of(ran), ledger.requester_of(again)] == [str(first.id), str(second.id)]


def test_a_tool_of_a_node_that_was_interrupted_afterwards_runs_again_in_the_next_turn():
    state = waiting_for(request("send", "c1", to="ann"), request("send", "c2", to="bob"))
    around = node()
    around.output, around.error = None, ErrorInfo("GraphInterrupt", "", "interrupt")
    edit = {"args": {"to": "eve"}}
    sent = by_hand("send", "sent", parent=around, to="eve")
    ledger_of(sent, around, state=state, resumed=True, decision=edit).save_to(state, "waiting")
    assert {call_id: call.request["args"] for call_id, call in state.waiting.items()} == {
        "c1": {"to": "eve"},
        "c2": {"to": "bob"},
    }
    again, other = by_hand("send", "sent", started=1, to="eve"), by_hand("send", "sent", started=2, to="bob")
    ledger = ledger_of(again, other, node(messages=[answered("c1"), answered("c2")]), state=state, resumed=True)
    assert [ledger.id_of(again), ledger.id_of(other)] == ["c1", "c2"]


def test_the_decision_on_an_edited_call_has_the_edited_arguments():
    edited = Message("ai", "", tool_calls=(request("send", "c1", to="eve"), request("send", "c2", to="bob")))
    repeated = Message("ai", "", tool_calls=(request("send", "c1", to="ann"), request("send", "c2", to="joe")))
    written = node(messages=[edited, answered("c1", "sent"), repeated, answered("c2", "sent")])
    state = waiting_for(request("send", "c1", to="ann"), request("send", "c2", to="bob"))
    requests = [r for _, r in ledger_of(written, state=state, resumed=True).decisions()]
    assert requests == [request("send", "c1", to="eve"), request("send", "c2", to="joe")]


def test_a_tool_by_hand_for_a_call_of_another_process_is_its_run():
    ran = by_hand("send", "sent", to="ann")
    given = (Message("ai", "", tool_calls=(request("send", "c1", to="ann"),)), answered("c1", "sent"))
    model = model_run(new=given)
    ledger = ledger_of(ran, node(messages=[answered("c1", "sent")]), model, resumed=True)
    assert ledger.id_of(ran) == "c1"
    assert list(ledger.decisions()) == []


# -- results that a nested graph repeats ------------------------------------------------------------------


def test_results_that_earlier_turns_reported_are_no_decisions():
    state = ConversationState()
    state.note_call("c1")
    ledger = ledger_of(node(messages=[answered("c1"), answered("c2")]), state=state, resumed=True)
    assert [message.tool_call_id for message, _ in ledger.decisions()] == ["c2"]


def test_results_that_further_requests_follow_are_history_also_in_another_process():
    thread = [
        message
        for call_id in ("c1", "c2", "c3")
        for message in (Message("ai", "", tool_calls=(request("send", call_id),)), answered(call_id))
    ]
    ledger = ledger_of(node(messages=[Message("human", "Go."), *thread, Message("ai", "Done.")]), resumed=True)
    assert [message.tool_call_id for message, _ in ledger.decisions()] == ["c3"]


def test_the_results_of_a_repeated_request_are_both_decisions():
    """A node that edits two calls may write the request once for each."""
    asked = Message("ai", "", tool_calls=(request("send", "c1"), request("send", "c2")))
    ledger = ledger_of(node(messages=[asked, answered("c1"), asked, answered("c2")]), resumed=True)
    assert {message.tool_call_id for message, _ in ledger.decisions()} == {"c1", "c2"}


def test_the_decisions_of_several_nodes_are_in_the_order_in_which_they_were_written():
    state = waiting_for(*(request("send", f"c{number}") for number in range(3)))
    nodes = [node(messages=[answered(f"c{number}")]) for number in (2, 0, 1)]
    ledger = ledger_of(*nodes, state=state, resumed=True)
    assert [message.tool_call_id for message, _ in ledger.decisions()] == ["c2", "c0", "c1"]


# -- plain histories --------------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", ["search", None, 5, ["x"], {}, {"id": ["x"]}, {"id": {"a": 1}}, {"id": 7, "args": {}}])
def test_a_plain_history_may_hold_any_value_as_a_request(odd: Any):
    history = (Message("ai", "", tool_calls=(odd,)), answered("c1", "of yesterday"))
    ledger = ledger_of(model_run(request("look", "c2"), new=history), node(messages=[*history, answered("c2")]))
    assert [requested["id"] for requested, _, _ in ledger.take_never_run(final=True)] == ["c2"]
    assert ledger.is_known(odd.get("id") if isinstance(odd, dict) else odd) is bool(isinstance(odd, dict) and odd)


@pytest.mark.parametrize("call_id", [7, ["x"], {"a": 1}])
def test_a_plain_history_may_hold_any_value_as_the_id_of_a_call(call_id: Any):
    asked = Message("ai", "", tool_calls=({"id": call_id, "name": "look", "args": {}},))
    ledger = ledger_of(node(messages=[asked, answered(call_id)]), resumed=True)
    ((message, requested),) = ledger.decisions()
    assert (message.tool_call_id, requested) == (call_id, asked.tool_calls[0])
    assert ledger.is_reported(call_id)
