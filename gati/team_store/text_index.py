"""Full-text search in PostgreSQL: a column of terms with a GIN index, filled with the words that SQLite would index.

Python splits the texts, so that both stores find the same. Only the pairs of unspaced scripts have positions, which
phrases need.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

from gati.store import words
from gati.store.words import Word
from gati.team_store.literals import arrays
from gati.team_store.translation import without_nul

_ASCII_WORDS = bytes(code if chr(code).isalnum() else 32 for code in bytes(range(128)).lower()) + bytes(128)
"""Code of an ASCII character → that of its small letter, of the digit, or of a space between words."""
_MAX_BYTES = 1000
"""Bytes of a term, of which PostgreSQL allows 2046. Longer words are cut, in texts and in searches."""

_MAX_POSITION = 16_383

_SAMPLE = 2000
"""The newest messages, by which a search estimates how many match."""

_INDEX_ROW_COST = 3
"""Reading a row that the index has found takes as long as reading and testing this many of the newest ones."""


class _Characters(dict[int, str]):
    """Code of a character → the character as part of a word: without accent if it is Latin; a space between words."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        base = unicodedata.normalize("NFD", character)[0]
        category = unicodedata.category(character)
        if 0x300 <= code < 0x370:
            found = ""  # an accent
        elif base.isascii() and base.isalpha():
            found = base
        else:
            found = character if category[0] in "LMN" or category == "Co" else " "
        self[code] = found
        return found


_CHARACTERS = _Characters()


def terms_of(text: str) -> str:
    """Return the terms of a text as a `tsvector` literal: ``Über 東京都!`` → ``uber 東京:1 京都:2 都:3``."""
    if text.isascii():
        found = set(text.encode().translate(_ASCII_WORDS).split())
        if max(map(len, found), default=0) > _MAX_BYTES:
            found = {word[:_MAX_BYTES] for word in found}
        return b" ".join(found).decode()
    plain: set[str] = set()
    pairs: list[str] = []
    for word in words.index_text(text).translate(_CHARACTERS).lower().split():
        if words.is_unspaced(word):
            pairs.append(f"{word}:{min(len(pairs) + 1, _MAX_POSITION)}")
        else:
            plain.add(word)
    return " ".join([*_cut_all(plain), *pairs])


def query_of(found: list[Word], prefix: list[Word]) -> str:
    """Return a search as a `tsquery` literal: ``order 東京都 ref`` → ``order & (東京 <-> 京都) & ref:*``."""
    return " & ".join(part for word in found if (part := _query_of_word(word, prefix=word in prefix)))


def _query_of_word(word: Word, *, prefix: bool) -> str:
    text = _cut(word.text.translate(_CHARACTERS).lower().replace(" ", ""))
    if not text:
        return ""
    if not word.unspaced:
        return text + (":*" if prefix else "")
    if len(text) == 1:
        return f"{text}:*"
    return "(" + " <-> ".join(text[i : i + 2] for i in range(len(text) - 1)) + ")"


def _cut_all(found: set[str]) -> set[str]:
    return {_cut(word) for word in found} if max(map(len, found), default=0) > _MAX_BYTES // 4 else found


def _cut(word: str) -> str:
    if len(word) <= _MAX_BYTES // 4:
        return word
    return word.encode()[:_MAX_BYTES].decode(errors="ignore")


_INSERT_LABELS = (
    "INSERT INTO labels (owner_kind, owner, kind, name, value, terms)"
    " SELECT k, o, n, m, v, t::tsvector FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[],"
    " %s::text[]) AS r(k, o, n, m, v, t) ON CONFLICT DO NOTHING"
)


def label_part(rows: Iterable[tuple[str, int | str, str, str, str]]) -> tuple[str, list[str]]:
    """Return the statement that inserts the labels that are missing, and its values."""
    given = sorted({tuple([without_nul(str(value)) for value in row]) for row in rows})
    return _INSERT_LABELS, arrays([(*row, terms_of(f"{row[3]} {row[4]}")) for row in given], 6)


class TextIndex:
    """The `Engine` of a connection: what has no statement in common with SQLite.

    Args:
        run: Executes a statement with its values, and returns the cursor.
    """

    def __init__(self, run: Callable[..., Any]) -> None:
        self._run = run

    def search_messages(self, found: list[Word], prefix: list[Word], limit: int) -> list[int]:
        """See `search.search_messages`.

        Matching rows come from the index in no order, so all of them are read. If many match, reading the newest rows
        of the table is faster. How many match is seen from the newest ones.
        """
        if not (query := query_of(found, prefix)):
            return []
        row_ids = self._search_newest(query, limit, _SAMPLE)
        if len(row_ids) >= limit:
            return row_ids
        share = max(len(row_ids), 1) / _SAMPLE
        to_read, from_index = limit / share, self.last_message_id() * share
        if to_read < from_index * _INDEX_ROW_COST:
            row_ids = self._search_newest(query, limit, int(to_read * 2))
        return row_ids if len(row_ids) >= limit else self._search("messages", query, limit)

    def find_labels(self, found: list[Word], prefix: list[Word], limit: int) -> list[int]:
        """See `labels.find_labels`."""
        query = query_of(found, prefix)
        return self._search("labels", query, limit) if query else []

    def _search(self, table: str, query: str, limit: int) -> list[int]:
        # Not in the order of another index: the planner would read that one if it overestimates how many rows match.
        statement = f"SELECT id FROM {table} WHERE terms @@ %s::tsquery ORDER BY id + 0 DESC LIMIT %s"  # noqa: S608  # our own names
        return [row[0] for row in self._run(statement, (query, limit)).fetchall()]

    def _search_newest(self, query: str, limit: int, rows: int) -> list[int]:
        """Return the matching ones of the newest messages."""
        statement = (
            "SELECT id FROM (SELECT id, terms FROM messages ORDER BY id DESC LIMIT %s) AS newest"
            " WHERE terms @@ %s::tsquery ORDER BY id DESC LIMIT %s"
        )
        return [row[0] for row in self._run(statement, (rows, query, limit)).fetchall()]

    def add_labels(self, rows: list[tuple[str, int | str, str, str, str]]) -> None:
        """Insert the labels that are missing."""
        self._run(*label_part(rows))

    def rewrite_tables(self, *, whole: bool) -> bool:
        """See `file_erasing.rewrite_file`. Copies of the database and its write-ahead log keep what was deleted."""
        try:
            for table in ("messages", "conversations", "calls", "actions", "labels", "facets", "gati_events"):
                self._run(f"VACUUM {'FULL ' if whole else ''}{table}")
        except ConnectionError:  # a table was in use for too long
            return False
        return True

    def last_message_id(self) -> int:
        """See `queries.last_message_id`. Row ids are assigned in the order in which they become visible."""
        return int(self._run("SELECT coalesce(max(id), 0) FROM messages").fetchone()[0])
