"""Which messages of a list are news."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompt_values import ChatPromptValue, StringPromptValue
from langgraph.types import Command
from pydantic import BaseModel

from gati.langchain.new_messages import (
    LONGEST_IMPORT,
    BoundedSet,
    as_message_list,
    new_messages_of_call,
    new_messages_of_input,
    new_messages_of_node,
    new_messages_of_output,
    role_of,
    snapshot_prompt_output,
    snapshot_state,
)
from gati.trace.records import COMMAND, Message

SYSTEM, HELLO, HI, ASK = (
    SystemMessage("Be kind."),
    HumanMessage("Hello"),
    AIMessage("Hi!", id="a1"),
    HumanMessage("144?"),
)


def words(messages: list[Any]) -> list[Any]:
    return [m.content if isinstance(m, Message) else m for m in messages]


class Role(str, Enum):  # noqa: UP042 - the plain mixin is what users' programs have
    user = "user"


@pytest.mark.parametrize(
    ("item", "role"),
    [
        (HELLO, "human"), (HI, "ai"), (("user", "x"), "user"), (["ai", "x"], "ai"), ({"role": "user", "content": "x"}, "user"),
        ({"type": "human", "content": "x"}, "human"), ({"role": Role.user}, "user"), ("text", ""), ({"role": 3}, ""), (3, ""),
        ((1, 2), ""), (("a", "b", "c"), ""), (None, ""),
    ],
)  # fmt: skip
def test_the_role_of_a_message_in_any_form(item: Any, role: str):
    assert role_of(item) == role


def test_the_last_item_tells_whether_a_list_is_a_conversation():
    assert as_message_list([3, HELLO]) == [3, HELLO]
    assert as_message_list([HELLO, 3]) is None
    assert as_message_list([]) is None
    assert as_message_list("text") is None

    class Own(list[Any]):
        def __iter__(self) -> Any:
            raise AssertionError("code of the user's")

    assert as_message_list(Own([HELLO])) == [HELLO]


def test_a_call_tells_what_follows_the_last_answer_that_was_seen():
    seen = BoundedSet(100)
    system, news = new_messages_of_call([SYSTEM, HELLO, HI, ASK], seen)
    assert (words(system), words(news)) == (["Be kind."], ["Hello", "Hi!", "144?"])
    _, news = new_messages_of_call([SYSTEM, HELLO, HI, ASK], seen)
    assert words(news) == ["144?"]


def test_an_answer_is_known_by_its_text_too():
    seen = BoundedSet(100)
    new_messages_of_call([HELLO, HI, ASK], seen)
    _, news = new_messages_of_call([HELLO, AIMessage("Hi!"), ASK], seen)
    assert words(news) == ["144?"]


def test_the_first_call_of_a_conversation_tells_everything():
    seen = BoundedSet(100)
    new_messages_of_call([HELLO, HI, ASK], seen)
    _, news = new_messages_of_call([HELLO, HI, ASK], seen, whole=True)
    assert words(news) == ["Hello", "Hi!", "144?"]


def test_the_walk_costs_what_is_new_however_long_the_list_is():
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


def test_a_long_history_is_taken_over_up_to_a_bound():
    _, news = new_messages_of_call([HumanMessage(str(n)) for n in range(LONGEST_IMPORT + 10)], BoundedSet(100))
    assert len(news) == LONGEST_IMPORT
    assert words(news)[-1] == str(LONGEST_IMPORT + 9)


def test_the_input_of_a_root_tells_what_follows_the_last_answer_or_all_of_it():
    assert words(new_messages_of_input([HELLO, HI, ASK], whole=False)) == ["144?"]
    assert words(new_messages_of_input([HELLO, HI, ASK], whole=True)) == ["Hello", "Hi!", "144?"]
    assert new_messages_of_input([("user", "x"), ("assistant", "y"), ("user", "z")], whole=False) == [["user", "z"]]


def test_the_output_of_a_root_tells_what_follows_the_last_message_of_a_person():
    asked, told = (
        AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "c1"}]),
        ToolMessage("12", tool_call_id="c1"),
    )
    assert words(new_messages_of_output([HELLO, HI, ASK, asked, told, AIMessage("Twelve.")], BoundedSet(9))) == [
        "",
        "12",
        "Twelve.",
    ]
    assert new_messages_of_output([HELLO, HI, ASK], BoundedSet(9)) == []


def test_the_output_of_a_root_leaves_out_what_a_tool_told_before_the_answer_but_not_a_tool_s_last_word():
    seen = BoundedSet(9)
    seen.add("c1")
    told = ToolMessage("12", tool_call_id="c1")
    assert words(new_messages_of_output([ASK, told, AIMessage("Twelve.")], seen)) == ["Twelve."]
    assert words(new_messages_of_output([ASK, AIMessage("I look."), told], seen)) == ["I look.", "12"]


def test_the_output_of_a_node_leaves_out_what_a_model_or_tool_told():
    seen = BoundedSet(100)
    seen.add("a1")
    seen.add("c1")
    messages = [
        ASK,
        HI,
        ToolMessage("12", tool_call_id="c1"),
        ToolMessage("no", tool_call_id="c2"),
        AIMessage("New.", id="a2"),
    ]
    assert words(new_messages_of_node(messages, seen)) == ["no", "New."]


def test_states_of_every_kind_are_copied_with_the_tail_of_their_messages():
    class Model(BaseModel):
        messages: list[Any]
        count: int = 3

    @dataclass
    class Data:
        messages: list[Any]
        count: int = 3

    history = [HELLO, HI, ASK]
    for value in ({"messages": history, "count": 3}, Model(messages=history), Data(history)):
        copied = snapshot_state(value, new_messages_of_input, False)
        assert copied["count"] == 3
        assert words(copied["messages"]) == ["144?"]


def test_a_command_keeps_what_it_sets():
    copied = snapshot_state(
        Command(update={"messages": [HELLO, HI, ASK], "n": 1}, goto="next"), new_messages_of_output, BoundedSet(9)
    )
    assert copied == {COMMAND: {"update": {"n": 1}, "goto": "next"}}
    assert snapshot_state(Command(resume={"ok": True}), new_messages_of_output, BoundedSet(9)) == {
        COMMAND: {"resume": {"ok": True}}
    }


def test_a_prompt_tells_its_system_texts():
    assert words(snapshot_prompt_output(ChatPromptValue(messages=[SYSTEM, ASK]))) == ["Be kind."]
    assert snapshot_prompt_output(StringPromptValue(text="Tell me.")) == "Tell me."
    assert snapshot_prompt_output(None) is None


def test_a_full_memory_forgets_its_older_half():
    memory = BoundedSet(10)
    for number in range(11):
        memory.add(number)
    assert [number in memory for number in (0, 4, 5, 10)] == [False, False, True, True]
    assert len(memory.entries) == 6
