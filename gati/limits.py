"""Limits of single values: texts and ids are cut when they are taken, so that nothing that waits is larger.

Standard library only, and no other module of gati.
"""

from __future__ import annotations

import hashlib
import re

MAX_ID_CHARS = 255
"""Longest id. A longer one is cut and made unique by a hash."""

MAX_WORD_CHARS = 4096
"""Length up to which a partial word at the end of a cut text is dropped, if it is not half of the text."""

_HASHED_CHARS = 2 * 1024**2
"""Of a text of more than twice this length, only beginning, end and length are hashed: the hash is made in a callback."""
_COMPARED_CHARS = 4096
"""Of a text that was cut without a hash, so much of its beginning is compared."""
_MAX_KNOWN_HASHES = 1024
_MEASURED_CHARS = 4 * 1024**2
_MARKER = re.compile(r"… \[shortened by gati, (\d+) bytes in all(?:, ([0-9a-f]{16}))?\]\Z")
_MARKER_CHARS = 80
_SEPARATORS = " \n\t\r\"'`,;<>(){}[]|"
_DIGIT = re.compile(r"\d")
_known_hashes: dict[int, str] = {}
"""Hashes of long texts by Python's own hash: a callback compares all messages of a history, again and again."""


def bounded_id(text: str) -> str:
    """Return an id of at most 255 characters, equal for equal ids only.

    A longer id becomes its first 222 characters, "-", and 32 hexadecimal digits of its SHA-256.
    """
    if len(text) <= MAX_ID_CHARS:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{text[: MAX_ID_CHARS - 33]}-{digest[:32]}"


def marker(size: int) -> str:
    """Return the note at the end of a shortened text."""
    return f"… [shortened by gati, {size} bytes in all]"


def cut_text(text: str, limit: int, whole_hash: bool = False) -> str:
    """Shorten a text of more than `limit` characters, and append a marker with its size.

    The last word is dropped if the cut divides it, because a mask recognizes secrets only when they are whole.

    Args:
        text: The text.
        limit: Characters to keep.
        whole_hash: Add a hash of the whole text to the marker, so that texts are equal only if they are equal as a
            whole. It is removed before sending, see `split_marker`.
    """
    if len(text) <= limit or (len(text) <= limit + _MARKER_CHARS and _MARKER.search(text, len(text) - _MARKER_CHARS)):
        return text
    head = _without_partial_word(text, limit)
    end = marker(_size_of(text, head))
    return f"{head}{end[:-1]}, {_known_hash_of(text)}]" if whole_hash else head + end


def split_marker(text: str) -> tuple[str, int] | None:
    """Return a shortened text without its marker, and its original size in bytes; None if it was not shortened."""
    if not text.endswith("]") or (found := _MARKER.search(text, max(0, len(text) - _MARKER_CHARS))) is None:
        return None
    return text[: found.start()], int(found[1])


def hash_of_text(text: str, limit: int | None = None) -> int:
    """Return a hash of the whole text, which it has before and after `cut_text` with `whole_hash`.

    Of a text that was cut without a hash, only the beginning counts; such texts are equal to no others.

    Args:
        text: The text, cut or whole.
        limit: The limit of `cut_text`, for a text that is not cut yet.
    """
    if limit is not None and len(text) > limit:
        return hash(("cut", _known_hash_of(text)))
    if not text.endswith("]") or (found := _MARKER.search(text, max(0, len(text) - _MARKER_CHARS))) is None:
        return hash(text)
    return hash(("cut", found[2] or text[: min(found.start(), _COMPARED_CHARS)]))


def _without_partial_word(text: str, limit: int) -> str:
    """Cut before the word, and before the groups of digits, that the limit divides.

    Example: `"pay with 4111 1111 1111 1111 now"`, cut at 20 characters → `"pay with "`.
    """
    longest = min(MAX_WORD_CHARS, limit // 2)
    end = limit
    if text[limit] not in _SEPARATORS:
        end = _start_of_word(text, limit, longest)
    # A card or phone number consists of several groups.
    for _ in range(8):
        start = _start_of_word(text, max(end - 1, 0), longest)
        if end - start > 33 or not _DIGIT.search(text, start, end):
            break
        end = start
    return text[:end]


def _start_of_word(text: str, end: int, longest: int) -> int:
    """Return where the word that reaches to `end` begins; `end` if it is longer than `longest`."""
    start = max(0, end - longest)
    found = max(text.rfind(separator, start, end) for separator in _SEPARATORS)
    if found >= 0:
        return found + 1
    return end if start else 0


def _size_of(text: str, head: str) -> int:
    """Return the size in bytes of UTF-8; of very long texts that are not ASCII an estimate."""
    if text.isascii():
        return len(text)
    if len(text) <= _MEASURED_CHARS:
        return len(text.encode("utf-8", "surrogatepass"))
    return len(text) * len(head.encode("utf-8", "surrogatepass")) // max(1, len(head))


def _known_hash_of(text: str) -> str:
    if len(text) > 2 * _HASHED_CHARS:
        return _hash_of(text)
    key = hash(text)  # Python computes it once for each text
    if (known := _known_hashes.get(key)) is None:
        if len(_known_hashes) >= _MAX_KNOWN_HASHES:
            _known_hashes.clear()
        known = _known_hashes[key] = _hash_of(text)
    return known


def _hash_of(text: str) -> str:
    if len(text) > 2 * _HASHED_CHARS:
        text = f"{len(text)} {text[:_HASHED_CHARS]}{text[-_HASHED_CHARS:]}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
