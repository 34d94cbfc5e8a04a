"""Pictures, sounds and files → their kind, size and hash; addresses stay.

Base64 and bytes are found by what stands around them (a type, a media type, a format), which
holds for every provider's blocks. Pure, works on plain values, and never raises.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from types import NoneType
from typing import Any

from gati.trace.records import Message

_MAX_DEPTH = 24
_MAX_VALUES = 100_000
"""Most values looked at in one content; snapshots are smaller, other callers' values may not be."""

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?[^,]{0,200};base64,")
_BASE64 = re.compile(r"[A-Za-z0-9+/_\s-]+={0,2}\s*")
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
_NUMBERS = frozenset({int, float, bool, NoneType})
_RAW_KEYS = frozenset({"data", "base64", "bytes", "file_data", "b64_json", "result"})
_ADDRESS_KEYS = ("url", "image_url", "file_url", "file_uri", "fileUri", "uri", "file_id")


def plain_blocks(value: Any) -> Any:
    """A copy in which each piece of media is ``{mime, bytes, sha256}``.
    Deeper than 24 levels becomes ``"…"``.
    """
    kind = type(value)
    if kind in _NUMBERS or (kind is str and value[:5] != "data:"):
        return value
    if kind is list and not any(type(item) is not str or item[:5] == "data:" for item in value):
        return value.copy()
    return _MediaWalk().plain(value, None, _MAX_DEPTH)


def media_of(value: Any) -> list[dict[str, Any]]:
    """The media of a message or of its content, in order: ``{mime, bytes, sha256}``, or
    ``{mime, url}`` (`mime` where it was told) for what is only referred to.
    """
    walk = _MediaWalk()
    if isinstance(value, Message):
        walk.plain(value.content, None, _MAX_DEPTH)
        walk.plain(value.additional, None, _MAX_DEPTH)
    else:
        walk.plain(value, None, _MAX_DEPTH)
    return walk.found


class _MediaWalk:
    """One pass over a content; `found` is what it met."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []
        self.left = _MAX_VALUES

    def plain(self, value: Any, mime: str | None, depth: int) -> Any:
        self.left -= 1
        if isinstance(value, str):
            return self._data_url(value) if value[:5] == "data:" else value
        if isinstance(value, (bytes, bytearray)):
            return self._keep(mime, bytes(value))
        if isinstance(value, (dict, list, tuple)):
            if depth == 0 or self.left < 0:
                return "…"
            if isinstance(value, dict):
                return self._block(value, mime, depth - 1)
            return [self.plain(item, mime, depth - 1) for item in value]
        return value

    def _block(self, block: dict[Any, Any], outer: str | None, depth: int) -> dict[Any, Any]:
        mime = _mime(block) or outer
        copied = {}
        for key, item in list(block.items()):
            inner = _family_mime(key, item) or mime if isinstance(item, dict) else mime
            if isinstance(item, str) and inner and key in _RAW_KEYS and block.get("type") != "text":
                copied[key] = self._base64(item, inner)
            else:
                copied[key] = self.plain(item, inner, depth)
        self._address(block, mime)
        return copied

    def _address(self, block: dict[Any, Any], mime: str | None) -> None:
        # A block with a media type around it whose content is an address is media all the same.
        if mime is None:
            return
        for key in _ADDRESS_KEYS:
            url = block.get(key)
            if isinstance(url, str) and url and url[:5] != "data:":
                told = not mime.endswith("/*") and mime != "application/octet-stream"
                self.found.append({"mime": mime, "url": url} if told else {"url": url})
                return

    def _data_url(self, text: str) -> Any:
        match = _DATA_URL.match(text)
        return self._keep(match[1], _decoded(text[match.end() :])) if match else text

    def _base64(self, text: str, mime: str) -> Any:
        if text[:5] == "data:":
            return self._data_url(text)
        return self._keep(mime, _decoded(text)) if text and _BASE64.fullmatch(text) else text

    def _keep(self, mime: str | None, content: bytes) -> dict[str, Any]:
        described = {
            "mime": mime or "application/octet-stream",
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        self.found.append(described)
        return described


def _mime(block: dict[Any, Any]) -> str | None:
    """The media type that a block tells of its data, or the family that its type names."""
    if _TYPE_KEYS.isdisjoint(block):
        return None
    for key in _MIME_KEYS:
        if isinstance(said := block.get(key), str) and said:
            return said
    kinds = [kind for key in ("type", "source_type") if isinstance(kind := block.get(key), str)]
    family = next((_FAMILIES[kind] for kind in kinds if kind in _FAMILIES), None)
    return _mime_of_family(family, block.get("format") or block.get("output_format"))


def _family_mime(key: Any, inner: dict[Any, Any]) -> str | None:
    """The media type that a key names for what stands below it (Bedrock: ``{"image": {…}}``)."""
    return _mime(inner) or _mime_of_family(_FAMILIES.get(key), inner.get("format")) if key in _FAMILIES else None


def _mime_of_family(family: str | None, form: Any) -> str | None:
    if family is None:
        return None
    if isinstance(form, str) and form:
        return f"{family}/{form}"
    return "application/octet-stream" if family == "application" else f"{family}/*"


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.translate(_URL_SAFE) + "==")
    except (binascii.Error, ValueError):  # shortened on its way; the text itself is what can be told
        return text.encode("utf-8", "surrogatepass")


_URL_SAFE = str.maketrans("-_", "+/")
