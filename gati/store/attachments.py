"""Describe the pictures, sounds and files of a message by their kind, name, media type and size. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

MAX_SHOWN = 50
"""Attachments of one message that are described."""

_DEEPEST = 8
_KINDS = {
    "image": "picture",
    "picture": "picture",
    "photo": "picture",
    "audio": "sound",
    "sound": "sound",
    "voice": "sound",
    "video": "video",
}
_NAME_KEYS = ("filename", "file_name", "name", "title")
_TYPE_KEYS = ("mime_type", "mimeType", "media_type", "mediaType", "mime", "content_type", "contentType")
_ADDRESS_KEYS = ("url", "image_url", "file_url", "uri", "file_uri", "fileUri", "address")
_SIZE_KEYS = ("bytes", "size", "size_bytes")
_ID_KEYS = ("file_id", "id")
_DATA_KEYS = ("data", "base64", "b64_json", "file_data", "fileData")
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w.+-]+=[\w.+-]*)*;base64,", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+", re.ASCII)
_UNKNOWN_TYPE = "application/octet-stream"


class EmbeddedData(NamedTuple):
    """A file inside a message: its media type and its content in base64."""

    media_type: str
    base64: str


@dataclass(frozen=True)
class Attachment:
    """A picture, a sound, a video or a file of a message. Unknown values are None.

    Attributes:
        kind: "picture", "sound", "video" or "file".
        name: The name of the file; the last part of the address, or the provider's id, if there is none.
        media_type: Such as ``image/jpeg``.
        size: Size in bytes.
        address: Address of a file that was not embedded.
        block: The block of content that was described.
    """

    kind: str
    name: str | None = None
    media_type: str | None = None
    size: int | None = None
    address: str | None = None
    block: Any = field(default=None, compare=False, repr=False)

    @property
    def data(self) -> EmbeddedData | None:
        """The file itself, if the message contains it."""
        return _data_in(list(_objects_in(self.block)), self.media_type) if isinstance(self.block, dict) else None

    @property
    def facts(self) -> list[str]:
        """Media type, size and host, as far as they are known."""
        host = _host_of(self.address)
        size = None if self.size is None else format_size(self.size)
        return [fact for fact in (self.media_type, size, f"at {host}" if host else None) if fact]

    def __str__(self) -> str:
        """Return for example ``picture my-photo.jpg (image/jpeg, 12 kB)``."""
        label = f"{self.kind} {self.name}" if self.name else self.kind
        return f"{label} ({', '.join(self.facts)})" if self.facts else label


def stored_attachments(message: dict[str, Any]) -> list[Attachment]:
    """Return the attachments of a message as it was received: those in `attachments` of its properties."""
    found = (message.get("properties") or {}).get("attachments")
    items = found if isinstance(found, list) else [] if found is None else [found]
    return [described for item in items[:MAX_SHOWN] if (described := describe(item)) is not None]


def describe(item: Any) -> Attachment | None:
    """Describe a block of content as LangChain and providers write it, or an address or a name; None for others.

    ``{"type": "image_url", "image_url": {"url": "https://example.org/a.jpg"}}`` →
    ``Attachment("picture", "a.jpg", address="https://example.org/a.jpg")``
    """
    if isinstance(item, str) and item:
        item = {"url": item} if _is_address(item) else {"name": item}
    if not isinstance(item, dict):
        return None
    objects = list(_objects_in(item))
    address = next((text for text in _texts(objects, _ADDRESS_KEYS) if _is_address(text)), None)
    media_type = next((text for text in _texts(objects, _TYPE_KEYS) if "/" in text), None)
    content = _data_in(objects, media_type)
    if content is not None and content.media_type != _UNKNOWN_TYPE:
        media_type = media_type or content.media_type
    media_type = media_type or _type_of_data(objects)
    size = _stated_size(objects)
    if size is None and content is not None:
        size = len(content.base64) * 3 // 4 - content.base64[-2:].count("=")
    name = next(iter(_texts(objects, _NAME_KEYS)), None) or _name_in(address)
    name = name or next(iter(_texts(objects[:2], _ID_KEYS)), None)
    return Attachment(_kind_of(objects, media_type), name, media_type, size, address, item)


def format_size(size: int) -> str:
    """Format a size in bytes: 12345 → ``12 kB``."""
    for unit, bytes_per_unit in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= bytes_per_unit:
            return f"{size / bytes_per_unit:.3g} {unit}"
    return f"{size} {'byte' if size == 1 else 'bytes'}"


def _objects_in(value: dict[str, Any], depth: int = 0) -> Iterator[dict[str, Any]]:
    """Yield an object and the objects inside it, outermost first."""
    yield value
    if depth < _DEEPEST:
        for item in value.values():
            if isinstance(item, dict):
                yield from _objects_in(item, depth + 1)


def _texts(objects: list[dict[str, Any]], keys: tuple[str, ...]) -> list[str]:
    return [text for value in objects for key in keys if isinstance(text := value.get(key), str) and text]


def _stated_size(objects: list[dict[str, Any]]) -> int | None:
    sizes = (value.get(key) for value in objects for key in _SIZE_KEYS)
    return next((size for size in sizes if isinstance(size, int) and not isinstance(size, bool) and size >= 0), None)


def _kind_of(objects: list[dict[str, Any]], media_type: str | None) -> str:
    hints = [*([media_type] if media_type else []), *_texts(objects, ("type", "format")), *objects[0]]
    for hint in hints:
        for word, kind in _KINDS.items():
            if word in hint:
                return kind
    return "file"


def _type_of_data(objects: list[dict[str, Any]]) -> str | None:
    """Return the media type for the format of a sound: ``{"input_audio": {"format": "wav"}}`` → ``audio/wav``."""
    formats = [text for value in objects[1:] if isinstance(text := value.get("format"), str) and text.isalnum()]
    return f"audio/{formats[0]}" if formats and "audio" in str(objects[0].get("type")) else None


def _data_in(objects: list[dict[str, Any]], media_type: str | None) -> EmbeddedData | None:
    """Return the first text that is a data URL, or is base64 under a key for data."""
    for value in objects:
        for key, text in value.items():
            if not isinstance(text, str):
                continue
            if found := _DATA_URL.match(text):
                media_type, text = found[1], text[found.end() :]
            elif key not in _DATA_KEYS:
                continue
            content = "".join(text.split()).replace("-", "+").replace("_", "/")
            if content and _BASE64.fullmatch(content):
                known = media_type if media_type and _MEDIA_TYPE.fullmatch(media_type) else _UNKNOWN_TYPE
                return EmbeddedData(known.lower(), content)
    return None


def _is_address(text: str) -> bool:
    return text.startswith(("http://", "https://", "gs://", "s3://", "file://", "ftp://"))


def _host_of(address: str | None) -> str | None:
    try:
        return urlsplit(address or "").hostname
    except ValueError:
        return None


def _name_in(address: str | None) -> str | None:
    """Return the last part of an address: ``https://example.org/a%20b.jpg?w=1`` → ``a b.jpg``."""
    try:
        path = urlsplit(address or "").path
    except ValueError:
        return None
    return unquote(path.rstrip("/").rpartition("/")[2]) or None
