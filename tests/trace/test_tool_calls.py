"""`gati.trace.tool_calls`: which model run requested a call, and which calls were never run."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from gati.trace.conversation_state import ConversationState, WaitingCall
from gati.trace.records import ErrorInfo, Message, ModelCall, ModelResult, RunStarted
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


def ledger_of(*runs: Run, state: ConversationState | None = None, resumed: bool = False) -> ToolCallLedger:
    ledger = ToolCallLedger(state or ConversationState(), resumed)
    for added in runs:
        ledger.add(added)
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
