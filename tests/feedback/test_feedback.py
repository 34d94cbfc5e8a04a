"""Signed rating tokens, and the route that takes ratings."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.testclient import TestClient

from gati import ConfigurationError, observe
from gati.feedback import Feedback, RatedAnswer
from tests.prompts.conftest import PRODUCT
from tests.servers import LocalServer

SECRET = "a secret of the tests, not short"


@pytest.fixture
def server(greenflash: LocalServer) -> LocalServer:
    observe.init(api_key=greenflash.api_key, base_url=greenflash.url, product_id=PRODUCT)
    return greenflash


@pytest.fixture
def client() -> TestClient:
    return TestClient(Starlette(routes=Feedback(SECRET).routes()))


def ratings(server: LocalServer) -> list[dict[str, Any]]:
    assert observe.flush(timeout=20.0)
    return server.bodies("/api/v1/ratings")


@given(run=st.text(max_size=50) | st.none(), conversation=st.text(min_size=1, max_size=50))
def test_a_token_names_what_was_signed(run: str | None, conversation: str):
    feedback = Feedback(SECRET)
    token = feedback.token(run_id=run, conversation_id=conversation)
    assert feedback.verify(token) == RatedAnswer(run, conversation)
    assert token == base64.urlsafe_b64encode(b"").decode() + token  # characters of a URL only
    assert Feedback("another secret of the tests").verify(token) is None


@given(st.text() | st.none() | st.integers() | st.binary())
def test_anything_else_is_no_token(value: Any):
    assert Feedback(SECRET).verify(value) is None


@given(st.data())
def test_a_changed_token_is_refused(data: st.DataObject):
    token = Feedback(SECRET).token(run_id="run-1")
    at = data.draw(st.integers(0, len(token) - 1))
    changed = data.draw(st.characters(min_codepoint=33, max_codepoint=126).filter(lambda c: c != token[at]))
    assert Feedback(SECRET).verify(token[:at] + changed + token[at + 1 :]) is None


def test_a_token_expires(monkeypatch: pytest.MonkeyPatch):
    token = Feedback(SECRET, expires_in=60).token(run_id="r")
    assert Feedback(SECRET).verify(token) is not None
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    assert Feedback(SECRET).verify(token) is None


def test_a_secret_can_be_replaced():
    token = Feedback("the old secret of the tests").token(run_id="r")
    assert Feedback([SECRET, "the old secret of the tests"]).verify(token) == RatedAnswer("r", None)


@pytest.mark.parametrize(
    "secret", ["", "short", [], [SECRET, "short"], None, 5, b"a secret of the tests", [SECRET, None], "\udcff" * 16]
)
def test_a_weak_secret_is_an_error(secret: Any):
    with pytest.raises(ConfigurationError, match="at least 16 characters"):
        Feedback(secret)


@pytest.mark.parametrize("option", ["expires_in", "max_stars"])
@pytest.mark.parametrize("value", [0, -1, None, "60", True, float("nan"), float("inf"), 10**400])
def test_a_number_out_of_its_range_is_an_error(option: str, value: Any):
    with pytest.raises(ConfigurationError, match=option):
        Feedback(SECRET, **{option: value})


@pytest.mark.parametrize("ids", [{}, {"run_id": ""}, {"run_id": "x" * 5000}])
def test_a_token_for_nothing_is_empty_and_counted(
    ids: dict[str, Any], server: LocalServer, monkeypatch: pytest.MonkeyPatch
):
    from gati.pipeline import internal_errors

    monkeypatch.setattr(internal_errors, "RAISE", False)
    assert Feedback(SECRET).token(**ids) == ""
    assert sum(observe.stats().faults.values()) == 1


def test_the_route_records_a_thumb(server: LocalServer, client: TestClient):
    token = Feedback(SECRET).token(run_id="run-1", conversation_id="c-1")
    answer = client.post("/feedback", json={"token": token, "rating": False, "feedback": "Too long"})
    assert (answer.status_code, answer.content) == (204, b"")
    (body,) = ratings(server)
    assert (body["externalMessageId"], body["rating"], body["feedback"]) == ("run-1:answer", 0, "Too long")


def test_the_route_records_stars_of_a_conversation(server: LocalServer, client: TestClient):
    token = Feedback(SECRET).token(conversation_id="c-1")
    assert client.post("/feedback", json={"token": token, "stars": 4}).status_code == 204
    (body,) = ratings(server)
    assert (body["externalConversationId"], body["rating"], body["ratingMax"]) == ("c-1", 4, 5)


def test_a_repeated_click_is_one_rating_and_a_changed_mind_another(server: LocalServer, client: TestClient):
    token = Feedback(SECRET).token(run_id="run-1")
    for rating in (True, True, False):
        assert client.post("/feedback", json={"token": token, "rating": rating}).status_code == 204
    assert [body["rating"] for body in ratings(server)] == [1, 0]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400), (b"[]", 400), (b"{", 400), (b"\xff", 400), (b'{"token": 1}', 403), (b"{}", 403),
        (b'{"token": "a.b", "rating": true}', 403), (b"[" * 19_000, 400), (b'{"x": "' + b"x" * 30_000 + b'"}', 400),
    ],
)  # fmt: skip
def test_a_bad_request_is_refused(server: LocalServer, client: TestClient, content: bytes, status: int):
    answer = client.post("/feedback", content=content)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert ratings(server) == []


@pytest.mark.parametrize(
    "given",
    [{}, {"rating": 1}, {"rating": "up"}, {"stars": 9}, {"stars": True}, {"rating": True, "stars": 4}, {"stars": None}],
)
def test_an_invalid_rating_is_refused(server: LocalServer, client: TestClient, given: dict[str, Any]):
    token = Feedback(SECRET).token(run_id="run-1")
    assert client.post("/feedback", json={"token": token, **given}).status_code == 422
    assert ratings(server) == []


def test_a_long_comment_is_cut(server: LocalServer, client: TestClient):
    token = Feedback(SECRET).token(run_id="run-1")
    client.post("/feedback", json={"token": token, "rating": True, "feedback": "x" * 9000})
    assert len(ratings(server)[0]["feedback"]) == 5000


def test_the_script_is_served_beside_the_route(client: TestClient):
    answer = client.get("/feedback/widget.js")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "gati-feedback" in answer.text


def test_the_script_loads_nothing_and_evaluates_nothing(client: TestClient):
    text = client.get("/feedback/widget.js").text
    assert [
        word for word in ("http:", "https:", "eval(", "innerHTML", "document.write", "cookie") if word in text
    ] == []


def test_a_route_that_does_not_record_says_so(client: TestClient):
    observe.shutdown()
    token = Feedback(SECRET).token(run_id="run-1")
    assert client.post("/feedback", json={"token": token, "rating": True}).status_code == 422


def test_a_token_holds_ids_only():
    payload = Feedback(SECRET).token(run_id="run-1", conversation_id="c").partition(".")[0]
    run_id, conversation_id, expires = json.loads(base64.urlsafe_b64decode(payload + "=="))
    assert (run_id, conversation_id) == ("run-1", "c")
    assert expires > time.time()
