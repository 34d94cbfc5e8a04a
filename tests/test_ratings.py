"""`observe.log_rating`: thumbs, stars and scores, of answers and conversations, checked and sent once."""

from __future__ import annotations

import subprocess
import sys
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gati import observe
from gati.store.store import Store
from gati.testing import ScriptedChatModel
from tests.prompts.conftest import PRODUCT
from tests.servers import LocalServer


@pytest.fixture
def server(greenflash: LocalServer) -> LocalServer:
    observe.init(api_key=greenflash.api_key, base_url=greenflash.url, product_id=PRODUCT)
    return greenflash


def ratings(server: LocalServer) -> list[dict[str, Any]]:
    assert observe.flush(timeout=20.0)
    return server.bodies("/api/v1/ratings")


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"rating": True}, (1, 0, 1)),
        ({"rating": False}, (0, 0, 1)),
        ({"rating": True, "rating_min": -1}, (1, -1, 1)),
        ({"rating": False, "rating_min": 1, "rating_max": 5}, (1, 1, 5)),
        ({"stars": 4}, (4, 1, 5)),
        ({"stars": 3.5}, (3.5, 1, 5)),
        ({"stars": 9, "rating_max": 10}, (9, 1, 10)),
        ({"rating": 0.25}, (0.25, 0, 1)),
        ({"rating": 70, "rating_max": 100}, (70, 0, 100)),
        ({"rating": Decimal("2.5"), "rating_min": 1, "rating_max": 5}, (2.5, 1, 5)),
    ],
)
def test_thumbs_stars_and_scores_are_sent_with_their_range(
    server: LocalServer, given: dict[str, Any], sent: tuple[float, float, float]
):
    assert observe.log_rating(conversation_id="c", **given)
    (body,) = ratings(server)
    assert (body["rating"], body["ratingMin"], body["ratingMax"]) == sent
    assert body["externalConversationId"] == "c"


@pytest.mark.parametrize(
    "given",
    [
        {}, {"rating": None}, {"rating": float("nan")}, {"rating": float("inf"), "rating_max": float("inf")},
        {"rating": 2}, {"rating": -0.1}, {"rating": "up"}, {"rating": [1]}, {"stars": 0}, {"stars": 6}, {"stars": True},
        {"stars": "4"}, {"rating": 1, "stars": 5}, {"rating": 1, "rating_min": 1, "rating_max": 1},
        {"rating": 1, "rating_min": 5, "rating_max": 0}, {"rating": True, "rating_min": float("-inf")},
        {"rating": 1, "rating_max": None}, {"rating": True, "feedback": 7}, {"rating": True, "rating_id": ""},
        {"stars": float("nan")},
    ],
)  # fmt: skip
def test_an_invalid_rating_is_logged_counted_and_not_sent(
    server: LocalServer, given: dict[str, Any], caplog: pytest.LogCaptureFixture
):
    assert not observe.log_rating(conversation_id="c", **given)
    assert observe.stats().faults == {"arguments.log_rating": 1}
    assert ratings(server) == []
    assert "observe.log_rating is ignored" in caplog.text


def test_the_answer_of_a_run_is_rated_by_its_message_id(server: LocalServer):
    run_id = uuid.uuid4()
    with observe.conversation("c"):
        ScriptedChatModel(replies=["Hello."]).invoke("Hi", {"run_id": run_id})
    assert observe.log_rating(rating=True, run_id=run_id, feedback="Thanks")
    (body,) = ratings(server)
    assert body["externalMessageId"] == observe.message_id(run_id) == f"{run_id}:answer"
    messages = {message["externalMessageId"] for sent in server.bodies() for message in sent["messages"]}
    assert body["externalMessageId"] in messages


@pytest.mark.parametrize("value", [None, "", [], 1.5])
def test_an_invalid_run_id_has_no_message_id(server: LocalServer, value: Any):
    assert observe.message_id(value) is None
    assert observe.stats().faults == {"arguments.message_id": 1}


def test_a_message_id_needs_no_init():
    assert observe.message_id("r-1") == "r-1:answer"


def test_another_process_can_rate(greenflash: LocalServer, tmp_path: Path):
    program = (
        "from gati import observe;"
        f"observe.init(api_key={greenflash.api_key!r}, base_url={greenflash.url!r}, product_id={PRODUCT!r});"
        "observe.log_rating(stars=5, run_id='r-1'); observe.log_rating(rating=False, conversation_id='c-1')"
    )
    environment = {"PYTHONPATH": str(Path(__file__).parents[1]), "HOME": str(tmp_path), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    bodies = greenflash.bodies("/api/v1/ratings")
    assert {body.get("externalMessageId") or body.get("externalConversationId") for body in bodies} == {
        "r-1:answer", "c-1",
    }  # fmt: skip


def test_a_rating_with_a_known_id_is_sent_once(server: LocalServer):
    for _ in range(3):
        assert observe.log_rating(rating=True, conversation_id="c", rating_id="click-1")
    assert observe.log_rating(rating=True, conversation_id="c", rating_id="click-2")
    assert len(ratings(server)) == 2


def test_the_id_is_sent_as_soon_as_the_sdk_has_a_key_for_it(server: LocalServer, monkeypatch: pytest.MonkeyPatch):
    from greenflash.resources.ratings import RatingsResource

    log = RatingsResource.log
    seen: list[Any] = []

    def later_sdk(self: Any, *, insert_id: str | None = None, **arguments: Any) -> Any:
        seen.append(insert_id)
        return log(self, **arguments)

    monkeypatch.setattr(RatingsResource, "log", later_sdk)
    observe.log_rating(rating=True, conversation_id="c", rating_id="later-sdk")
    assert len(ratings(server)) == 1
    assert seen == ["later-sdk"]


def test_the_store_keeps_one_rating_for_an_id(tmp_path: Path):
    store = Store(tmp_path / "store.db")
    for rating in (1, 0):
        body = {"rating": rating, "ratingMin": 0, "ratingMax": 1, "externalConversationId": "c", "insertId": "a"}
        store.record_action("ratings", body)
    store.record_action("ratings", {"rating": 1, "ratingMin": 0, "ratingMax": 1, "externalConversationId": "c"})
    store.record_action("ratings", {"rating": 1, "ratingMin": 0, "ratingMax": 1, "externalConversationId": "c"})
    with store.connections.reading() as db:
        assert db.execute("SELECT count(*) FROM actions").fetchone()[0] == 3
    store.close()
