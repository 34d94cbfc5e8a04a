"""Remove conversations, or some of their messages, so that the store is as if they had never arrived.

Within one transaction: remove what is to go, then `finish`, which corrects the sums and what has become unused.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator
from typing import Any

from gati.store import index_erasing, labels, marks, message_columns, ratings, rollups, sums, tombstones
from gati.store.sums import QUARTER

_RESET = """
UPDATE conversations SET organization = NULL, agent = NULL, status = NULL, title = NULL, preview = NULL, properties = NULL, last_at = 0,
  last_message = 0, turns = 0, messages = 0, errors = 0, model_calls = 0, tokens_in = NULL, tokens_out = NULL,
  cost = NULL, unpriced = 0, slowest_ms = NULL
WHERE id = ?
"""


class Removal:
    """Removes messages in one transaction.

    Args:
        db: A connection inside a transaction.
        deleted_at: The time of the tombstones; None for none.
    """

    def __init__(self, db: sqlite3.Connection, deleted_at: int | None) -> None:
        self.messages = 0
        """Number of removed messages."""
        self.records = 0
        """Number of records that `remove_actions` removed."""
        self.subjects: set[str] = set()
        """External ids of removed conversations and messages, to which ratings and events may refer."""
        self._db, self._at = db, deleted_at
        self._quarters: set[int] = set()
        self._versions: set[int] = set()

    def remove_conversation(self, conversation: sqlite3.Row) -> None:
        """Remove a conversation with all that belongs to it."""
        row_id = conversation["id"]
        self._remove_messages(row_id, None)
        self._unlabel(row_id)
        self._count_less("conversation = ?", row_id)
        for table in ("ratings", "marks", "calls", "facets", "actions", "gati_events"):
            self._db.execute(f"DELETE FROM {table} WHERE conversation = ?", (row_id,))  # noqa: S608  # our own names
        self._db.execute("DELETE FROM conversations WHERE id = ?", (row_id,))
        if external := conversation["external_id"]:
            self.subjects.add(external)
            if self._at is not None:
                name = tombstones.conversation_id(conversation["product"], external)
                tombstones.add_tombstones(self._db, tombstones.CONVERSATION, [name], self._at)

    def remove_messages(self, conversation: sqlite3.Row, row_ids: Collection[int]) -> None:
        """Remove some messages of a conversation. Its row is computed again from the others."""
        row_id = conversation["id"]
        self._remove_messages(row_id, row_ids)
        self._unlabel(row_id)
        self._remove_calls(row_id)
        self._db.execute("DELETE FROM facets WHERE conversation = ?", (row_id,))
        self._db.execute(_RESET, (row_id,))
        self._add_up(row_id)
        self._label_actions(row_id)
        ratings.refresh_versions(self._db, row_id)
        ratings.recount(self._db, row_id)

    def remove_marks(self, conversation: int, before: int) -> None:
        """Remove what people wrote about a conversation before a time. Ratings are actions."""
        query = "DELETE FROM marks WHERE conversation = ? AND at < ? AND action IS NULL"
        self._db.execute(query, (conversation, before))

    def remove_actions(self, row_ids: Collection[int]) -> None:
        """Remove ratings, events and records of users and organizations."""
        conversations = set()
        for row_id in row_ids:
            row = self._db.execute("SELECT * FROM actions WHERE id = ?", (row_id,)).fetchone()
            self._db.execute("DELETE FROM actions WHERE id = ?", (row_id,))
            self._db.execute("DELETE FROM ratings WHERE action = ?", (row_id,))
            self._db.execute("DELETE FROM marks WHERE action = ?", (row_id,))
            if row["conversation"] is not None:
                conversations.add(row["conversation"])
            else:
                self._unlabel_action(row["endpoint"], json.loads(row["body"]))
        self.records += len(row_ids)
        for conversation in conversations:
            self._unlabel(conversation)
            self._label(conversation)
            ratings.recount(self._db, conversation)

    def finish(self) -> None:
        """Correct the sums, and remove what nothing uses any more."""
        if self.messages or self.records:
            marks.count_change(self._db)
        if self._at is not None:
            tombstones.add_tombstones(self._db, tombstones.SUBJECT, self.subjects, self._at)
        sums.rebuild(self._db, self._quarters)
        self._refresh_versions()
        for kind in (labels.USER, labels.ORGANIZATION):
            self._remove_labels(labels.unused_condition(kind), ())
        self._db.execute("DELETE FROM gati_runs WHERE run_id NOT IN (SELECT run_id FROM gati_events)")

    def _remove_messages(self, conversation: int, row_ids: Collection[int] | None) -> None:
        """Remove messages, all if `row_ids` is None, from the table and the index."""
        query = "SELECT id, type, at, external_id, body FROM messages WHERE conversation = ?"
        texts: dict[int, str] = {}
        externals: list[str] = []
        for row in self._db.execute(query, (conversation,)).fetchall():
            self._quarters.add(row["at"] // QUARTER * QUARTER)  # of all: a tool's result may have lost its call
            if row_ids is not None and row["id"] not in row_ids:
                continue
            texts[row["id"]] = message_columns.search_text(json.loads(row["body"]))
            if row["external_id"]:
                externals.append(row["external_id"])
            if row["external_id"] and row["type"] in tombstones.RATED_TYPES:
                self.subjects.add(row["external_id"])
        index_erasing.unindex_messages(self._db, texts)
        self._db.executemany("DELETE FROM messages WHERE id = ?", [(row_id,) for row_id in texts])
        self._db.executemany("DELETE FROM gati_events WHERE event_id = ?", [(external,) for external in externals])
        self.messages += len(texts)

    def _remove_calls(self, conversation: int) -> None:
        """Remove the calls of a conversation that have no message any more."""
        unused = (
            "conversation = ? AND id NOT IN (SELECT call FROM messages m WHERE m.conversation = calls.conversation)"
        )
        self._count_less(unused, conversation)
        self._db.execute(f"DELETE FROM calls WHERE {unused}", (conversation,))  # noqa: S608  # our own names
        # A call of several requests begins with the first message that is left.
        first = "(SELECT min(m.at) FROM messages m WHERE m.conversation = calls.conversation AND m.call = calls.id)"
        later = f"UPDATE calls SET first_at = {first} WHERE conversation = ? AND first_at < {first}"  # noqa: S608  # our own names
        self._db.execute(later, (conversation,))
        kept = self._db.execute(
            "SELECT version FROM calls WHERE conversation = ? AND version IS NOT NULL", (conversation,)
        )
        self._versions.update(row[0] for row in kept.fetchall())

    def _count_less(self, condition: str, conversation: int) -> None:
        """Take the requests of calls out of the number of uses of their prompt versions."""
        query = f"SELECT version, sum(requests) FROM calls WHERE version IS NOT NULL AND {condition} GROUP BY version"  # noqa: S608  # our own names
        for version, requests in self._db.execute(query, (conversation,)).fetchall():
            less = "UPDATE prompt_versions SET uses = CASE WHEN uses > ? THEN uses - ? ELSE 0 END WHERE id = ?"
            self._db.execute(less, (requests, requests, version))
            self._versions.add(version)

    def _refresh_versions(self) -> None:
        """Remove versions and prompts that nothing uses, and set the times of the others. Managed versions stay.

        Among them are versions of requests whose messages the store had already: no call refers to them, so it is
        unknown whose they are.
        """
        for version in self._versions:
            used = self._db.execute(
                "SELECT min(first_at), max(last_at) FROM calls WHERE version = ?", (version,)
            ).fetchone()
            if used[0] is not None:
                refresh = "UPDATE prompt_versions SET first_at = ?, last_at = ? WHERE id = ? AND managed = 0"
                self._db.execute(refresh, (*used, version))
        self._db.execute(
            "DELETE FROM prompt_versions WHERE managed = 0"
            " AND id NOT IN (SELECT version FROM calls WHERE version IS NOT NULL)"
        )
        self._db.execute(
            "DELETE FROM prompts WHERE NOT EXISTS (SELECT 1 FROM prompt_versions v WHERE v.prompt = prompts.id)"
        )

    def _unlabel(self, conversation: int) -> None:
        self._remove_labels("owner_kind = 'conversation' AND owner = ?", (conversation,))

    def _remove_labels(self, condition: str, values: tuple[Any, ...]) -> None:
        if self._db.execute(f"DELETE FROM labels WHERE {condition}", values).rowcount > 0:  # noqa: S608  # our own names
            index_erasing.mark_labels(self._db)

    def _unlabel_action(self, endpoint: str, body: dict[str, Any]) -> None:
        """Remove the labels that an action gave its user or organization, and restore those that others gave it, too."""
        kind = labels.ORGANIZATION if endpoint == "organizations" else labels.USER
        owner = body.get("externalOrganizationId" if kind == labels.ORGANIZATION else "externalUserId")
        if owner is None:
            return
        for label in labels.labels_of_action(endpoint, body):
            condition = "owner_kind = ? AND owner = ? AND kind = ? AND name = ? AND value = ?"
            self._remove_labels(condition, (kind, owner, *labels.stored_values(label)))
        record = self._db.execute(
            "SELECT body FROM actions WHERE endpoint = ? AND key = ?", (f"{kind}s", owner)
        ).fetchone()
        labels.add(self._db, kind, owner, [labels.Label("id", owner)])  # `finish` removes it if it is not used
        if record is not None:
            labels.add(self._db, kind, owner, labels.labels_of_action(f"{kind}s", json.loads(record["body"])))

    def _label(self, conversation: int) -> None:
        """Make the labels of a conversation from its messages, ratings and events."""
        row = self._db.execute("SELECT * FROM conversations WHERE id = ?", (conversation,)).fetchone()
        for _, body, _ in self._requests(conversation):
            labels.add_for_conversation(self._db, row, body, body["externalUserId"], body.get("externalOrganizationId"))
        self._label_actions(conversation)

    def _label_actions(self, conversation: int) -> None:
        marks.update_labels(self._db, conversation)
        actions = self._db.execute("SELECT endpoint, body FROM actions WHERE conversation = ?", (conversation,))
        for action in actions.fetchall():
            labels.add_for_action(self._db, action["endpoint"], json.loads(action["body"]), conversation)

    def _add_up(self, conversation: int) -> None:
        """Make row, facets and labels of a conversation from its messages."""
        for version, body, messages in self._requests(conversation):
            row = self._db.execute("SELECT * FROM conversations WHERE id = ?", (conversation,)).fetchone()
            rollups.update_conversation(self._db, row, body, messages, version)

    def _requests(
        self, conversation: int
    ) -> Iterator[tuple[int | None, dict[str, Any], list[rollups.InsertedMessage]]]:
        """Yield prompt version, body and stored messages of each request. Successive equal ones are one."""
        calls = "SELECT id, version, envelope FROM calls WHERE conversation = ? ORDER BY id"
        for call in self._db.execute(calls, (conversation,)).fetchall():
            query = "SELECT id, at, body FROM messages WHERE conversation = ? AND call = ? ORDER BY id"
            stored = self._db.execute(query, (conversation, call["id"])).fetchall()
            request, messages = json.loads(call["envelope"]), [json.loads(row["body"]) for row in stored]
            inserted = [
                rollups.InsertedMessage(row["id"], message, message_columns.read_columns(message, row["at"], request))
                for row, message in zip(stored, messages, strict=True)
            ]
            yield call["version"], {**request, "messages": messages}, inserted
