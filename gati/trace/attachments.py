"""Find the pictures, sounds and files in a model's response, without their data."""

from __future__ import annotations

from typing import Any

from gati.trace.media import media_of, plain_blocks
from gati.trace.records import Message

_MEDIA_TYPES = ("image", "audio", "video", "file", "document", "media", "input_", "inline")
"""Beginnings of the types of blocks that are media. Reasoning and tools have events of their own."""


def attachments_of(message: Message) -> list[dict[str, Any]]:
    """Return the blocks of an answer that are media, with their data replaced by MIME type, size and hash."""
    blocks = message.content if isinstance(message.content, list) else []
    additional = message.additional or {}
    outputs = additional.get("tool_outputs")
    blocks = [*blocks, *(outputs if isinstance(outputs, list) else []), *_spoken(additional.get("audio"))]
    return [plain_blocks(block) for block in blocks if _is_media(block)]


def _is_media(block: Any) -> bool:
    if not isinstance(block, dict):
        return False
    kind = block.get("type")
    return (kind is None or (isinstance(kind, str) and kind.startswith(_MEDIA_TYPES))) and bool(media_of(block))


def _spoken(audio: Any) -> list[dict[str, Any]]:
    """Return a spoken answer as a block: OpenAI's is an object with data and transcript, Google's the bytes."""
    if isinstance(audio, bytes):
        return [{"type": "audio", "data": audio}]
    if not isinstance(audio, dict):
        return []
    return [{"type": "audio", **{key: audio[key] for key in ("id", "data") if audio.get(key)}}]
