"""Labels of pictures, sounds and files, in the forms that LangChain, providers and other clients use."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gati.store.attachments import describe, format_size, stored_attachments

DATA = {"mime": "image/png", "bytes": 12_345, "sha256": "ab"}


@pytest.mark.parametrize(("block", "label"), [
    ({"type": "image_url", "image_url": {"url": "https://example.org/a/my%20photo.jpg?w=2"}}, "picture my photo.jpg (at example.org)"),
    ({"type": "image_url", "image_url": "https://example.org/b.png"}, "picture b.png (at example.org)"),
    ({"type": "image_url", "image_url": {"url": DATA}}, "picture (image/png, 12.3 kB)"),
    ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}}, "picture (image/png, 12.3 kB)"),
    ({"type": "file", "base64": {"mime": "application/pdf", "bytes": 8, "sha256": "c"}, "mime_type": "application/pdf", "filename": "invoice.pdf"},
     "file invoice.pdf (application/pdf, 8 bytes)"),
    ({"type": "file", "file": {"filename": "a.csv", "file_data": DATA | {"mime": "text/csv"}}}, "file a.csv (text/csv, 12.3 kB)"),
    ({"type": "file", "file_id": "file-7"}, "file file-7"),
    ({"type": "input_audio", "input_audio": {"format": "wav", "data": {"mime": "audio", "bytes": 1, "sha256": "d"}}}, "sound (audio/wav, 1 byte)"),
    ({"type": "video", "url": "https://example.org/clip.mp4", "mime_type": "video/mp4"}, "video clip.mp4 (video/mp4, at example.org)"),
    ({"name": "scan.tiff", "content_type": "image/tiff", "size": 2_000_000}, "picture scan.tiff (image/tiff, 2 MB)"),
    ("https://example.org/a.txt", "file a.txt (at example.org)"),
    ("notes.txt", "file notes.txt"),
    (DATA, "picture (image/png, 12.3 kB)"),
    ({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGg=="}}, "picture (image/png, 7 bytes)"),
    ({"type": "audio", "mime_type": "audio/wav", "base64": "UklGRg=="}, "sound (audio/wav, 4 bytes)"),
    ({"type": "input_audio", "input_audio": {"format": "wav", "data": "UklGRgAA"}}, "sound (audio/wav, 6 bytes)"),
])  # fmt: skip
def test_an_attachment_is_described_by_kind_name_type_and_size(block: Any, label: str):
    assert str(describe(block)) == label


def test_attachments_are_read_from_the_properties_of_a_message():
    message = {"content": "", "properties": {"attachments": [{"type": "image", "url": "https://x.org/a.png"}, 7, None]}}
    assert [attachment.name for attachment in stored_attachments(message)] == ["a.png"]
    assert stored_attachments({}) == stored_attachments({"properties": {}}) == []


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.text() | st.sampled_from(["url", "type", "mime", "bytes", "name"]), inner)
        ),
    )
)
def test_no_value_fails(value: Any):
    assert isinstance(
        [str(attachment) for attachment in stored_attachments({"properties": {"attachments": value}})], list
    )


def test_sizes_have_a_unit():
    assert [format_size(size) for size in (0, 1, 999, 1000, 12_345, 5_000_000, 3_000_000_000)] == [
        "0 bytes", "1 byte", "999 bytes", "1 kB", "12.3 kB", "5 MB", "3 GB",
    ]  # fmt: skip
