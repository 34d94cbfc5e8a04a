"""Scripts that put no spaces between words, and what counts as a word, a name or a sentence in any script."""

from __future__ import annotations

import re

CJK = (
    r"\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Chinese and Japanese, for a character class."""
HANGUL = r"\u1100-\u11ff\u3130-\u318f\uac00-\ud7af"
"""Korean, for a character class. It has spaces, but attaches particles to words."""
_OTHERS = r"\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff"
"""Thai, Lao, Tibetan, Burmese and Khmer."""
SPACELESS = CJK + _OTHERS
"""All scripts without spaces, for a character class."""

_SENTENCE_WITHOUT_SPACES = re.compile(f"[{CJK}]{{4}}|[{_OTHERS}]{{8}}")
_ONE_WORD = re.compile(rf"\s*(?:[^\s{SPACELESS}]{{1,20}}|[{SPACELESS}]{{1,4}})\s*")
_IN_IDS = re.compile(r"[\d@/\\_=]")
"""Characters of ids, addresses, paths and assignments."""
_MARKS = ("?", "!", ":", ".", "\u2026", "\u3002", "\uff01", "\uff1f", "\uff1a")
"""Ends of what somebody says or asks."""
_MIN_WORDS = 3
_READ_CHARS = 2_000
"""Length of the beginning of a text that is read to find out whether it is a sentence."""


def is_one_word(text: str) -> bool:
    """Return True for a single word or number; in scripts without spaces, for up to four characters."""
    return _ONE_WORD.fullmatch(text) is not None


def is_label(text: str) -> bool:
    """Return True for a name, an id or an address, rather than a word to a person: "human-review", "https://…", not "Thanks!"."""
    is_one = is_one_word(text) or (text.isascii() and len(text.split()) == 1)
    return is_one and not text.rstrip().endswith(_MARKS)


def is_sentence(text: str) -> bool:
    """Return True for a text of at least three words, of which numbers, ids and addresses are none.

    In scripts without spaces, some characters in a row are enough.
    """
    words = text[:_READ_CHARS].split()
    count = sum(any(map(str.isalpha, word)) and _IN_IDS.search(word) is None for word in words)
    return count >= _MIN_WORDS or _SENTENCE_WITHOUT_SPACES.search(text) is not None
