"""Requests with what is derived from them outside a transaction, so that transactions are short. Pure."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from gati.store import message_columns, message_requests
from gati.store.rollups import InsertedMessage
from gati.team_store.text_index import terms_of

_NUL = r"\u0000"
"""A NUL character in JSON."""

_BODY = -2
"""Position of the body in `PreparedMessage.columns`."""


@dataclass
class PreparedMessage:
    """A message of a request, with what is derived from it outside the transaction."""

    message: dict[str, Any]
    at: int
    external_id: str | None
    columns: tuple[Any, ...]
    """From `external_id` to `terms`."""


@dataclass
class PreparedRequest:
    """The body of a request. `conversation` and what follows are set inside the transaction."""

    body: dict[str, Any]
    messages: list[PreparedMessage]
    conversation: dict[str, Any] | None = None
    version: int | None = None
    call: int | None = None
    inserted: list[InsertedMessage] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)


def prepare(body: dict[str, Any]) -> PreparedRequest:
    """Do the part of the work that needs no database."""
    now = time.time_ns() // 1000
    rest = {key: value for key, value in body.items() if key != "messages"}
    messages = [_prepare_message(message, body, now) for message in body["messages"]]
    if any(_NUL in message.columns[_BODY] for message in messages) or _NUL in message_columns.compact_json(rest):
        body = _without_nul(body)
        messages = [_prepare_message(message, body, now) for message in body["messages"]]
    return PreparedRequest(body, messages)


def _without_nul(value: Any) -> Any:
    """Replace NUL characters, which a text in PostgreSQL cannot contain."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    return [_without_nul(item) for item in value] if isinstance(value, list) else value


def _prepare_message(message: dict[str, Any], body: dict[str, Any], now: int) -> PreparedMessage:
    at = message_requests.created_at(message, now)
    external = message.get("externalMessageId")
    agent = message_columns.agent_name_of(message) or message_columns.agent_name_of(body)
    metrics = message_columns.extract_metrics(message, body.get("model"))
    columns = (
        external, message_columns.message_type(message), at, agent, *metrics, message_columns.compact_json(message),
        terms_of(message_columns.search_text(message)),
    )  # fmt: skip
    return PreparedMessage(message, at, external, columns)
