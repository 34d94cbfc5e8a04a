"""The system prompts of requests."""

from __future__ import annotations

from typing import Any

import pytest

from gati import events as ev
from gati.exporters.base import Request
from gati.exporters.greenflash.encoder import GreenflashEncoder
from tests.exporters.turns import ROOT, encode, llm, messages, ms, node, run_id, settings, tool, turn  # fmt: skip


def prompts(requests: list[Request]) -> list[Any]:
    return [request.body.get("system_prompt") for request in requests]


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


def test_a_managed_prompt_is_a_reference_unless_the_destination_does_not_have_it():
    version = "6f1d2c3b-4a59-4e68-8d7c-0b1a2f3e4d5c"
    prompt = ev.Prompt("Be kind", external_id="tutor", managed=ev.ManagedVersion(version))
    given = turn(llm(3, structured_prompt=prompt, is_answer=True))
    assert version in str(prompts(encode(given)))
    assert "Be kind" not in str(prompts(encode(given)))
    copies = GreenflashEncoder(settings(), prompt_references=False).encode([given])
    assert version not in str(prompts(copies))
    assert "Be kind" in str(prompts(copies))
