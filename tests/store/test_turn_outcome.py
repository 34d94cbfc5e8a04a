"""Turns without an answer say why."""

from __future__ import annotations

from typing import Any

import pytest

from gati.store.queries import StoredMessage
from gati.store.turn_outcome import missing_answer
from gati.store.turn_view import arrange_turns
from tests.store.bodies import said, step


def explained(*messages: dict[str, Any]) -> list[tuple[str, str]]:
    stored = [
        StoredMessage(number, 1, number, message["messageType"], None, (message.get("properties") or {}).get("status"), message, None)
        for number, message in enumerate(messages)
    ]  # fmt: skip
    return [(missing.text, missing.error) for turn in arrange_turns(stored) if (missing := missing_answer(turn))]


QUESTION = said("q", "Why?")
START = step("r", "chain_start", "q")


def end(status: str, **more: Any) -> dict[str, Any]:
    return step("e", "chain_end", "r", output={"status": status, **more}, properties={"status": status})


@pytest.mark.parametrize(("status", "reason"), [
    ("error", "No answer: the turn failed."), ("failed", "No answer: the turn failed."),
    ("aborted", "No answer: the turn was stopped."), ("unfinished", "No answer: the program ended before the turn did."),
    ("waiting", "No answer: the turn waits for a person."), ("completed", "No answer: the turn ended without one."),
])  # fmt: skip
def test_a_turn_without_an_answer_says_why(status: str, reason: str):
    assert [text for text, _ in explained(QUESTION, START, end(status))] == [reason]


def test_a_failed_turn_names_the_error():
    failed = end("error", error={"type": "ValueError", "message": "boom"})
    assert explained(QUESTION, START, failed) == [("No answer: the turn failed.", "ValueError: boom")]


def test_without_an_error_of_its_own_a_turn_names_that_of_its_last_failed_step():
    call = step(
        "m", "llm", "r", output={"error": {"type": "RateLimit", "message": "429"}}, properties={"status": "error"}
    )
    assert explained(QUESTION, START, call, end("error")) == [("No answer: the turn failed.", "RateLimit: 429")]


def test_a_model_that_was_called_directly_and_failed_names_its_error():
    call = step("m", "llm", "q", properties={"status": "error", "error_type": "RateLimit", "error_message": "429"})
    assert explained(QUESTION, call) == [("No answer: the turn failed.", "RateLimit: 429")]


def test_a_partial_answer_is_called_incomplete():
    part = said("a", "The ans", kind="assistant_message", parentExternalMessageId="r", properties={"status": "aborted"})
    assert explained(QUESTION, START, part, end("aborted")) == [("The answer is incomplete: the turn was stopped.", "")]


def test_an_answer_a_picture_and_a_running_turn_miss_nothing():
    answer = said("a", "So.", kind="assistant_message", parentExternalMessageId="r")
    picture = {
        **answer,
        "content": "",
        "properties": {"attachments": [{"type": "image", "url": "https://x.org/a.png"}]},
    }
    assert explained(QUESTION, START, answer, end("completed")) == []
    assert explained(QUESTION, START, picture, end("completed")) == []
    assert explained(QUESTION, START) == explained(QUESTION) == []
