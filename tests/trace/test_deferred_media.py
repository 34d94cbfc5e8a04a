from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from gati.trace import deferred_media
from gati.trace.deferred_media import DeferredMedia, describe_all, is_media, unhashed
from gati.trace.media import media_of, plain_blocks

RAW = bytes(range(256)) * 1500 + b"end"
HASHED = {"bytes": len(RAW), "sha256": hashlib.sha256(RAW).hexdigest()}
CODED = base64.b64encode(RAW).decode()


@pytest.fixture(autouse=True)
def _none_left() -> None:
    unhashed.clear()


@pytest.mark.parametrize(
    ("content", "mime"),
    [
        (RAW, "application/octet-stream"),
        (CODED, "application/octet-stream"),
        (base64.urlsafe_b64encode(RAW).decode().rstrip("="), "application/octet-stream"),
        (base64.encodebytes(RAW).decode(), "application/octet-stream"),
        (f"data:image/png;base64,{CODED}", "image/png"),
    ],
    ids=["bytes", "base64", "url-safe", "lines", "data url"],
)
def test_media_become_a_description_of_their_decoded_content(content: Any, mime: str) -> None:
    media = DeferredMedia(content)
    assert media == {}
    describe_all()
    assert media == {"mime": mime, **HASHED}
    assert media._content is None
    assert not unhashed


def test_a_text_that_is_no_base64_is_hashed_as_it_is() -> None:
    text = "€" * 1000
    media = DeferredMedia(text)
    media.describe()
    assert (media["bytes"], media["sha256"]) == (3000, hashlib.sha256(text.encode()).hexdigest())


@pytest.mark.parametrize("hashed_before", [True, False])
def test_a_block_gives_its_media_the_type(hashed_before: bool) -> None:
    block = {"type": "image", "mime_type": "image/webp", "base64": DeferredMedia(CODED)}
    if hashed_before:
        describe_all()
    described = {"mime": "image/webp", **HASHED}
    assert plain_blocks([block]) == [{"type": "image", "mime_type": "image/webp", "base64": described}]
    assert media_of([block]) == [described]
    assert plain_blocks(DeferredMedia(f"data:image/png;base64,{CODED}"))["mime"] == "image/png"


@pytest.mark.parametrize(
    ("content", "key", "expected"),
    [
        (RAW, None, True),
        (f"data:image/png;base64,{CODED}", None, True),
        ("data: " + "x" * 1000, None, False),
        (CODED, "data", True),
        (CODED, "text", True),
        ("x" * 1000, "text", False),
        ("a text with words, in all " * 100, "data", False),
    ],
)
def test_media_are_recognized_by_their_beginning_and_key(content: Any, key: Any, expected: bool) -> None:
    assert is_media(content, key) is expected


def test_pieces_do_not_change_the_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deferred_media, "_PIECE", 7)
    media = DeferredMedia(base64.encodebytes(RAW[:2000]).decode())
    media.describe()
    assert media["sha256"] == hashlib.sha256(RAW[:2000]).hexdigest()
