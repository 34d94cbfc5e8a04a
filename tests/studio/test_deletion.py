"""The studio's pages that delete: they ask, they delete, and no other site can make them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from gati.store import queries
from gati.store.deletion import Contents, Target
from gati.store.store import Store
from gati.studio.deletion import Waiting
from gati.studio.server import create_studio_app
from tests.servers import LocalServer, studio_client, studio_server
from tests.store.bodies import at, body, turn

TOKEN = "t" * 40


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "store.db")
    made.ingest(body("c-1", *turn("r1", "the zebra question"), user="ada/1"))
    made.ingest(body("c-2", *turn("r2", "another question", when=90_000_000), user="bob"))
    made.record_action("users", {"externalUserId": "ada/1", "name": "Ada"})
    yield made
    made.close()


@pytest.fixture
def pages(store: Store) -> TestClient:
    return studio_client(store)


def left(store: Store) -> list[str | None]:
    return [row.external_id for row in queries.list_conversations(store).conversations]


def uid_of(store: Store, conversation: str) -> str:
    found = queries.find_conversation(store, conversation)
    assert found is not None
    return found.uid


def test_a_conversation_is_deleted_after_a_question(pages: TestClient, store: Store) -> None:
    uid = uid_of(store, "c-1")
    assert f'href="/delete/conversation/{uid}"' in pages.get(f"/conversations/{uid}").text
    question = pages.get(f"/delete/conversation/{uid}")
    assert "the zebra question" in question.text
    assert "1 conversation" in question.text
    assert len(left(store)) == 2
    done = pages.post(f"/delete/conversation/{uid}")
    assert done.status_code == 200
    assert "Deleted" in done.text
    assert left(store) == ["c-2"]
    assert pages.get(f"/conversations/{uid}").status_code == 404
    assert pages.post(f"/delete/conversation/{uid}").status_code == 404


def test_a_user_is_deleted_with_name_and_conversations(pages: TestClient, store: Store) -> None:
    assert 'href="/delete/user/ada/1"' in pages.get("/users/ada/1").text
    assert "Ada" in pages.get("/delete/user/ada/1").text
    assert pages.post("/delete/user/ada/1").status_code == 200
    assert left(store) == ["c-2"]
    assert pages.get("/users/ada/1").status_code == 404
    assert "Ada" not in pages.get("/users").text


def test_everything_before_a_date_of_the_reader_is_deleted(pages: TestClient, store: Store) -> None:
    assert "/delete/before" in pages.get("/overview").text
    assert 'name="date"' in pages.get("/delete/before").text
    assert "not a date" in pages.get("/delete/before?date=soon").text
    date = at(90_000_000)[:10]
    assert "1 conversation" in pages.get(f"/delete/before?date={date}").text
    pages.post("/delete/before", data={"date": date})
    assert left(store) == ["c-2"]


def test_the_page_says_what_waits_in_the_spool(store: Store) -> None:
    class Spool:
        messages, rejected, running = 3, 1, 2

    calls: list[tuple[Target, bool]] = []

    def remove(target: Target, found: Contents, *, count_only: bool = False) -> Waiting:
        calls.append((target, count_only))
        return Spool()

    app = create_studio_app(store, TOKEN, remove_waiting=remove)
    client = TestClient(app, base_url="http://127.0.0.1", headers={"authorization": f"Bearer {TOKEN}"})
    shown = client.get("/delete/user/bob").text
    assert "3 messages that an exited program left" in shown
    assert "2 messages wait in running programs" in shown
    client.post("/delete/user/bob")
    assert calls == [(Target("user", "bob"), True), (Target("user", "bob"), False)]


def test_a_store_that_cannot_be_changed_is_reported(store: Store) -> None:
    def remove(target: Target, found: Contents, *, count_only: bool = False) -> Waiting:
        raise OSError("no space left")

    app = create_studio_app(store, TOKEN, remove_waiting=remove)
    client = TestClient(app, base_url="http://127.0.0.1", headers={"authorization": f"Bearer {TOKEN}"})
    answer = client.post("/delete/user/bob")
    assert answer.status_code == 503
    assert "no space left" in answer.text


FOREIGN = [
    {"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1:1"}, {"host": "evil.example"},
    {"sec-fetch-site": "cross-site"}, {"origin": "https://localhost"},
]  # fmt: skip


@pytest.fixture
def local() -> Iterator[LocalServer]:
    with studio_server() as running:
        running.store.ingest(body("c-1", *turn("r1"), user="ada"))
        yield running


def test_no_other_site_and_nobody_without_the_token_can_delete(local: LocalServer) -> None:
    paths = [f"/delete/conversation/{uid_of(local.store, 'c-1')}", "/delete/user/ada", "/delete/before"]
    with httpx.Client(base_url=local.address) as owner:
        owner.get(f"/?token={local.api_key}")
        for path in paths:
            for headers in FOREIGN:
                assert owner.post(path, data={"date": "2100-01-01"}, headers=headers).status_code == 403
            assert httpx.post(local.address + path, data={"date": "2100-01-01"}).status_code == 401
            assert httpx.post(f"{local.address}{path}?token={local.api_key}").status_code == 401
            owner.get(path, params={"date": "2100-01-01"})  # a link only asks
        assert left(local.store) == ["c-1"]
        cookie = next(iter(owner.cookies.jar))
        assert cookie.get_nonstandard_attr("SameSite") == "strict"
        own = {"origin": local.address, "sec-fetch-site": "same-origin"}
        assert owner.post(paths[1], headers=own).status_code == 200
    assert left(local.store) == []
