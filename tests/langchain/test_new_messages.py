"""Selection of the new messages of a list."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompt_values import ChatPromptValue, StringPromptValue
from langgraph.types import Command, Overwrite
from pydantic import BaseModel

from gati.langchain import message_snapshot, new_messages
from gati.langchain.bounded_set import BoundedSet
from gati.langchain.new_messages import MAX_IMPORTED_MESSAGES, as_message_list, role_of
from gati.langchain.snapshot import take_snapshot
from gati.trace.records import COMMAND, Message
from tests.unpacked import unpacks

snapshot_message = unpacks(message_snapshot.snapshot_message)
all_messages_of_input = unpacks(new_messages.all_messages_of_input)
new_messages_of_call = unpacks(new_messages.new_messages_of_call)
new_messages_of_input = unpacks(new_messages.new_messages_of_input)
new_messages_of_node = unpacks(new_messages.new_messages_of_node)
new_messages_of_output = unpacks(new_messages.new_messages_of_output)
snapshot_prompt_output = unpacks(new_messages.snapshot_prompt_output)
snapshot_state = unpacks(new_messages.snapshot_state)

SYSTEM, HELLO, HI, ASK = (
    SystemMessage("Be kind."),
    HumanMessage("Hello"),
    AIMessage("Hi!", id="a1"),
    HumanMessage("144?"),
)


def words(messages: list[Any]) -> list[Any]:
    return [m.content if isinstance(m, Message) else m for m in messages]


class Role(str, Enum):  # noqa: UP042 - the plain mixin is what users' programs use
    user = "user"


@pytest.mark.parametrize(
    ("item", "role"),
    [
        (HELLO, "human"), (HI, "ai"), (("user", "x"), "user"), (["ai", "x"], "ai"), ({"role": "user", "content": "x"}, "user"),
        ({"type": "human", "content": "x"}, "human"), ({"role": Role.user}, "user"), ("text", ""), ({"role": 3}, ""), (3, ""),
        ({"type": "intro", "content": "x"}, ""), (("clarity", 4), ""), (["What is it?", "A bicycle."], ""), ({"role": "critic"}, "critic"),
        ((1, 2), ""), (("a", "b", "c"), ""), (None, ""),
    ],
)  # fmt: skip
def test_the_role_is_read_from_any_message_form(item: Any, role: str):
    assert role_of(item) == role


def test_a_list_is_a_message_list_if_its_last_item_is_a_message():
    assert as_message_list([3, HELLO]) == [3, HELLO]
    assert as_message_list([HELLO, 3]) is None
    assert as_message_list([]) is None
    assert as_message_list("text") is None

    class Own(list[Any]):
        def __iter__(self) -> Any:
            raise AssertionError("code of the user's")

    assert as_message_list(Own([HELLO])) == [HELLO]


def test_a_call_records_the_messages_after_the_last_known_answer():
    seen = BoundedSet(100)
    system, new, _ = new_messages_of_call([SYSTEM, HELLO, HI, ASK], seen)
    assert (words(system), words(new)) == (["Be kind."], ["Hello", "Hi!", "144?"])
    _, new, _ = new_messages_of_call([SYSTEM, HELLO, HI, ASK], seen)
    assert words(new) == ["144?"]


def test_text_beside_a_tool_call_is_known_by_the_id_of_the_call():
    def handover(number: int) -> AIMessage:
        back = {"name": "back", "args": {}, "id": f"call-{number}", "type": "tool_call"}
        return AIMessage("Back to you.", tool_calls=[back], id=f"a{number}")

    seen = BoundedSet(100)
    new_messages_of_call([HELLO, handover(1), ASK], seen, whole=True)
    _, again, _ = new_messages_of_call([HELLO, handover(1), ASK], seen)
    assert words(again) == ["144?"]
    _, second, _ = new_messages_of_call([HELLO, handover(1), ASK, handover(2), HELLO], seen)
    assert words(second) == ["144?", "Back to you.", "Hello"]


def test_an_answer_is_also_recognized_by_its_text():
    seen = BoundedSet(100)
    new_messages_of_call([HELLO, HI, ASK], seen)
    _, new, _ = new_messages_of_call([HELLO, AIMessage("Hi!"), ASK], seen)
    assert words(new) == ["144?"]


def test_the_first_call_of_a_conversation_records_all_messages():
    seen = BoundedSet(100)
    new_messages_of_call([HELLO, HI, ASK], seen)
    _, new, _ = new_messages_of_call([HELLO, HI, ASK], seen, whole=True)
    assert words(new) == ["Hello", "Hi!", "144?"]


def test_the_cost_depends_on_new_messages_not_on_the_length_of_the_list():
    class Counted(list[Any]):
        looks = 0

        def __getitem__(self, index: Any) -> Any:
            self.looks += 1
            return list.__getitem__(self, index)

    seen = BoundedSet(100)
    seen.add("a1")
    for length in (10, 1_000):
        messages = Counted([HELLO] * length + [HI, ASK])
        messages.looks = 0
        new_messages_of_call(messages, seen)
        assert messages.looks <= 4


def test_an_imported_history_is_bounded():
    _, new, _ = new_messages_of_call([HumanMessage(str(n)) for n in range(MAX_IMPORTED_MESSAGES + 10)], BoundedSet(100))
    assert len(new) == MAX_IMPORTED_MESSAGES
    assert words(new)[-1] == str(MAX_IMPORTED_MESSAGES + 9)


def test_a_root_input_adds_messages_after_the_last_answer_or_all_messages():
    assert words(new_messages_of_input([HELLO, HI, ASK], BoundedSet(9))) == ["144?"]
    assert words(all_messages_of_input([HELLO, HI, ASK], BoundedSet(9))) == ["Hello", "Hi!", "144?"]
    given = [("user", "x"), ("assistant", "y"), ("user", "z")]
    assert new_messages_of_input(given, BoundedSet(9)) == [["user", "z"]]


def test_a_root_output_adds_messages_after_the_last_user_message():
    asked, result = (
        AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "c1"}]),
        ToolMessage("12", tool_call_id="c1"),
    )
    assert words(new_messages_of_output([HELLO, HI, ASK, asked, result, AIMessage("Twelve.")], BoundedSet(9))) == [
        "",
        "12",
        "Twelve.",
    ]
    assert new_messages_of_output([HELLO, HI, ASK], BoundedSet(9)) == []


def test_a_root_output_skips_recorded_tool_results_before_the_answer():
    seen = BoundedSet(9)
    seen.add("c1")
    result = ToolMessage("12", tool_call_id="c1")
    assert words(new_messages_of_output([ASK, result, AIMessage("Twelve.")], seen)) == ["Twelve."]
    assert words(new_messages_of_output([ASK, AIMessage("I look."), result], seen)) == ["I look.", "12"]


def test_a_node_output_skips_messages_that_a_model_or_tool_run_recorded():
    seen = BoundedSet(100)
    seen.add("a1")
    seen.add("c1")
    messages = [
        HumanMessage("144?", id="from the checkpoint"),
        HI,
        ToolMessage("12", tool_call_id="c1"),
        ToolMessage("no", tool_call_id="c2"),
        AIMessage("New.", id="a2"),
    ]
    assert words(new_messages_of_node(messages, seen)) == ["no", "New."]


def test_every_kind_of_state_is_copied_with_its_new_messages_only():
    class Model(BaseModel):
        messages: list[Any]
        count: int = 3

    @dataclass
    class Data:
        messages: list[Any]
        count: int = 3

    history = [HELLO, HI, ASK]
    for value in ({"messages": history, "count": 3}, Model(messages=history), Data(history)):
        copied = snapshot_state(value, new_messages_of_input, BoundedSet(9))
        assert copied["count"] == 3
        assert words(copied["messages"]) == ["144?"]


def test_a_command_keeps_its_fields():
    copied = snapshot_state(
        Command(update={"messages": [HELLO, HI, ASK], "n": 1}, goto="next"), new_messages_of_output, BoundedSet(9)
    )
    assert copied == {COMMAND: {"update": {"n": 1}, "goto": "next"}}
    assert snapshot_state(Command(resume={"ok": True}), new_messages_of_output, BoundedSet(9)) == {
        COMMAND: {"resume": {"ok": True}}
    }


def test_a_prompt_output_keeps_its_system_messages():
    assert words(snapshot_prompt_output(ChatPromptValue(messages=[SYSTEM, ASK]))) == ["Be kind."]
    assert snapshot_prompt_output(StringPromptValue(text="Tell me.")) == "Tell me."
    assert snapshot_prompt_output(None) is None


def test_a_full_set_drops_its_oldest_half():
    memory = BoundedSet(10)
    for number in range(11):
        memory.add(number)
    assert [number in memory for number in (0, 4, 5, 10)] == [False, False, True, True]
    assert len(memory.entries) == 6


def test_the_messages_inside_an_overwrite_are_messages_of_the_node():
    written = {"messages": Overwrite([AIMessage("new only", id="a1")])}
    copied = snapshot_state(written, new_messages_of_node, BoundedSet(10))
    assert copied == {"messages": [snapshot_message(AIMessage("new only", id="a1"))]}
    assert take_snapshot({"plan": Overwrite([1, 2])}) == {"plan": [1, 2]}


@pytest.mark.parametrize("name", ["plain", "person", "simulated user", "without role", "in a call", "critic"])
def test_no_name_of_an_agent_makes_the_message_of_a_simulated_user_an_answer(name: str):
    seen = BoundedSet(9)
    assert len(new_messages_of_node([HumanMessage("Go on.", name=name)], seen)) == 1
    assert len(new_messages_of_node([HumanMessage("Go on.")], seen)) == 1
    assert new_messages_of_output([ASK, HumanMessage("Go on.")], seen) == []
