"""Large embedded media, which the callback only references and the background thread hashes.

Hashing costs milliseconds per megabyte, too much for a callback. The first thing that the background thread does with
new records is to replace the content of the media in them by its description.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections import deque
from typing import Any

from gati.trace import bare_base64

_PIECE = 128 * 1024
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?[^,]{0,200};base64,")
_BASE64_HEAD = re.compile(r"[A-Za-z0-9+/_=\s-]{256}")
_RAW_KEYS = frozenset({"data", "base64", "bytes", "file_data", "b64_json", "result"})
_REMOVED = str.maketrans("-_", "+/", " \t\r\n=")


class DeferredMedia(dict[str, Any]):
    """Becomes ``{mime, bytes, sha256}`` as soon as `describe` is called; empty until then."""

    __slots__ = ("_content", "size")

    def __init__(self, content: str | bytes) -> None:
        self._content: str | bytes | None = content
        self.size = len(content)
        unhashed.append(self)

    def describe(self) -> None:
        """Hash the content, and forget it. Does nothing the second time."""
        content, self._content = self._content, None
        if content is None:
            return
        mime, start = None, 0
        if isinstance(content, str):
            url = _DATA_URL.match(content)
            mime, start = (url[1], url.end()) if url is not None else (bare_base64.mime_of(content), 0)
        size, digest = _hash_bytes(content) if isinstance(content, bytes) else _hash_base64(content, start)
        self.update(mime=mime or "application/octet-stream", bytes=size, sha256=digest)


unhashed: deque[DeferredMedia] = deque()
"""Media whose content was not hashed yet."""


def describe_all() -> None:
    """Hash the media of all new records. Called by the background thread."""
    while unhashed:
        unhashed.popleft().describe()


def is_media(content: str | bytes, key: Any) -> bool:
    """Return True if a large value under `key` is embedded media, at a cost that does not grow with its size."""
    if isinstance(content, bytes):
        return True
    if content[:5] == "data:":
        return _DATA_URL.match(content) is not None
    if _BASE64_HEAD.match(content) is None or _BASE64_HEAD.match(content[-256:]) is None:
        return False
    return key in _RAW_KEYS or (" " not in content[:4096] and bare_base64.mime_of(content) is not None)


def _hash_bytes(content: bytes) -> tuple[int, str]:
    return len(content), hashlib.sha256(content).hexdigest()


def _hash_base64(text: str, start: int) -> tuple[int, str]:
    """Decode in pieces, so that a large file needs little memory. Text that is not base64 is hashed as it is."""
    digest, size, rest = hashlib.sha256(), 0, ""
    try:
        for at in range(start, len(text), _PIECE):
            piece = rest + text[at : at + _PIECE].translate(_REMOVED)
            whole = len(piece) - len(piece) % 4
            rest = piece[whole:]
            decoded = binascii.a2b_base64(piece[:whole])
            digest.update(decoded)
            size += len(decoded)
        decoded = binascii.a2b_base64(rest + "==") if rest else b""
    except (binascii.Error, ValueError):
        return _hash_bytes(text[start:].encode("utf-8", "surrogatepass"))
    digest.update(decoded)
    return size + len(decoded), digest.hexdigest()
