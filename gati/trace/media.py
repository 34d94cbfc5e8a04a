"""Replace images, audio and files by their MIME type, size and hash; keep URLs.

Base64 and bytes are recognized by the keys around them (a type, a MIME type, a format), which works
for the blocks of every provider. These functions are pure, take plain values, and never raise.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from types import NoneType
from typing import Any

from gati.trace import bare_base64
from gati.trace.deferred_media import DeferredMedia
from gati.trace.records import COMMAND, Message

_MAX_DEPTH = 24
_MAX_VALUES = 100_000
"""Most values copied from one content. Snapshots are smaller; values of other callers may not be."""

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?[^,]{0,200};base64,")
_BASE64 = re.compile(r"[A-Za-z0-9+/_\s-]++={0,2}+\s*+")
_MIME_KEYS = ("mime_type", "media_type", "mimeType", "mediaType")
_TYPE_KEYS = frozenset((*_MIME_KEYS, "type", "source_type"))
_FAMILIES = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "image_generation_call": "image",
    "audio": "audio",
    "input_audio": "audio",
    "video": "video",
    "document": "application",
    "file": "application",
    "input_file": "application",
    "media": "application",
    "base64": "application",
    "inline_data": "application",
    "inlineData": "application",
}
_GENERATED_ID = "lc_"
"""Start of the random ids that LangChain gives to content blocks, such as those of MCP tools."""
_IDENTIFIED = frozenset({"text", "text-plain", "image", "audio", "video", "file", "reasoning", "non_standard"})
"""Types of the blocks whose random ids are left out. The id of a tool call links it to its result."""
_NUMBERS = frozenset({int, float, bool, NoneType})
_RAW_KEYS = frozenset({"data", "base64", "bytes", "file_data", "b64_json", "result"})
_ADDRESS_KEYS = ("url", "image_url", "file_url", "file_uri", "fileUri", "uri", "file_id")


def plain_blocks(value: Any) -> Any:
    """Return a copy with embedded media replaced by ``{mime, bytes, sha256}``.

    Values nested deeper than 24 levels become ``"…"``.
    """
    kind = type(value)
    if kind in _NUMBERS or (kind is str and _is_plain_text(value)):
        return value
    if kind is list and all(type(item) is str and _is_plain_text(item) for item in value):
        return value.copy()
    return _MediaWalk().plain(value, None, _MAX_DEPTH)


def media_of(value: Any) -> list[dict[str, Any]]:
    """Return the media of a message or of its content, in order.

    Embedded media are ``{mime, bytes, sha256}``, referenced ones ``{mime, url}`` or, if the type is
    not known, ``{url}``.
    """
    walk = _MediaWalk()
    if isinstance(value, Message):
        walk.plain(value.content, None, _MAX_DEPTH)
        walk.plain(value.additional, None, _MAX_DEPTH)
    else:
        walk.plain(value, None, _MAX_DEPTH)
    return walk.media


class _MediaWalk:
    """Copies one content; `media` are the media in it, `left` the values that may still be copied."""

    def __init__(self) -> None:
        self.media: list[dict[str, Any]] = []
        self.left = _MAX_VALUES

    def plain(self, value: Any, mime: str | None, depth: int) -> Any:
        self.left -= 1
        if isinstance(value, str):
            return value if _is_plain_text(value) else self._describe_text(value)
        if isinstance(value, (bytes, bytearray)):
            return self._describe(mime, bytes(value))
        if isinstance(value, Message):
            value = value.as_dict()
        if isinstance(value, (dict, list, tuple)):
            if type(value) is DeferredMedia:
                return self._describe_deferred(value, mime)
            if depth == 0 or self.left < 0:
                return "…"
            if isinstance(value, dict):
                if COMMAND in value:
                    command = value[COMMAND]
                    value = {key: command[key] for key in ("goto", "graph") if command.get(key)}
                return self._copy_block(value, mime, depth - 1)
            return [self.plain(item, mime, depth - 1) for item in value]
        return value

    def _copy_block(self, block: dict[Any, Any], outer_mime: str | None, depth: int) -> dict[Any, Any]:
        mime = _mime_of(block) or outer_mime
        copied = {}
        for key, item in list(block.items()):
            if key == "id" and _is_generated_id(item, block.get("type")):
                continue
            inner_mime = _mime_named_by_key(key, item) or mime if isinstance(item, dict) else mime
            if type(item) is DeferredMedia:
                copied[key] = self._describe_deferred(item, mime)
            elif isinstance(item, str) and inner_mime and key in _RAW_KEYS and block.get("type") != "text":
                copied[key] = self._describe_base64(item, inner_mime)
            else:
                copied[key] = self.plain(item, inner_mime, depth)
        self._add_url(block, mime)
        return copied

    def _add_url(self, block: dict[Any, Any], mime: str | None) -> None:
        """Add the media that a block references by URL, if its MIME type marks it as media."""
        if mime is None:
            return
        for key in _ADDRESS_KEYS:
            url = block.get(key)
            if isinstance(url, str) and url and url[:5] != "data:":
                is_exact = not mime.endswith("/*") and mime != "application/octet-stream"
                self.media.append({"mime": mime, "url": url} if is_exact else {"url": url})
                return

    def _describe_text(self, text: str) -> Any:
        """Describe a text that is nothing but encoded media; replace such a part of any other text by a note."""
        if text[:5] == "data:" and type(described := self._describe_data_url(text)) is dict:
            return described
        run = bare_base64.find(text)
        if run is not None and run.end() - run.start() == len(text):
            mime = bare_base64.mime_of(text)
            return text if mime is None else self._describe(mime, _decode_base64(text))
        return bare_base64.without_media(text)

    def _describe_data_url(self, text: str) -> Any:
        match = _DATA_URL.match(text)
        return self._describe(match[1], _decode_base64(text[match.end() :])) if match else text

    def _describe_base64(self, text: str, mime: str) -> Any:
        if text[:5] == "data:":
            return self._describe_data_url(text)
        return self._describe(mime, _decode_base64(text)) if text and _BASE64.fullmatch(text) else text

    def _describe_deferred(self, media: DeferredMedia, mime: str | None) -> dict[str, Any]:
        media.describe()
        exact = media["mime"] if media["mime"] != "application/octet-stream" or mime is None else mime
        described = {"mime": exact, "bytes": media["bytes"], "sha256": media["sha256"]}
        self.media.append(described)
        return described

    def _describe(self, mime: str | None, content: bytes) -> dict[str, Any]:
        described = {
            "mime": mime or "application/octet-stream",
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        self.media.append(described)
        return described


def _mime_of(block: dict[Any, Any]) -> str | None:
    """Return the MIME type of a block's data: as given, else from its type and format.

    Example: ``{"type": "image", "format": "png"}`` → ``"image/png"``, without format ``"image/*"``.
    """
    if _TYPE_KEYS.isdisjoint(block):
        return None
    for key in _MIME_KEYS:
        if isinstance(mime := block.get(key), str) and mime:
            return mime
    kinds = [kind for key in ("type", "source_type") if isinstance(kind := block.get(key), str)]
    family = next((_FAMILIES[kind] for kind in kinds if kind in _FAMILIES), None)
    return _mime_of_family(family, block.get("format") or block.get("output_format"))


def _mime_named_by_key(key: Any, block: dict[Any, Any]) -> str | None:
    """Return the MIME type of a block whose key names its type, as Bedrock does: ``{"image": {"format": "png"}}``."""
    if key not in _FAMILIES:
        return None
    return _mime_of(block) or _mime_of_family(_FAMILIES[key], block.get("format"))


def _mime_of_family(family: str | None, form: Any) -> str | None:
    if family is None:
        return None
    if isinstance(form, str) and form:
        return f"{family}/{form}"
    return "application/octet-stream" if family == "application" else f"{family}/*"


def _is_generated_id(value: Any, block_type: Any) -> bool:
    return (
        isinstance(value, str)
        and value.startswith(_GENERATED_ID)
        and isinstance(block_type, str)
        and block_type in _IDENTIFIED
    )


def _is_plain_text(text: str) -> bool:
    """Return True if a text contains no encoded media."""
    return text[:5] != "data:" and (len(text) < bare_base64.MIN_CHARS or bare_base64.find(text) is None)


def _decode_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text.translate(_URL_SAFE) + "==")
    except (binascii.Error, ValueError):  # truncated somewhere; hash the text itself
        return text.encode("utf-8", "surrogatepass")


_URL_SAFE = str.maketrans("-_", "+/")
