"""`gati.trace.media`: base64 and bytes in the blocks of every provider, and values that must not change."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest

from gati.trace.media import media_of, plain_blocks
from gati.trace.records import COMMAND, Message

RAW = bytes(range(256)) * 3
DATA = base64.b64encode(RAW).decode()
URL_SAFE = base64.urlsafe_b64encode(RAW).decode().rstrip("=")
ADDRESS = "https://example.com/a"


def kept(mime: str) -> dict[str, Any]:
    return {"mime": mime, "bytes": len(RAW), "sha256": hashlib.sha256(RAW).hexdigest()}


EMBEDDED: dict[str, tuple[Any, str]] = {
    "openai chat": ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DATA}"}}, "image/png"),
    "openai chat, bare address": ({"type": "image_url", "image_url": f"data:image/jpeg;base64,{DATA}"}, "image/jpeg"),
    "openai audio": ({"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}}, "audio/wav"),
    "openai file": (
        {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{DATA}"}},
        "application/pdf",
    ),
    "openai responses": ({"type": "input_image", "image_url": f"data:image/png;base64,{DATA}"}, "image/png"),
    "openai generated image": (
        {"type": "image_generation_call", "output_format": "webp", "result": DATA},
        "image/webp",
    ),
    "anthropic image": (
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}},
        "image/png",
    ),
    "anthropic document": (
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": DATA}, "title": "A"},
        "application/pdf",
    ),
    "google": ({"type": "media", "mime_type": "video/mp4", "data": RAW}, "video/mp4"),
    "google, url-safe": ({"inline_data": {"mime_type": "image/png", "data": URL_SAFE}}, "image/png"),
    "bedrock": ({"image": {"format": "png", "source": {"bytes": RAW}}}, "image/png"),
    "bedrock document": ({"document": {"format": "pdf", "name": "A", "source": {"bytes": RAW}}}, "application/pdf"),
    "langchain v0": ({"type": "image", "source_type": "base64", "data": DATA, "mime_type": "image/png"}, "image/png"),
    "langchain v1": ({"type": "image", "base64": DATA, "mime_type": "image/png"}, "image/png"),
    "langchain v1, kind unknown": ({"type": "audio", "base64": DATA}, "audio/*"),
    "bytes anywhere": ({"attachment": RAW}, "application/octet-stream"),
}


@pytest.mark.parametrize("shape", EMBEDDED)
def test_embedded_media_are_replaced_by_type_size_and_hash(shape: str):
    block, mime = EMBEDDED[shape]
    before = repr(block)
    content = [{"type": "text", "text": "What is this?"}, block]
    plain = plain_blocks(content)
    assert plain[0] == content[0]
    assert media_of(content) == [kept(mime)]
    assert json.dumps(kept(mime)) in json.dumps(plain)
    assert DATA not in json.dumps(plain)
    assert repr(block) == before


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image_url", "image_url": {"url": ADDRESS, "detail": "low"}},
        {"type": "input_image", "image_url": ADDRESS},
        {"type": "image", "source": {"type": "url", "url": ADDRESS}},
        {"type": "image", "source_type": "url", "url": ADDRESS},
        {"type": "image", "url": ADDRESS},
        {"type": "media", "file_uri": ADDRESS},
    ],
)
def test_urls_are_kept(block: dict[str, Any]):
    assert plain_blocks([block]) == [block]
    assert media_of([block]) == [{"url": ADDRESS}]


def test_the_type_of_a_referenced_file_is_kept():
    assert media_of([{"type": "image", "url": ADDRESS, "mime_type": "image/png"}]) == [
        {"mime": "image/png", "url": ADDRESS}
    ]


@pytest.mark.parametrize(
    "content",
    [
        "data: is the plural of datum",
        [{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "test"}}],
        [{"type": "image", "data": "not base64!"}],
        [{"type": "citation", "url": ADDRESS}],
    ],
)
def test_text_is_not_media(content: Any):
    assert plain_blocks(content) == content
    assert media_of(content) == []


PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + RAW * 4).decode()


@pytest.mark.parametrize(
    "value",
    [PNG, {"b64": PNG}, {"image_base64": PNG}, ["a", PNG], [{"type": "text", "text": PNG}], {"page": {"shot": PNG}}],
)
def test_bare_base64_is_media_wherever_it_is(value: Any):
    assert PNG[50:90] not in repr(plain_blocks(value))
    (found,) = media_of(value)
    assert found["mime"] == "image/png"
    assert found["bytes"] == len(RAW) * 4 + 8


def test_encoded_data_of_an_unknown_type_is_media():
    (found,) = media_of([base64.b64encode(hashlib.shake_256(b"seed").digest(3000)).decode()])
    assert found["mime"] == "application/octet-stream"
    assert found["bytes"] == 3000


@pytest.mark.parametrize(
    "text",
    [
        "x" * 100_000,
        "ab" * 5_000,
        "word " * 1_000,
        "0123456789abcdef" * 400,
        PNG[:400],
        "https://x/" + "a" * 5_000,
        "データ" * 900,
    ],
)
def test_a_long_text_that_is_no_base64_stays_text(text: str):
    assert plain_blocks(text) == text
    assert plain_blocks({"text": text}) == {"text": text}


def test_random_ids_of_content_blocks_are_left_out_and_ids_of_calls_stay():
    block = {"type": "text", "text": "Sunny.", "id": "lc_0f6d8d3e"}
    assert plain_blocks([block]) == [{"type": "text", "text": "Sunny."}]
    call = {"type": "tool_call", "id": "lc_0f6d8d3e", "name": "weather"}
    assert plain_blocks([call]) == [call]


def test_messages_and_commands_inside_values_have_names_for_their_parts():
    values = {"best": Message("ai", "draft", "m1"), "next": {COMMAND: {"goto": "math", "update": {"a": 1}}}}
    assert plain_blocks(values) == {"best": {"role": "ai", "content": "draft"}, "next": {"goto": "math"}}


def test_the_audio_of_a_spoken_answer_is_media():
    answer = Message("ai", "", additional={"audio": {"id": "a", "data": DATA, "transcript": "Hi."}})
    assert media_of(answer) == [kept("audio/*")]


def test_truncated_base64_is_removed_too():
    cut = DATA[:101]
    assert media_of([{"type": "image", "base64": cut, "mime_type": "image/png"}])[0]["mime"] == "image/png"


def test_recursive_values_are_cut():
    endless: list[Any] = []
    endless += [endless, endless]
    assert "…" in str(plain_blocks(endless))
