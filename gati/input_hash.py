"""The rolling hash over the messages that a model call was sent.

`trace` computes it from LangChain's messages, and `store` again from the delivered ones. Equal hashes mean that the
reconstruction is exact. Differences that the delivery makes on purpose do not count: white space, JSON instead of the
text that LangChain makes of a tool's result, and the data of pictures.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from json.encoder import encode_basestring_ascii
from typing import Any

from gati import contract

_STATE_BYTES = 16
_HASH_BYTES = 8
_LONGEST_JSON = 200_000

NO_MESSAGES = b""
"""The state before the first message."""


def add_message(state: bytes, role: str, text: Any, tool_calls: Iterable[Mapping[str, Any]] = ()) -> bytes:
    """Return the state after one more message.

    Args:
        state: The state before it.
        role: "user", "assistant", "tool" or another role.
        text: Its text; for a tool's result, any value.
        tool_calls: The tool calls that it contains, each with `name` and `args`.
    """
    message = [role, _canonical(text)]
    message += [_encode([call.get("name"), call.get("args")]) for call in tool_calls]
    # As JSON. All entries are texts, so no encoder has to be created.
    encoded = f"[{', '.join(map(encode_basestring_ascii, message))}]"
    return blake2b(state + encoded.encode(), digest_size=_STATE_BYTES).digest()


def hash_of(state: bytes, system_prompt: str) -> str:
    """Return the hash of a call: its messages, and its system prompt, which may change from call to call."""
    return blake2b(
        state + " ".join(system_prompt.split()).encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES
    ).hexdigest()


def hashed_role(name: str) -> str:
    """Return "user", "assistant", "tool" or "system" for a role as LangChain, OpenAI or the contract names it."""
    return _ROLES.get(name, name)


_ROLES = {
    "human": "user", "HumanMessageChunk": "user", "ai": "assistant", "AIMessageChunk": "assistant",
    "ToolMessageChunk": "tool", "function": "tool", "SystemMessageChunk": "system", "developer": "system",
    **{kind: role for role, kind in contract.ROLES.items()},
}  # fmt: skip


def _canonical(value: Any) -> str:
    """Return a value as a text without the differences that do not count: ``'{"a":  1}'`` and ``{"a": 1}`` are equal."""
    if isinstance(value, str):
        if value[:1] not in ("{", "[") or len(value) > _LONGEST_JSON:
            return "" if value == "null" else " ".join(value.split())
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return " ".join(value.split())
    return "" if value is None else _encode(value)


def _encode(value: Any) -> str:
    try:
        return _ENCODER.encode(value)
    except (TypeError, ValueError, RecursionError):  # keys of several types, or nested too deeply
        return ""


_ENCODER = json.JSONEncoder(sort_keys=True, default=str)
