"""Recognize base64 that no block or key around it marks as media.

A picture may be the value of a template variable, the result of a tool, or a part of its JSON.
"""

from __future__ import annotations

import base64
import binascii
import re

MIN_CHARS = 1_000
"""Length from which a text without spaces may be encoded media."""
_MIN_LETTERS = 40
"""Different characters at the start of encoded data of an unknown type. Other long words have fewer."""
_RUN = re.compile(r"[A-Za-z0-9+/_-]{1000,}={0,2}")
_FILE_STARTS = (
    (b"\x89PNG\r\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"ID3", "audio/mpeg"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"PK\x03\x04", "application/zip"),
)
"""First bytes of a file → its MIME type."""
_URL_SAFE = str.maketrans("-_", "+/")


def find(text: str) -> re.Match[str] | None:
    """Return the first part of a text that may be encoded media; None if there is none."""
    return _RUN.search(text) if len(text) >= MIN_CHARS else None


def is_only_media(text: str) -> bool:
    """Return True if a text is nothing but encoded media, bare or as a data URL."""
    if len(text) < MIN_CHARS:
        return False
    encoded = text.partition(";base64,")[2] if text.startswith("data:") else text
    return _RUN.fullmatch(encoded) is not None and mime_of(encoded) is not None


def mime_of(encoded: str) -> str | None:
    """Return the MIME type of encoded data; None for text that only looks like it, such as a repeated letter.

    Data of an unknown type is "application/octet-stream".
    """
    try:
        start = base64.b64decode(encoded[:64].translate(_URL_SAFE))
    except (binascii.Error, ValueError):
        return None
    if (mime := _mime_of_bytes(start)) is not None:
        return mime
    return "application/octet-stream" if len(set(encoded[:4096])) >= _MIN_LETTERS else None


def without_media(text: str) -> str:
    """Replace encoded media inside a text by a note, as in a long JSON or in the beginning of a shortened text.

    Example: `'{"png": "iVBORw0K…"}'` → `'{"png": "[image/png, 90008 bytes]"}'`.
    """
    return _RUN.sub(_described, text)


def _described(run: re.Match[str]) -> str:
    encoded = run[0]
    mime = mime_of(encoded)
    return encoded if mime is None else f"[{mime}, {len(encoded.rstrip('=')) * 3 // 4} bytes]"


def _mime_of_bytes(start: bytes) -> str | None:
    if start[:4] == b"RIFF":
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav"}.get(start[8:12])
    if start[4:8] == b"ftyp":
        return "video/mp4"
    return next((mime for beginning, mime in _FILE_STARTS if start.startswith(beginning)), None)
