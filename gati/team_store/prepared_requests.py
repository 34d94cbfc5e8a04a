"""Requests with what is derived from them outside a transaction, so that transactions are short. Pure."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import orjson

from gati.store import message_columns, message_requests, prompt_versions
from gati.store.message_columns import NO_METRICS, MessageColumns
from gati.store.rollups import InsertedMessage
from gati.team_store.literals import copied, copied_json
from gati.team_store.text_index import terms_of

_NUL = r"\u0000"
"""A NUL character in JSON."""


@dataclass(slots=True)
class PreparedMessage:
    """A message of a request, with what is derived from it outside the transaction."""

    message: dict[str, Any]
    columns: MessageColumns
    row: str
    """The end of its row for `COPY`: from `external_id` to `terms`."""


@dataclass(slots=True)
class PreparedRequest:
    """The body of a request. `conversation` and what follows are set inside the transaction."""

    body: dict[str, Any]
    messages: list[PreparedMessage]
    prompt: str | None
    """The text of its system prompt; see `prompt_versions.split_prompt`."""
    envelope: str
    """See `prompt_versions.call_envelope`."""
    conversation: dict[str, Any] | None = None
    version: int | None = None
    call: int | None = None
    inserted: list[InsertedMessage] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)

    def again(self) -> PreparedRequest:
        """Return the request as it was before a transaction, for another attempt."""
        return PreparedRequest(self.body, self.messages, self.prompt, self.envelope)

    def times(self) -> tuple[int, int]:
        """Return the times of the first and of the last message."""
        found = [prepared.columns.at for prepared in self.messages]
        return min(found), max(found)


def prepare(body: dict[str, Any]) -> PreparedRequest:
    """Do the part of the work that needs no database."""
    now = time.time_ns() // 1000
    bodies = [_compact_json(message) for message in body["messages"]]
    rest = {key: value for key, value in body.items() if key != "messages"}
    if any(_NUL in text for text in (*bodies, _compact_json(rest))):
        body = _without_nul(body)
        bodies = [_compact_json(message) for message in body["messages"]]
    messages = [
        _prepare_message(message, text, body, now) for message, text in zip(body["messages"], bodies, strict=True)
    ]
    prompt = body.get("systemPrompt")
    text, values = (None, None) if prompt is None else prompt_versions.split_prompt(prompt)
    return PreparedRequest(body, messages, text, prompt_versions.call_envelope(body, values))


def _compact_json(value: Any) -> str:
    """Return what `message_columns.compact_json` returns, in a small part of the time."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # an integer of more than 64 bits, half of a surrogate pair, a key that is not text
        return message_columns.compact_json(value)


def _without_nul(value: Any) -> Any:
    """Replace NUL characters, which a text in PostgreSQL cannot contain."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    return [_without_nul(item) for item in value] if isinstance(value, list) else value


def _prepare_message(message: dict[str, Any], text: str, body: dict[str, Any], now: int) -> PreparedMessage:
    columns = message_columns.read_columns(message, message_requests.created_at(message, now), body)
    *values, metrics = columns
    numbers = _NO_METRICS if metrics is NO_METRICS else copied(metrics)
    terms = terms_of(message_columns.search_text(message))
    return PreparedMessage(message, columns, f"{copied(values)}\t{numbers}\t{copied_json(text)}\t{terms}\n")


_NO_METRICS = copied(NO_METRICS)
