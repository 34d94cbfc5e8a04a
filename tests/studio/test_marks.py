"""Marks of a conversation on its page and in the list, without a browser, and who may write them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from starlette.testclient import TestClient

from gati.store import marks, queries
from gati.store.marks import Marks
from gati.store.store import Store
from tests.servers import LocalServer, studio_client, studio_server
from tests.store.bodies import body, said, turn

EVIL = "<script>document.title='owned'</script>\"'>{{7*7}}"


@pytest.fixture
def store(any_store: Store) -> Store:
    any_store.ingest(body("c", *turn("r")))
    return any_store


@pytest.fixture
def pages(store: Store) -> TestClient:
    return studio_client(store)


def address_of(store: Store, part: str = "") -> str:
    found = queries.find_conversation(store, "c")
    assert found is not None
    return f"/conversations/{found.uid}{part}"


def marks_in(store: Store) -> Marks:
    found = queries.find_conversation(store, "c")
    assert found is not None
    return marks.marks_of(store, found.id)


def post(pages: TestClient, store: Store, do: str, **fields: str) -> httpx.Response:
    return pages.post(address_of(store, "/marks"), data={"do": do, **fields}, follow_redirects=False)


def test_without_javascript_every_mark_is_a_form_that_leads_back_to_the_page(pages: TestClient, store: Store) -> None:
    page = pages.get(address_of(store)).text
    key = re.findall(r'name="key" value="([0-9a-f]{32})"', page)[-1]
    forms = [
        {"do": "verdict", "value": "bad"}, {"do": "rating", "value": "2"}, {"do": "tag", "tag": "beta"},
        {"do": "note", "note": "Look here", "key": key},
    ]  # fmt: skip
    for form in forms:
        answer = pages.post(address_of(store, "/marks"), data=form, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, address_of(store, "#marks"))
    page = pages.get(address_of(store)).text
    for part in ("Marked bad by", "Rated 2 of 5 by", ">beta<", "Look here"):
        assert part in page, part
    rows = pages.get("/?mark=bad").text
    for part in ("marked bad", ">beta<", "1 note", "rated 2 of 5"):
        assert part in rows, part
    assert "No matching conversations" in pages.get("/?mark=good").text
    assert post(pages, store, "remove-tag", value="beta").status_code == 303
    assert post(pages, store, "verdict", value="").status_code == 303
    assert (marks_in(store).verdict, marks_in(store).tags) == (None, ())


def test_the_page_asks_for_a_name_once(pages: TestClient, store: Store) -> None:
    assert 'id="reader"' in pages.get(address_of(store)).text
    answer = post(pages, store, "verdict", value="good", author="  Ada   Lovelace ")
    cookie = answer.headers["set-cookie"]
    assert quote("Ada Lovelace") in cookie
    assert {"httponly", "samesite=lax"} <= {part.strip().lower() for part in cookie.split(";")}
    pages.cookies.set("gati_reader", quote("Ada Lovelace"))
    page = pages.get(address_of(store)).text
    assert 'id="reader"' not in page
    assert "You are <bdi>Ada Lovelace</bdi>" in page
    post(pages, store, "tag", tag="beta")
    assert [mark.author for mark in marks_in(store).tags] == ["Ada Lovelace"]


def test_words_of_people_are_escaped_on_every_page(pages: TestClient, store: Store) -> None:
    pages.cookies.set("gati_reader", quote(EVIL[:60]))
    for form in ({"do": "verdict", "value": "good"}, {"do": "rating", "value": "3"}, {"do": "tag", "tag": EVIL[:60]}):
        assert post(pages, store, **form).status_code == 303
    assert post(pages, store, "note", note=EVIL + "\n</textarea>" + EVIL, key=marks.new_key()).status_code == 303
    refused = pages.post(address_of(store, "/marks"), data={"do": "tag", "tag": EVIL * 3})
    assert refused.status_code == 400
    shared = pages.get(address_of(store, "/export.html?marks=yes"))
    for answer in (refused, shared, pages.get("/"), pages.get("/?q=owned"), pages.get(address_of(store))):
        assert "<script>document" not in answer.text
        assert "7*7" not in re.sub(r"\{\{7\*7\}\}", "", answer.text)
        assert ">49<" not in answer.text
    assert "</textarea>&lt;script" not in pages.get(address_of(store)).text


def test_a_mark_that_is_refused_says_why_and_keeps_what_was_typed(pages: TestClient, store: Store) -> None:
    typed = "x" * 10_001
    answer = post(pages, store, "note", note=typed, key=marks.new_key())
    assert answer.status_code == 400
    assert "A note has from 1 to 10,000 characters." in answer.text
    assert typed in answer.text
    for fields in ({"do": "rating", "value": "9"}, {"do": "rating", "value": "²"}, {"do": "verdict", "value": "x"}):
        assert post(pages, store, **fields).status_code == 400
    assert post(pages, store, "unknown").status_code == 303
    assert marks_in(store) == Marks()
    assert pages.post("/conversations/none/marks", data={"do": "verdict", "value": "good"}).status_code == 404


def test_marks_of_others_arrive_while_the_page_is_open(pages: TestClient, store: Store) -> None:
    (live,) = re.findall(r'<section id="marks"[^>]*hx-get="([^"]+)"', pages.get(address_of(store)).text)
    assert pages.get(live, headers={"hx-request": "true"}).status_code == 204
    (rows,) = re.findall(r'<div id="rows" hx-get="([^"]+)"', pages.get("/").text)
    rows = rows.replace("&amp;", "&")
    assert pages.get(rows).status_code == 204
    post(pages, store, "tag", tag="beta", author="Bob")
    part = pages.get(live, headers={"hx-request": "true"})
    assert (part.status_code, "<html" in part.text, ">beta<" in part.text) == (200, False, True)
    assert pages.get(rows).status_code == 200


@pytest.fixture
def running() -> Iterator[LocalServer]:
    with studio_server() as server:
        server.store.ingest(body("c", said("a", "Hello")))
        yield server


FORGED: list[dict[str, str]] = [
    {"origin": "https://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1:1"},
    {"origin": "http://localhost:4527"}, {"sec-fetch-site": "cross-site"},
    {"host": "evil.example", "origin": "http://evil.example"},
]  # fmt: skip


@pytest.mark.parametrize("headers", FORGED)
def test_a_form_of_another_site_marks_nothing(running: LocalServer, headers: dict[str, str]) -> None:
    with httpx.Client(base_url=running.address) as reader:
        reader.get(f"/?token={running.api_key}")
        for do, fields in CHANGES:
            answer = reader.post(address_of(running.store, "/marks"), data={"do": do, **fields}, headers=headers)
            assert answer.status_code == 403
        assert marks_in(running.store) == Marks()
        own = {"origin": running.address, "sec-fetch-site": "same-origin"}
        answer = reader.post(address_of(running.store, "/marks"), data={"do": "verdict", "value": "good"}, headers=own)
        assert answer.status_code == 303
    assert marks_in(running.store).verdict is not None


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("verdict", {"value": "good"}), ("rating", {"value": "1"}), ("tag", {"tag": "x"}),
    ("note", {"note": "x", "key": "0" * 32}), ("remove-tag", {"value": "x"}), ("remove-note", {"value": "0" * 32}),
]  # fmt: skip


def test_nobody_marks_without_the_token(running: LocalServer) -> None:
    for do, fields in CHANGES:
        address = running.address + address_of(running.store, "/marks")
        assert httpx.post(address, data={"do": do, **fields}).status_code == 401
        assert httpx.post(f"{address}?token={running.api_key}", data={"do": do, **fields}).status_code == 401
    assert marks_in(running.store) == Marks()
    with httpx.Client(base_url=running.address) as reader:
        reader.get(f"/?token={running.api_key}")
        for do, fields in CHANGES:  # reading never writes
            reader.get(address_of(running.store, "/marks"), params={"do": do, **fields})
    assert marks_in(running.store) == Marks()
