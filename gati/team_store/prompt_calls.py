"""Prompt versions and calls of several requests, of which many have the same prompt."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from gati.store import prompt_versions

if TYPE_CHECKING:
    from gati.team_store.connection import PostgresConnection
    from gati.team_store.prepared_requests import PreparedRequest


class PromptCalls:
    """Finds or creates versions and calls, and writes at once what they change.

    Args:
        db: A connection inside a transaction.
        requests: The requests, with their conversations.
    """

    def __init__(self, db: PostgresConnection, requests: list[PreparedRequest]) -> None:
        self._db = db
        self._versions: dict[str, int | None] = {}
        self._referred: set[int] = set()
        self._times: dict[int, tuple[int, int]] = {}
        self._uses: dict[int, int] = {}
        self._greenflash_ids: dict[int, tuple[str, list[str]]] = {}
        self._last_calls = self._read_last_calls(requests)
        self._requests: dict[int, tuple[int, int, int]] = {}
        """Call → number of its requests in this batch, and the times of the first and the last."""
        self._new_calls: list[tuple[int, int, int | None, str]] = []
        self._ids = iter(self._next_ids(len(requests)))

    def version(self, request: PreparedRequest) -> int | None:
        """Return the version of a request's system prompt; None if it has none."""
        prompt = request.body.get("systemPrompt")
        if prompt is None:
            return None
        conversation = cast("dict[str, Any]", request.conversation)
        at = min(prepared.at for prepared in request.messages)
        text, _ = prompt_versions.split_prompt(prompt)
        key = json.dumps(
            [conversation["product"], prompt_versions.prompt_name(request.body, conversation["agent"]), text]
        )
        if key not in self._versions:
            db = cast(Any, self._db)
            version = prompt_versions.referred_version(db, prompt)
            if version is not None:
                self._referred.add(version)
            else:
                version = prompt_versions.record_version(
                    db, request.body, conversation["product"], conversation["agent"], at
                )
            self._versions[key] = version
        elif (version := self._versions[key]) is not None and version not in self._referred:
            first, last = self._times.get(version, (at, at))
            self._times[version] = min(first, at), max(last, at)
        return self._versions[key]

    def call(self, request: PreparedRequest) -> int:
        """Return the call of a request that has new messages: the conversation's last one, if it is the same."""
        conversation = cast("dict[str, Any]", request.conversation)["id"]
        if request.version is not None:
            self._uses[request.version] = self._uses.get(request.version, 0) + 1
        envelope = prompt_versions.call_envelope(request.body, request.version)
        last = self._last_calls.get(conversation)
        if last is not None and last[1:] == (request.version, envelope):
            call = last[0]
        else:
            call = next(self._ids)
            self._last_calls[conversation] = (call, request.version, envelope)
            self._new_calls.append((call, conversation, request.version, envelope))
        at = min(prepared.at for prepared in request.messages)
        requests, first, last_at = self._requests.get(call, (0, at, at))
        self._requests[call] = requests + 1, min(first, at), max(last_at, at)
        return call

    def greenflash_ids(self, version: int | None) -> tuple[str, list[str]]:
        """See `prompt_versions.greenflash_ids`."""
        if version is None:
            return "", []
        if version not in self._greenflash_ids:
            self._greenflash_ids[version] = prompt_versions.greenflash_ids(cast(Any, self._db), version)
        return self._greenflash_ids[version]

    def write(self) -> None:
        """Write the new calls, and how often and when versions were used."""
        if self._new_calls:
            self._db.run(
                "INSERT INTO calls (id, conversation, version, envelope, requests, first_at, last_at) SELECT * FROM unnest("
                "%s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[])",
                [*map(list, zip(*((*call, *self._requests.pop(call[0])) for call in self._new_calls), strict=True))],
            )
        if self._requests:
            self._db.run(
                "UPDATE calls k SET requests = k.requests + u.requests, first_at = least(k.first_at, u.first),"
                " last_at = greatest(k.last_at, u.last) FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])"
                " AS u(id, requests, first, last) WHERE k.id = u.id",
                [*map(list, zip(*((call, *times) for call, times in sorted(self._requests.items())), strict=True))],
            )
        used = sorted({*self._uses, *self._times})
        if used:
            times = [self._times.get(version, (None, None)) for version in used]
            self._db.run(
                "UPDATE prompt_versions v SET uses = v.uses + u.uses, first_at = least(v.first_at, u.first),"
                " last_at = greatest(v.last_at, u.last) FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])"
                " AS u(id, uses, first, last) WHERE v.id = u.id",
                (used, [self._uses.get(version, 0) for version in used], [t[0] for t in times], [t[1] for t in times]),
            )

    def _read_last_calls(self, requests: list[PreparedRequest]) -> dict[int, tuple[int, int | None, str]]:
        conversations = {request.conversation["id"] for request in requests if request.conversation is not None}
        rows = self._db.run(
            "SELECT k.conversation, k.id, k.version, k.envelope FROM unnest(%s::bigint[]) AS c(id) CROSS JOIN LATERAL"
            " (SELECT * FROM calls WHERE conversation = c.id ORDER BY id DESC LIMIT 1) k",
            (sorted(conversations),),
        )
        return {row[0]: (row[1], row[2], row[3]) for row in rows}

    def _next_ids(self, count: int) -> list[int]:
        rows = self._db.run("SELECT nextval('calls_id_seq') FROM generate_series(1, %s)", (count,))
        return sorted(row[0] for row in rows)
