"""The page of a conversation without a browser."""

from __future__ import annotations

import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from gati.store.store import Store
from gati.studio import chat_formatting
from tests.servers import studio_client
from tests.store.bodies import at, body, said, step, turn


@pytest.fixture
def pages(any_store: Store) -> TestClient:
    return studio_client(any_store)


def post(pages: TestClient, *messages: dict[str, Any]) -> None:
    assert pages.post("/api/v1/messages", json=body("c", *messages)).status_code == 201


def text_of(pages: TestClient, address: str = "/conversations/c") -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", pages.get(address).text).split())


def test_unknown_addresses_are_pages_and_below_api_json(pages: TestClient):
    for address in (
        "/nothing",
        "/conversations/none",
        "/messages/1",
        "/messages/1/input",
        "/messages/x",
        "/static/none.css",
    ):
        response = pages.get(address)
        assert response.status_code == 404
        assert "<h1>Not found</h1>" in response.text
        assert "default-src 'none'" in response.headers["content-security-policy"]
    assert pages.get("/api/v1/nothing").json()["error"] == "Not found"


@pytest.mark.parametrize(("given", "words"), [
    ((4, 1, 5), "4 of 5"), ((1, 0, 1), "1 of 1"), ((4.5, 0, 10), "4.5 of 10"), ((-1, -1, 1), "-1 on a scale from -1 to 1"),
])  # fmt: skip
def test_ratings_are_words(given: tuple[float, float, float], words: str):
    assert chat_formatting.rating(dict(zip(("rating", "ratingMin", "ratingMax"), given, strict=True))) == words


def test_a_rating_is_shown_in_words(pages: TestClient):
    post(pages, *turn("r"))
    rating = {"externalConversationId": "c", "rating": 4, "ratingMin": 1, "ratingMax": 5, "feedback": "Quick"}
    assert pages.post(
        "/api/v1/ratings", json={"productId": "00000000-0000-4000-8000-000000000000", **rating}
    ).status_code in (200, 201)
    assert "Rated 4 of 5 : Quick" in text_of(pages)


def test_values_of_one_entry_keep_their_name(pages: TestClient):
    post(pages, *turn("r"))
    page = text_of(pages)
    assert "expression: 144**0.5" in page
    assert "Finish reason: stop" in page


def test_a_message_without_a_time_shows_none(pages: TestClient):
    post(pages, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"})
    assert "<time" not in pages.get("/conversations/c").text
    assert "**User**\n" in pages.get("/conversations/c/export.md").text


def test_attachments_and_missing_answers_of_gati_events_are_shown(pages: TestClient):
    event = {"run_id": "r", "run_name": "n", "agent_name": "a", "timestamp": at(0)}
    photo = {"type": "image_url", "image_url": {"url": "https://example.org/my-photo.jpg"}}
    ask = {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, photo]}]}
    events = [
        {**event, "event_type": "agent_start", "event_id": "s", "data": {"conversation_id": "c", "input": ask}},
        {**event, "event_type": "agent_end", "event_id": "e", "parent_event_id": "s", "timestamp": at(9),
         "data": {"conversation_id": "c", "status": "error", "error_type": "ValueError", "error_message": "boom", "output": {}}},
    ]  # fmt: skip
    response = pages.post("/api/events", json={"events": events})
    assert response.status_code < 300, response.text
    page = text_of(pages)
    assert "What is it?" in page
    assert "picture my-photo.jpg at example.org" in page
    assert "No answer: the turn failed. ValueError: boom" in page


def test_the_input_of_a_call_names_parameters_tools_and_what_it_returned(pages: TestClient):
    call = step("m", "llm", "q", 1, model="gpt-4o", output={"text": "So.", "finish_reason": "stop"}, properties={
        "parameters": {"temperature": 0.2}, "tools": ["track"], "input_messages": 1,
    })  # fmt: skip
    post(pages, said("q", "Why?"), call, said("a", "So.", 2, "assistant_message"))
    page = text_of(pages, "/messages/2/input")
    for part in (
        "temperature 0.2",
        "Tools on offer track",
        "user as received Why?",
        "returned So.",
        "Finish reason: stop",
        "reconstructed",
    ):
        assert part in page
    assert "<html" not in pages.get("/messages/2/input", headers={"hx-request": "true"}).text


def test_only_model_calls_have_an_input(pages: TestClient):
    post(pages, said("q", "Why?"))
    assert pages.get("/messages/1/input").status_code == 404
