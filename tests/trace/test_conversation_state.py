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


def test_a_message_around_a_tool_call_is_known_by_the_id_of_its_call() -> None:
    state = ConversationState()
    assert state.is_new_message("Back to you.", "call-1")
    assert not state.is_new_message("Back to you.", "call-1")
    assert state.is_new_message("Back to you.", "call-2")
    assert not state.is_new_message("Back to you.", None)


def test_a_text_that_was_known_without_a_call_is_not_new_with_one() -> None:
    """A checkpoint or a tool's run brings texts without the ids of their calls."""
    state = ConversationState()
    state.remember("sunny in Oslo")
    assert not state.is_new_message("sunny in Oslo", "call-1")
