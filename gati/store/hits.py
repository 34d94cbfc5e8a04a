"""Search: which conversations contain all words of a search, in one of their messages or in their labels."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from gati.store import labels, search, words
from gati.store.words import Word

_MESSAGES = 5000
"""A search considers this many of the newest matching messages."""

_LABELS = 1000
"""Matching labels that are considered for each word."""

_RARE = 200
"""Words in fewer labels than this may be combined with words in a message."""

_FEW_MESSAGES = 20_000
"""Messages of all conversations with a label that are looked through for the other words."""

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
    row_ids = search.search_messages(db, found, _MESSAGES)
    hits = _by_conversation(db, row_ids)
    if labels.has_label_index(db):
        # Words that are together in so many messages are not meant to be apart.
        mixed = len(row_ids) < _MESSAGES
        for conversation, hit in _with_labels(db, found, mixed=mixed).items():
            hits.setdefault(conversation, hit)
    return hits


def _by_conversation(db: sqlite3.Connection, row_ids: list[int]) -> dict[int, Hit]:
    """Return the conversations of messages."""
    rows = db.execute(
        "SELECT conversation, max(id), count(*) FROM messages WHERE id IN (SELECT value FROM json_each(?))"
        " GROUP BY conversation",
        (json.dumps(row_ids),),
    )
    return {row[0]: Hit(row[1], messages=row[2]) for row in rows}


def _in_messages_of(db: sqlite3.Connection, conversations: Iterable[int], row_ids: list[int]) -> dict[int, Hit]:
    """Return those of the conversations that have some of the messages."""
    given = json.dumps(list(conversations))
    count = db.execute(
        "SELECT sum(messages) FROM conversations WHERE id IN (SELECT value FROM json_each(?))", (given,)
    ).fetchone()[0]
    if (count or 0) > _FEW_MESSAGES:
        return _by_conversation(db, row_ids)
    # Reading their messages from an index is faster than reading the rows of all messages that were found.
    rows = db.execute(
        "SELECT conversation, id FROM messages INDEXED BY messages_order"
        " WHERE conversation IN (SELECT value FROM json_each(?))",
        (given,),
    )
    wanted, hits = set(row_ids), dict[int, Hit]()
    for conversation, row_id in rows:
        if row_id in wanted:
            known = hits.get(conversation, Hit(0))
            hits[conversation] = Hit(max(known.message or 0, row_id), messages=known.messages + 1)
    return hits


def _with_labels(db: sqlite3.Connection, found: list[Word], *, mixed: bool) -> dict[int, Hit]:
    """Return the conversations with all words in their labels or, if `mixed`, with some in a message."""
    whole = labels.conversations_of(db, labels.find_labels(db, found, found[-1:], _LABELS))
    hits = {conversation: Hit(None, label) for conversation, label in whole.items()}
    if len(found) == 1 or not mixed:
        return hits
    singles = {word: labels.find_labels(db, [word], found[-1:], _LABELS) for word in found}
    labelled = sorted((word for word in singles if singles[word]), key=lambda word: len(singles[word]))[:_MIXED_WORDS]
    rare = {word: labels.conversations_of(db, singles[word]) for word in labelled if len(singles[word]) < _RARE}
    for size in range(len(labelled), 0, -1):
        for chosen in itertools.combinations(labelled, size):
            rest = [word for word in found if word not in chosen]
            in_one_label = labels.find_labels(db, list(chosen), found[-1:], _LABELS)
            if rest and len(in_one_label) >= _RARE:
                continue  # too many to be what is meant
            labelled_so = _in_different_labels(rare, chosen) | labels.conversations_of(db, in_one_label)
            in_messages: dict[int, Hit] = {}
            if rest and labelled_so:
                row_ids = search.search_messages(db, rest, _MESSAGES, prefix=found[-1:])
                in_messages = _in_messages_of(db, labelled_so, row_ids)
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
