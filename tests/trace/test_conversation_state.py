"""`gati.trace.conversation_state`: the state of conversations, and its bounds."""

from __future__ import annotations

from gati.trace.conversation_state import MAX_CONVERSATIONS, MAX_TEXTS, ConversationState, ConversationStates


def test_a_conversation_was_seen_from_its_second_turn_on() -> None:
    states = ConversationStates()
    first = states.of("c-1")
    assert not states.was_seen
    assert states.of("c-1") is first
    assert states.was_seen


def test_the_least_recently_used_conversations_are_dropped() -> None:
    states = ConversationStates()
    first, second = states.of("first"), states.of("second")
    for number in range(MAX_CONVERSATIONS - 2):
        states.of(f"c-{number}")
    assert states.of("first") is first  # now the most recently used
    states.of("another")
    assert states.of("first") is first
    assert states.of("second") is not second


def test_the_oldest_texts_of_a_conversation_are_dropped() -> None:
    state = ConversationState()
    for number in range(MAX_TEXTS + 1):
        state.remember(f"text {number}")
    assert not state.has_seen("text 0")
    assert state.has_seen("text 1")
    state.remember("")
    assert not state.has_seen("")
