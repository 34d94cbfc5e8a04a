"""Search: which conversations contain all words of a search, in one of their messages or in their labels."""

from __future__ import annotations

import itertools
import json
import sqlite3
from dataclasses import dataclass

from gati.store import labels, search, words
from gati.store.words import Word

_MESSAGES = 5000
"""A search considers this many of the newest matching messages."""

_LABELS = 2000
"""Matching labels that are considered for each word."""

_MIXED_WORDS = 3
"""Words that may be in the labels while others are in a message. The ones with the fewest labels are chosen."""


@dataclass(frozen=True)
class Hit:
    """Why a conversation was found. Row ids of the newest matching message and of a label, if any; matching messages."""

    message: int | None
    label: int | None = None
    messages: int = 0


def find_hits(db: sqlite3.Connection, typed: str) -> dict[int, Hit]:
    """Return the hit of each conversation that a search finds, by the conversation's row id."""
    found = words.parse_words(typed)
    if not found or not search.has_index(db):
        return {}
    hits = _in_messages(db, found, found)
    if labels.has_index(db):
        for conversation, hit in _with_labels(db, found).items():
            hits.setdefault(conversation, hit)
    return hits


def _in_messages(db: sqlite3.Connection, some: list[Word], all_words: list[Word]) -> dict[int, Hit]:
    """Return the conversations with a message that contains some of the words."""
    row_ids = search.find_messages(db, some, _MESSAGES, prefix=all_words[-1:])
    rows = db.execute(
        "SELECT conversation, max(id), count(*) FROM messages WHERE id IN (SELECT value FROM json_each(?))"
        " GROUP BY conversation",
        (json.dumps(row_ids),),
    )
    return {row[0]: Hit(row[1], messages=row[2]) for row in rows}


def _with_labels(db: sqlite3.Connection, found: list[Word]) -> dict[int, Hit]:
    """Return the conversations of which one or more words are in the labels, and the others in a message."""
    matches = [labels.find(db, word, _LABELS, prefix=word == found[-1]) for word in found]
    labelled = sorted((match for match in matches if match.row_ids), key=lambda match: len(match.row_ids))
    conversations = {
        match.word: labels.conversations_of(db, match.row_ids, _MESSAGES) for match in labelled[:_MIXED_WORDS]
    }
    hits: dict[int, Hit] = {}
    for size in range(len(conversations), 0, -1):
        for chosen in itertools.combinations(conversations, size):
            rest = [word for word in found if word not in chosen]
            common = set.intersection(*(set(conversations[word]) for word in chosen))
            in_messages = _in_messages(db, rest, found) if rest and common else {}
            for conversation in common if not rest else common & in_messages.keys():
                label = conversations[chosen[0]][conversation]
                message = in_messages.get(conversation, Hit(None))
                hits.setdefault(conversation, Hit(message.message, label, message.messages))
    return hits
