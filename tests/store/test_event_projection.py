"""Events of a GATI backend as messages."""

from __future__ import annotations

from typing import Any

import pytest

from gati.store import event_projection
from gati.studio.api import validation


def made(kind: str, **data: Any) -> list[tuple[str, Any]]:
    """Type and content of each message that an event stands for."""
    event = {
        "event_type": kind, "run_id": "run", "run_name": "temp_1", "agent_name": "tutor", "event_id": "e1",
        "timestamp": "2026-11-20T10:00:00Z", "parent_event_id": "e0", "data": data,
    }  # fmt: skip
    body = event_projection.project_event(event)
    assert validation.find_error("messages", body) is None
    assert {message["parentExternalMessageId"] for message in body["messages"]} <= {"e0", "e1"}
    return [(m["messageType"], m.get("content", m.get("input", m.get("output")))) for m in body["messages"]]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"question": "Hi?"}, "Hi?"),
        ("Hi?", "Hi?"),
        ({"messages": [{"type": "human", "content": "Hi?"}, {"type": "ai", "content": "Ho"}]}, "Hi?"),
        ({"messages": [{"role": "user", "content": "Hi?"}, "odd"]}, "Hi?"),
    ],
)
def test_the_input_is_found_under_the_usual_keys(given: Any, text: str) -> None:
    assert made("agent_start", input=given)[0] == ("user_message", text)


@pytest.mark.parametrize("given", [None, {}, {"messages": "none"}, {"messages": []}, {"messages": [{"type": "ai"}]}, 7])
def test_an_agent_start_without_user_input_has_no_user_message(given: Any) -> None:
    assert [kind for kind, _ in made("agent_start", input=given)] == ["chain_start"]


def test_the_answer_is_the_last_assistant_message() -> None:
    gave = {"messages": [{"role": "assistant", "content": "One"}, {"type": "ai", "content": "Two"}]}
    assert made("agent_end", output=gave)[0] == ("final_response", "Two")


def test_a_retrieval_has_its_query_and_documents() -> None:
    assert made("retrieval", query="q", documents=[{"text": "a"}]) == [("retrieval", {"query": "q"})]
    assert made("retrieval") == [("retrieval", {"query": ""})]


def test_an_unknown_event_type_becomes_a_callback_step() -> None:
    assert made("clicked", button="red") == [("callback", {"name": "clicked", "data": {"button": "red"}})]
