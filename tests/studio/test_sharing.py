"""A conversation as one HTML file: complete, and without a request to anywhere."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import pytest

from gati.store import marks, queries
from gati.store.attachments import describe
from gati.store.store import Store
from gati.studio.pages import shared_page
from tests.servers import studio_client
from tests.store.bodies import body, said, turn

PNG = "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAIAAACQkWg2AAAAFklEQVR4nGNgaPhPGhrVMKph+GoAAHEMf5F1Ed2zAAAAAElFTkSuQmCC"
EVIL = "<script>alert(1)</script><img src=https://evil.example/x onerror=alert(1)>\"'>"
PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}


@pytest.fixture
def store(any_store: Store) -> Store:
    return any_store


def shared(store: Store, **options: Any) -> str:
    found = queries.find_conversation(store, "c")
    assert found is not None
    return shared_page(store, found, **options)


def test_the_file_contains_the_whole_conversation(store: Store) -> None:
    prompt = {"externalPromptId": "tutor", "components": [{"content": "Teach {{name}}."}], "variables": {"name": "Ada"}}
    for number in range(35):  # more turns than the page shows at a time
        store.ingest(body("c", *turn(f"r{number}", f"Question {number}", when=number * 5000), systemPrompt=prompt))
    page = shared(store)
    assert all(f">Question {number}<" in page for number in range(35))
    assert "Teach <mark>Ada</mark>." in page
    assert 'href="#prompt-1"' in page
    assert "144**0.5" in page
    assert "UTC" in page


def test_the_file_makes_no_requests_and_has_no_scripts(store: Store) -> None:
    attachments = [{"type": "image_url", "image_url": {"url": "https://evil.example/p.png"}}, PICTURE, {"name": EVIL}]
    store.ingest(body("c", *turn("r", f"![x](https://evil.example/a.png) {EVIL}"), properties={EVIL: EVIL}, user=EVIL))
    store.ingest(body("c", said("p", EVIL, 9000, properties={"attachments": attachments}), user=EVIL))
    page = shared(store)
    assert not re.search(r"<(?:script|link|iframe|object|embed|form|base)\b", page)
    loaded = re.findall(r'\b(?:src|href|srcset|action|poster|hx-\w+)="([^"#][^"]*)"', page)
    assert loaded == [f"data:image/png;base64,{PNG}"]
    assert not re.search(r"<[^>]*\son\w+=", re.sub(r'"[^"]*"', '""', page))
    assert not re.search(r"url\(|@import", page)
    (policy,) = re.findall(r'<meta http-equiv="content-security-policy" content="([^"]+)">', page)
    assert policy.startswith("default-src &#39;none&#39;")
    assert page.lstrip().startswith("<!doctype html>")


def test_pictures_sounds_and_files_are_in_the_file_as_far_as_they_are_stored(store: Store) -> None:
    attachments = [
        PICTURE, {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "file", "file": {"filename": "a.html", "file_data": "data:text/html;base64,PGI+"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/svg+xml", "data": "PHN2Zy8+"}},
        {"type": "image", "source": {"type": "base64", "media_type": 'image/png"onload="x', "data": "AAAA"}},
        {"type": "image", "mime_type": "image/png", "sha256": "abc", "bytes": 12},
    ]  # fmt: skip
    store.ingest(body("c", said("p", "Look", properties={"attachments": attachments})))
    page = shared(store)
    assert re.findall(r'(?:src|href)="(data:[^"]*)"', page) == [
        f"data:image/png;base64,{PNG}", "data:audio/wav;base64,UklGRg==", "data:application/octet-stream;base64,PGI+",
        "data:application/octet-stream;base64,PHN2Zy8+", "data:application/octet-stream;base64,AAAA",
    ]  # fmt: skip
    assert 'download="a.html"' in page
    assert "data:" not in studio_client(store).get(f"/conversations/{conversation_uid(store)}").text


def conversation_uid(store: Store) -> str:
    found = queries.find_conversation(store, "c")
    assert found is not None
    return found.uid


@pytest.mark.parametrize(
    "block", [{"data": "not base64!"}, {"url": "data:text/plain,hello"}, {"base64": ""}, {"type": "image"}]
)
def test_what_is_not_base64_is_not_embedded(block: dict[str, Any]) -> None:
    described = describe(block)
    assert described is not None
    assert described.data is None


def test_marks_are_shared_only_if_wanted(store: Store) -> None:
    store.ingest(body("c", *turn("r")))
    found = queries.find_conversation(store, "c")
    assert found is not None
    marks.set_verdict(store, found.id, "bad", "Ada Lovelace")
    marks.rate(store, found.id, 2, "Ada Lovelace")
    marks.write_note(store, found.id, "An internal remark", "Ada Lovelace", marks.new_key())
    store.record_action("ratings", {"rating": 5, "ratingMin": 1, "ratingMax": 5, "externalConversationId": "c"})
    for word in ("Ada Lovelace", "internal remark", "2 of 5"):
        assert word not in shared(store)
        assert word in shared(store, with_marks=True)
    assert "5 of 5" in shared(store)


def test_a_browser_saves_the_file_instead_of_showing_it(store: Store) -> None:
    store.ingest(body("c", *turn("r")))
    answer = studio_client(store).get(f"/conversations/{conversation_uid(store)}/export.html")
    assert answer.headers["content-disposition"] == 'attachment; filename="conversation-c.html"'
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_control_characters_and_bidirectional_marks_are_shown_as_text(store: Store) -> None:
    hostile = "\x1b]0;title\x07 \x9b31m \u202e \u2066"
    request = {
        "externalConversationId": f"c{hostile}",
        "externalUserId": f"u{hostile}",
        "messages": [{"externalMessageId": "m", "role": "user", "content": hostile, "metadata": {hostile: hostile}}],
    }
    store.ingest(request)
    summary = queries.find_conversation(store, f"c{hostile}")
    assert summary is not None
    page = shared_page(store, summary)
    assert not [
        character for character in page if unicodedata.category(character) in ("Cc", "Cf") and character != "\n"
    ]
    assert r"\x1b]0;title\x07" in page
