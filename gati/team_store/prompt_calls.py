"""Prompt versions and calls of several requests, of which many have the same prompt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from gati.store import prompt_versions
from gati.team_store.literals import array, arrays

if TYPE_CHECKING:
    from gati.team_store.connection import PostgresConnection
    from gati.team_store.conversation_rows import Part
    from gati.team_store.prepared_requests import PreparedRequest
    from gati.team_store.translation import Values

_LAST_CALLS = (
    "SELECT k.conversation, k.id, k.version, k.envelope FROM unnest(%s::bigint[]) AS c(id) CROSS JOIN LATERAL"
    " (SELECT * FROM calls WHERE conversation = c.id ORDER BY id DESC LIMIT 1) k"
)
_VERSIONS = (
    "SELECT p.product, p.name, v.digest, v.id, p.uid, v.body FROM unnest(%s::text[], %s::text[], %s::text[])"
    " AS k(product, name, digest) JOIN prompts p ON p.product = k.product AND p.name = k.name"
    " JOIN prompt_versions v ON v.prompt = p.id AND v.digest = k.digest"
)
_INSERT = (
    "INSERT INTO calls (id, conversation, version, envelope, requests, first_at, last_at) SELECT * FROM unnest("
    "%s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[])"
)
_UPDATE = (
    "UPDATE calls k SET requests = k.requests + u.requests, first_at = least(k.first_at, u.first),"
    " last_at = greatest(k.last_at, u.last) FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])"
    " AS u(id, requests, first, last) WHERE k.id = u.id"
)
_UPDATE_VERSIONS = (
    "UPDATE prompt_versions v SET uses = v.uses + u.uses, first_at = least(v.first_at, u.first),"
    " last_at = greatest(v.last_at, u.last) FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])"
    " AS u(id, uses, first, last) WHERE v.id = u.id"
)

_Key = tuple[str, str, str]
"""Product, name and digest of a prompt's version."""


class PromptCalls:
    """Finds or creates versions and calls, and collects what they change.

    Args:
        db: A connection inside a transaction.
        requests: The requests, with their conversations.
    """

    def __init__(self, db: PostgresConnection, requests: list[PreparedRequest]) -> None:
        self._db = db
        self._requests_given = requests
        self._versions: dict[_Key, int | None] = {}
        self._referred: set[int] = set()
        self._times: dict[int, tuple[int, int]] = {}
        self._uses: dict[int, int] = {}
        self._greenflash_ids: dict[int, tuple[str, list[str]]] = {}
        self._last_calls: dict[int, tuple[int, int | None, str]] = {}
        self._requests: dict[int, tuple[int, int, int]] = {}
        """Call → number of its requests in this batch, and the times of the first and the last."""
        self._new_calls: list[tuple[int, int, int | None, str]] = []
        self.ids: Iterator[int] = iter(())
        """Row ids for new calls. As many as there are requests are enough."""

    def queries(self, known: set[int]) -> list[tuple[str, Values]]:
        """Return the statements whose rows `read` takes. `known`: conversations that are not new."""
        keys = sorted({key for request in self._requests_given if (key := _key(request)) is not None})
        return [(_LAST_CALLS, (array(sorted(known)),)), (_VERSIONS, arrays(keys, 3))]

    def read(self, last_calls: list[Any], versions: list[Any]) -> None:
        """Take what is stored already."""
        self._last_calls = {row[0]: (row[1], row[2], row[3]) for row in last_calls}
        for product, name, digest, version, uid, body in versions:
            self._versions[product, name, digest] = version
            self._greenflash_ids[version] = uid, list(prompt_versions.component_ids(uid, digest, body))

    def version(self, request: PreparedRequest) -> int | None:
        """Return the version of a request's system prompt; None if it has none."""
        key = _key(request)
        if key is None:
            return None
        at = request.times()[0]
        if key not in self._versions:
            self._versions[key] = self._find_or_create(request, at)
        elif (version := self._versions[key]) is not None and version not in self._referred:
            first, last = self._times.get(version, (at, at))
            self._times[version] = min(first, at), max(last, at)
        return self._versions[key]

    def _find_or_create(self, request: PreparedRequest, at: int) -> int | None:
        db, conversation = cast(Any, self._db), cast("dict[str, Any]", request.conversation)
        if (version := prompt_versions.referred_version(db, request.body["systemPrompt"])) is not None:
            self._referred.add(version)
            return version
        return prompt_versions.record_version(db, request.body, conversation["product"], conversation["agent"], at)

    def call(self, request: PreparedRequest) -> int:
        """Return the call of a request that has new messages: the conversation's last one, if it is the same."""
        conversation = cast("dict[str, Any]", request.conversation)["id"]
        if request.version is not None:
            self._uses[request.version] = self._uses.get(request.version, 0) + 1
        last = self._last_calls.get(conversation)
        if last is not None and last[1:] == (request.version, request.envelope):
            call = last[0]
        else:
            call = next(self.ids)
            self._last_calls[conversation] = (call, request.version, request.envelope)
            self._new_calls.append((call, conversation, request.version, request.envelope))
        at = request.times()[0]
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

    def parts(self) -> list[Part]:
        """Return the parts of a statement that write the new calls, and how often and when calls and versions were used."""
        used = sorted({*self._uses, *self._times})
        new = [(*call, *self._requests.pop(call[0])) for call in self._new_calls]
        return [
            (_INSERT, arrays(new, 7)),
            (_UPDATE, arrays([(call, *times) for call, times in sorted(self._requests.items())], 4)),
            (
                _UPDATE_VERSIONS,
                arrays([(v, self._uses.get(v, 0), *self._times.get(v, (None, None))) for v in used], 4),
            ),
        ]


def _key(request: PreparedRequest) -> _Key | None:
    """Return what the version of a request's prompt is found by; None if it has no prompt."""
    if request.prompt is None:
        return None
    conversation = cast("dict[str, Any]", request.conversation)
    name = prompt_versions.prompt_name(request.body, conversation["agent"])
    return conversation["product"], name, prompt_versions.text_digest(request.prompt)
