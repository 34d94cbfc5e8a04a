"""Words of texts and of searches, in any script. Pure.

The tokenizer of SQLite splits at characters that are neither letters nor digits. Chinese, Japanese, Korean, Thai, Lao,
Khmer and Burmese texts have few or no such characters, so their runs are indexed as pairs of neighbouring characters:
``東京都`` becomes ``東京 京都 都``. A search for two or more of them becomes a phrase, one character a prefix.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

TOKENIZER = "unicode61 remove_diacritics 2 categories ''L* M* N* Co''"
"""The tokenizer of the indexes, quoted for use inside a quoted option. Marks belong to their words (Hindi, Thai)."""

_UNSPACED = (
    "\u0e00-\u0e3e\u0e40-\u0eff"  # Thai, Lao
    "\u1000-\u1049\u1050-\u109f\u1780-\u17d3\u17dc-\u17ff"  # Burmese, Khmer
    "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Chinese, Japanese
    "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af"  # Korean
    "\U00020000-\U0003ffff"
)
_UNSPACED_RUN = re.compile(f"[{_UNSPACED}]+")
_HAS_UNSPACED = re.compile(f"[{_UNSPACED}\uff66-\uff9f]")


class Word(NamedTuple):
    """One word of a search. `text` is normalized; `unspaced`: of a script without spaces between words."""

    text: str
    unspaced: bool = False

    def expression(self, *, prefix: bool = False) -> str:
        """Return the word as an FTS5 expression; with `prefix`, also for words that begin with it."""
        if not self.unspaced:
            return f'"{self.text}"' + ("*" if prefix else "")
        if len(self.text) == 1:
            return f'"{self.text}"*'
        return '"' + " ".join(_pairs(self.text)[:-1]) + '"'


def index_text(text: str) -> str:
    """Return a text as the index should read it: normalized, with runs of unspaced scripts as pairs."""
    if text.isascii():
        return text
    return _UNSPACED_RUN.sub(_spaced_pairs, unicodedata.normalize("NFKC", text))


def is_unspaced(text: str) -> bool:
    """Return True if a text contains characters of a script without spaces between words."""
    return not text.isascii() and _HAS_UNSPACED.search(text) is not None


def _spaced_pairs(run: re.Match[str]) -> str:
    return f" {' '.join(_pairs(run[0]))} "


def _pairs(run: str) -> list[str]:
    """``東京都`` → ``["東京", "京都", "都"]``. The last character alone makes every character the start of a pair."""
    return [run[i : i + 2] for i in range(len(run))]


def parse_words(typed: str) -> list[Word]:
    """Split what a person typed into words, as the tokenizer splits texts: ``order-86`` → ``order``, ``86``."""
    words: list[Word] = []
    for piece in _separate(unicodedata.normalize("NFKC", typed)):
        end = 0
        for run in _UNSPACED_RUN.finditer(piece):
            if run.start() > end:
                words.append(Word(piece[end : run.start()]))
            words.append(Word(run[0], unspaced=True))
            end = run.end()
        if end < len(piece):
            words.append(Word(piece[end:]))
    return words


def _separate(text: str) -> list[str]:
    """Split at every character that is not a letter, mark, digit or of a private use area."""
    if text.isascii():
        return re.findall(r"[A-Za-z0-9]+", text)
    separated = "".join(
        c if unicodedata.category(c)[0] in "LMN" or unicodedata.category(c) == "Co" else " " for c in text
    )
    return separated.split()


def match_expression(words: list[Word], prefix: list[Word]) -> str:
    """Return an FTS5 expression for texts with all words. Those in `prefix` may be prefixes. Empty without words.

    ``hello wor`` → ``"hello" "wor"*``
    """
    return " ".join(word.expression(prefix=word in prefix) for word in words)


def mark_pattern(typed: str) -> re.Pattern[str] | None:
    """Return a pattern of the places in a text that match a search; None for a search without words.

    A word matches the beginning of a word. Accents of the text are ignored if the search has none.
    """
    parts = [
        ("" if word.unspaced else r"(?<!\w)") + "".join(_any_accent(character) for character in word.text)
        for word in parse_words(typed)
    ]
    return re.compile("|".join(sorted(parts, key=len, reverse=True)), re.IGNORECASE) if parts else None


_ACCENTED: dict[str, str] = {}
"""Letter → the Latin letters that are this one with accents."""
for _code in (*range(0xC0, 0x250), *range(0x1E00, 0x1F00)):
    _base = unicodedata.normalize("NFD", chr(_code))[0]
    if _base.isascii() and _base.isalpha():
        _ACCENTED[_base.lower()] = _ACCENTED.get(_base.lower(), "") + chr(_code)


def _any_accent(character: str) -> str:
    accented = _ACCENTED.get(character.lower())
    return f"[{character}{accented}][\u0300-\u036f]*" if accented else re.escape(character)
