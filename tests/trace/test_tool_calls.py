"""Tool calls: who asked for them, and which were never run."""

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


def asking(*requests: dict[str, Any], given: tuple[Message, ...] = ()) -> Run:
    answer = ModelResult((Message("ai", "", tool_calls=requests),))
    return run("model", answer, ROOT, inputs=ModelCall((), given, len(given)))


def request(name: str, call_id: str, **args: Any) -> dict[str, Any]:
    return {"name": name, "id": call_id, "args": args, "type": "tool_call"}


def node(**update: Any) -> Run:
    return run("chain", update, ROOT, tags=("graph:step:1",))


def answered(call_id: str, text: str = "done", status: str | None = None) -> Message:
    return Message("tool", text, tool_call_id=call_id, status=status)


def calls(*runs: Run, state: ConversationState | None = None, resumed: bool = False) -> ToolCallLedger:
    made = ToolCallLedger(state or ConversationState(), resumed)
    for one in runs:
        made.add(one)
    return made


def test_a_tool_is_linked_to_the_model_that_asked_for_it():
    asker, tool = asking(request("look", "c1")), run("tool", "seen", ROOT, extra="c1")
    found = calls(asker, tool)
    assert (found.id_of(tool), found.requester_of(tool)) == ("c1", str(asker.id))
    assert found.take_never_run(final=True) == []


def test_a_tool_without_an_id_is_linked_by_its_name_and_arguments():
    asker = asking(request("look", "c1", at="sky"), request("look", "c2", at="sea"))
    tool = run("tool", "blue", ROOT, name="look", inputs={"at": "sea"})
    assert calls(asker, tool).id_of(tool) == "c2"


def test_a_request_that_only_a_message_answered_was_never_run():
    asker = asking(request("lok", "c1"))
    found = calls(asker, node(messages=[answered("c1", "no such tool", "error")]))
    ((asked, by, answer),) = found.take_never_run(final=False)
    assert (asked["name"], by, answer.content if answer else None) == ("lok", asker, "no such tool")
    assert found.take_never_run(final=True) == []


def test_a_request_that_nobody_answered_waits():
    assert calls(asking(request("look", "c1"))).take_never_run(final=True) == []


def test_an_invalid_request_that_nobody_answered_is_told_at_the_end():
    found = calls(asking({"name": "look", "id": "c1", "args": "{", "type": "invalid_tool_call"}))
    assert found.take_never_run(final=False) == []
    assert [asked["id"] for asked, _, _ in found.take_never_run(final=True)] == ["c1"]


def test_the_shape_of_a_structured_answer_is_no_call():
    shaped = node(messages=[answered("c1", "Returning structured response")], structured_response={"sky": "blue"})
    assert calls(asking(request("Sky", "c1")), shaped).take_never_run(final=True) == []


def test_an_id_that_is_asked_for_again_is_a_new_call():
    first, second = asking(request("lok", "c1")), asking(request("look", "c1"))
    tool = run("tool", "seen", ROOT, extra="c1")
    found = calls(first, node(messages=[answered("c1", "no such tool", "error")]), second, tool)
    assert [(asked["name"], by) for asked, by, _ in found.take_never_run(final=True)] == [("lok", first)]
    assert found.requester_of(tool) == str(second.id)


def test_an_answer_of_an_earlier_turn_is_none_to_a_new_request():
    asker = asking(request("look", "c1"), given=(answered("c1", "of yesterday"),))
    assert calls(asker).take_never_run(final=True) == []


def test_a_call_that_waits_is_left_to_the_next_turn_which_tells_the_decision():
    state = ConversationState()
    asker, paused = asking(request("delete", "c1"), request("look", "c2")), run("tool", None, ROOT, extra="c1")
    paused.error = ErrorInfo("GraphInterrupt", "", "interrupt")
    calls(asker, paused, run("tool", "seen", ROOT, extra="c2")).save_to(state, waiting=True)
    assert (set(state.waiting), state.answered) == ({"c1"}, {"c2"})

    after = calls(node(messages=[answered("c1", "refused", "error")]), state=state, resumed=True)
    ((message, asked),) = after.decisions()
    assert (message.content, asked) == ("refused", request("delete", "c1"))
    assert after.requested_by("c1") == str(asker.id)
    assert after.is_reported("c2")
    after.save_to(state, waiting=False)
    assert (state.waiting, state.answered) == ({}, frozenset())


def test_a_decision_on_a_call_of_another_process_is_told_with_what_the_node_says_of_it():
    ai = Message("ai", "", tool_calls=(request("delete", "c1", path="/a"),))
    resumed = calls(node(messages=[ai, answered("c1", "refused", "error")]), resumed=True)
    ((_, asked),) = resumed.decisions()
    assert asked == request("delete", "c1", path="/a")


def test_messages_that_a_program_made_up_are_no_decisions():
    ai = Message("ai", "back to you", tool_calls=(request("transfer_back", "c1"),))
    assert list(calls(node(messages=[ai, answered("c1")])).decisions()) == []


def test_a_result_that_the_next_input_brings_is_told():
    state = ConversationState()
    state.waiting = {"c1": WaitingCall(request("browse", "c1"), "model-run")}
    root = run("chain", inputs={"messages": [answered("c1", "the page")]})
    ((message, asked),) = calls(root, state=state).decisions()
    assert (message.content, asked) == ("the page", request("browse", "c1"))
