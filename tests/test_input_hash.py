"""The rolling hash over the messages of a model call."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gati import input_hash

MESSAGES = st.lists(st.tuples(st.sampled_from(["user", "assistant", "tool"]), st.text(max_size=20)), max_size=6)


def state_of(messages: list[tuple[str, Any]]) -> bytes:
    state = input_hash.NO_MESSAGES
    for role, text in messages:
        state = input_hash.add_message(state, role, text)
    return state


@given(MESSAGES, MESSAGES)
def test_the_hash_can_be_continued_from_the_state_of_the_messages_before(first: Any, second: Any):
    state = state_of(first)
    for role, text in second:
        state = input_hash.add_message(state, role, text)
    assert state == state_of(first + second)


@given(MESSAGES.filter(lambda messages: len(set(messages)) > 1))
def test_the_order_of_messages_counts(messages: Any):
    other = messages[::-1]
    assert (state_of(messages) == state_of(other)) == (messages == other) or _only_blanks_differ(messages, other)


def _only_blanks_differ(messages: Any, other: Any) -> bool:
    canonical = [[(role, " ".join(text.split())) for role, text in group] for group in (messages, other)]
    return canonical[0] == canonical[1]


@pytest.mark.parametrize(("one", "other"), [
    ('{"a":  [1, "x"]}', {"a": [1, "x"]}), ("a  b\n", "a b"), ("12.5", 12.5), ("true", True), ("null", None), ("", None),
    ([{"k": 1}], '[{"k": 1}]'),
])  # fmt: skip
def test_a_value_is_equal_to_the_text_that_langchain_makes_of_it(one: Any, other: Any):
    assert input_hash.add_message(b"", "tool", one) == input_hash.add_message(b"", "tool", other)


def test_roles_texts_tool_calls_and_the_system_prompt_count():
    base = input_hash.add_message(b"", "user", "x")
    others = [
        input_hash.add_message(b"", "assistant", "x"), input_hash.add_message(b"", "user", "y"),
        input_hash.add_message(b"", "user", "x", [{"name": "search", "args": {}}]), input_hash.add_message(b"", "user", "x", [{"name": "search", "args": {"q": 1}}]),
    ]  # fmt: skip
    assert len({base, *others}) == 5
    assert input_hash.hash_of(base, "kind") != input_hash.hash_of(base, "strict")


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_value_can_be_hashed(value: Any):
    assert len(input_hash.add_message(b"", "tool", value)) == 16
