"""Parts of `POST /messages` that do not depend on the database: sampling, times and the response. Pure."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

from gati.store import message_columns


def created_at(message: dict[str, Any], now: int) -> int:
    """Return the time of a message in microseconds since the epoch; `now` for one without a time."""
    created = message.get("createdAt")
    return message_columns.parse_timestamp(created) if created else now


def is_sampled(body: dict[str, Any], product: str, external: str | None) -> bool:
    """Decide by the conversation's id, so that every request of a conversation gets the same decision."""
    rate = body.get("sampleRate")
    if rate is None or body.get("forceSample"):
        return True
    digest = hashlib.sha256(f"{product}\n{external or uuid.uuid4()}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < float(rate)


def message_result(conversation: str, row_id: int, message: dict[str, Any], status: str) -> dict[str, Any]:
    """Return the part of the response for one message. `status`: "created" or "deduplicated"."""
    result = {
        "messageId": message_columns.message_uid(conversation, row_id),
        "messageType": message_columns.message_type(message),
        "status": status,
    }
    if external := message.get("externalMessageId"):
        result["externalMessageId"] = external
    return result


def ingest_response(uid: str, messages: list[dict[str, Any]], prompt_uid: str, components: list[str]) -> dict[str, Any]:
    """Return the response body of `POST /messages`."""
    return {
        "success": True,
        "conversationId": uid,
        "messages": messages,
        "systemPromptPromptId": prompt_uid,
        "systemPromptComponentIds": components,
    }
