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

_LABELS = 1000
"""Matching labels that are considered for each word."""

_RARE = 200
"""Words in fewer labels than this may be combined with words in a message."""

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
    if labels.has_label_index(db):
        for conversation, hit in _with_labels(db, found).items():
            hits.setdefault(conversation, hit)
    return hits


def _in_messages(db: sqlite3.Connection, some: list[Word], all_words: list[Word]) -> dict[int, Hit]:
    """Return the conversations with a message that contains some of the words."""
    row_ids = search.search_messages(db, some, _MESSAGES, prefix=all_words[-1:])
    rows = db.execute(
        "SELECT conversation, max(id), count(*) FROM messages WHERE id IN (SELECT value FROM json_each(?))"
        " GROUP BY conversation",
        (json.dumps(row_ids),),
    )
    return {row[0]: Hit(row[1], messages=row[2]) for row in rows}


def _with_labels(db: sqlite3.Connection, found: list[Word]) -> dict[int, Hit]:
    """Return the conversations of which one or more words are in the labels, and the others in a message."""
    singles = {word: labels.find_labels(db, [word], found[-1:], _LABELS) for word in found}
    labelled = sorted((word for word in singles if singles[word]), key=lambda word: len(singles[word]))[:_MIXED_WORDS]
    rare = {word: labels.conversations_of(db, singles[word]) for word in labelled if len(singles[word]) < _RARE}
    whole = labels.conversations_of(db, labels.find_labels(db, found, found[-1:], _LABELS))
    hits = {conversation: Hit(None, label) for conversation, label in whole.items()}
    for size in range(len(labelled), 0, -1):
        for chosen in itertools.combinations(labelled, size):
            rest = [word for word in found if word not in chosen]
            in_one_label = labels.find_labels(db, list(chosen), found[-1:], _LABELS)
            if rest and len(in_one_label) >= _RARE:
                continue  # too many to be what is meant
            labelled_so = _in_different_labels(rare, chosen) | labels.conversations_of(db, in_one_label)
            in_messages = _in_messages(db, rest, found) if rest and labelled_so else {}
            for conversation, label in labelled_so.items():
                if not rest:
                    hits.setdefault(conversation, Hit(None, label))
                elif hit := in_messages.get(conversation):
                    hits.setdefault(conversation, Hit(hit.message, label, hit.messages))
    return hits


def _in_different_labels(rare: dict[Word, dict[int, int]], chosen: tuple[Word, ...]) -> dict[int, int]:
    """Return the conversations that have each of some words in one of their labels, with the label of the first."""
    if not all(word in rare for word in chosen):
        return {}
    common = set.intersection(*(set(rare[word]) for word in chosen))
    return {conversation: rare[chosen[0]][conversation] for conversation in common}
