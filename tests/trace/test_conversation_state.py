"""What is remembered of conversations, and that it is bounded."""

from __future__ import annotations

from gati.trace.conversation_state import TEXTS, THREADS, Thread, Threads


def test_a_conversation_is_known_from_its_second_turn_on() -> None:
    threads = Threads()
    first = threads.of("c-1")
    assert not threads.knew
    assert threads.of("c-1") is first
    assert threads.knew


def test_the_conversations_that_were_silent_longest_are_forgotten() -> None:
    threads = Threads()
    first, second = threads.of("first"), threads.of("second")
    for number in range(THREADS - 2):
        threads.of(f"c-{number}")
    assert threads.of("first") is first  # and with that it is the latest
    threads.of("one more")
    assert threads.of("first") is first
    assert threads.of("second") is not second


def test_the_oldest_texts_of_a_conversation_are_forgotten() -> None:
    thread = Thread()
    for number in range(TEXTS + 1):
        thread.tell(f"text {number}")
    assert not thread.was_told("text 0")
    assert thread.was_told("text 1")
    thread.tell("")
    assert not thread.was_told("")
