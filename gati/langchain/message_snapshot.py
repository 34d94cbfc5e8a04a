"""Copy LangChain chat messages in the user's thread, each to a tuple of the fields of `records.Message`.

A pydantic model keeps its fields in `__dict__`, so reading them there runs no code. LangChain does not validate
assignments, so a field may hold any value.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from operator import itemgetter
from types import NoneType
from typing import Any, TypeAlias

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage

from gati.langchain.snapshot import (
    BUDGET,
    IMMUTABLE_TYPES,
    KEY_TYPES,
    Copier,
    register_copier,
    shorten,
    take_snapshot,
    text_limit,
)
from gati.limits import MAX_ID_CHARS, bounded_id, cut_text
from gati.trace.deferred_media import is_media
from gati.trace.records import SYSTEM_ROLES, TOOL_ROLES, Message

_SKIPPED_KEYS = frozenset({"tool_calls", "function_call", "parsed", "logprobs"})
"""Keys of additional data that are recorded elsewhere or not useful to a reader."""
PROMPT_FIELDS = 4
"""The text of a system message may be this many times as long as that of others."""
_CopyFunction = Callable[[Any, int], Any]
"""Copies a value within a budget: `copy(value, budget)`."""
MessageFields: TypeAlias = "tuple[Any, ...]"
"""The fields of a `records.Message`, as `record_codec` packs them."""


class _RoleTable(dict[type, "str | None"]):
    def __missing__(self, kind: type) -> str | None:
        if len(self) > 1_000:  # the program creates classes dynamically
            self.clear()
        role: str | None = None
        if issubclass(kind, BaseMessage):
            default = kind.model_fields["type"].default
            role = default if type(default) is str and not issubclass(kind, ChatMessage) else ""
        self[kind] = role
        return role


ROLE_BY_CLASS = _RoleTable()
"""The role of each message class: "" if the role is a field of the message, None if the class is not a message class.
A dict lookup is used because pydantic makes `isinstance` slow."""

_ROLES_OF_CHAT = {
    "user": "human", "human": "human", "assistant": "ai", "ai": "ai", "model": "ai", "bot": "ai", "system": "system",
    "developer": "system", "tool": "tool", "function": "function",
}  # fmt: skip
"""Role that a `ChatMessage` names, in lower case → the role of the message class that it stands for."""


def role_in(fields: dict[str, Any]) -> str:
    """Return the role of a message whose class does not determine it: a `ChatMessage`, or a message of a custom type."""
    role = fields.get("role")
    if type(role) is str:
        return _ROLES_OF_CHAT.get(role.lower(), role)
    kind = fields.get("type")
    return kind if type(kind) is str else ""


_common_fields = itemgetter("type", "content", "id", "name", "additional_kwargs")
_FIELD_DEFAULTS = {"type": "", "content": "", "id": None, "name": None, "additional_kwargs": None}
_PLAIN_FIELD_TYPES = frozenset(product((str,), (str,), (str, NoneType), (str, NoneType)))
"""Types of the first four fields in nearly every message. Such fields need no copy."""
_SIMPLE_CLASSES = frozenset({HumanMessage, SystemMessage})
"""Message classes without additional fields."""


def snapshot_message(value: BaseMessage, result: bool = False, copy: _CopyFunction = take_snapshot) -> MessageFields:
    """Copy a chat message. `result` adds usage and response metadata, which only model answers have."""
    fields = value.__dict__
    try:
        role, content, id_, name, extra = _common_fields(fields)
    except KeyError:
        role, content, id_, name, extra = _common_fields({**_FIELD_DEFAULTS, **fields})
    if (type(role), type(content), type(id_), type(name)) not in _PLAIN_FIELD_TYPES:
        role = role if type(role) is str else ""
        content, id_, name = _copy_content(content, role, copy), copy(id_, 1), copy(name, 1)
    elif len(content) > text_limit.chars:
        content = _shorten_content(content, role)
    if type(id_) is str and len(id_) > MAX_ID_CHARS:
        id_ = bounded_id(id_)
    kind, get = type(value), fields.get
    if type(extra) is dict and not extra and not result and kind in _SIMPLE_CLASSES:
        return (role, content, id_, name, (), (), None, None, None, None, None)
    if not ROLE_BY_CLASS[kind]:
        role = role_in(fields)
    calls, invalid_calls = get("tool_calls"), get("invalid_tool_calls")
    if type(extra) is dict and "function_call" in extra and _is_absent(calls) and _is_absent(invalid_calls):
        calls = _calls_of_legacy(extra["function_call"])
    call_id = status = artifact = None
    if kind is not AIMessage:
        call_id, status, artifact = get("tool_call_id"), get("status"), get("artifact")
        if type(call_id) not in IMMUTABLE_TYPES or type(status) not in IMMUTABLE_TYPES:
            call_id, status = copy(call_id, 1), copy(status, 1)
    return (
        role,
        content,
        id_,
        name,
        () if _is_absent(calls) else _copy_tool_calls(calls, copy),
        () if _is_absent(invalid_calls) else _copy_tool_calls(invalid_calls, copy),
        call_id,
        status,
        _copy_additional(extra, artifact, copy) if artifact is not None or type(extra) is not dict or extra else None,
        take_snapshot(get("usage_metadata"), 300) if result else None,
        snapshot_response_metadata(get("response_metadata")) if result else None,
    )


def _is_absent(calls: Any) -> bool:
    return calls is None or (type(calls) is list and not calls)


def _shorten_content(text: str, role: Any) -> Any:
    """Cut the text of a message. That of a user or an answer gets a hash of the whole: histories are compared by it.

    More is kept of a system prompt, because its template may put the variables of a long text before its end.
    """
    if is_media(text, None):
        return shorten(text)
    limit = text_limit.chars * (PROMPT_FIELDS if role in SYSTEM_ROLES else 1)
    return cut_text(text, limit, whole_hash=role not in TOOL_ROLES)


def snapshot_tool_message(value: BaseMessage) -> MessageFields:
    """Copy the message that a tool returned. Its artifact is copied in full, since no other record contains it."""
    return snapshot_message(value, copy=lambda inner, _: take_snapshot(inner))


def _copy_content(content: Any, role: str, copy: _CopyFunction) -> Any:
    if type(content) is str and len(content) > text_limit.chars:
        return _shorten_content(content, role)
    return copy(content, BUDGET)


def _calls_of_legacy(call: Any) -> list[dict[str, Any]] | None:
    """Convert OpenAI's former `function_call`, which had no id and one call per message, to tool calls."""
    if type(call) is not dict:
        return None
    return [{"name": call.get("name"), "args": call.get("arguments"), "id": None, "type": "tool_call"}]


def _copy_tool_calls(calls: Any, copy: _CopyFunction) -> tuple[Any, ...]:
    copied = []
    for call in calls if type(calls) is list or type(calls) is tuple else (calls,):
        if type(call) is not dict:
            copied.append(copy(call, BUDGET))
            continue
        call_copy = call.copy()
        arguments = call_copy.get("args")
        if arguments is not None:
            call_copy["args"] = None
        if not (
            IMMUTABLE_TYPES.issuperset(map(type, call_copy.values())) and KEY_TYPES.issuperset(map(type, call_copy))
        ):
            call_copy = {k: copy(v, BUDGET) for k, v in call_copy.items() if type(k) is str}
        if arguments is not None:
            call_copy["args"] = copy(arguments, BUDGET)
        copied.append(call_copy)
    return tuple(copied)


def _copy_additional(extra: Any, artifact: Any, copy: _CopyFunction) -> dict[str, Any] | None:
    additional: dict[str, Any] = {}
    if type(extra) is dict:
        additional = {k: copy(v, 200) for k, v in extra.items() if k not in _SKIPPED_KEYS and v is not None}
    elif extra is not None:
        additional["additional_kwargs"] = copy(extra, 200)
    if artifact is not None:
        additional["artifact"] = copy(artifact, 200)
    return additional or None


def snapshot_response_metadata(value: Any) -> dict[str, Any] | None:
    """Copy a model's `response_metadata` or `llm_output` without its large parts."""
    if type(value) is not dict:
        converted = take_snapshot(value, 200)
        return converted if type(converted) is dict and converted else None
    copied = value.copy()
    if IMMUTABLE_TYPES.issuperset(map(type, copied.values())) and _SKIPPED_KEYS.isdisjoint(copied):
        return take_snapshot(copied, 200) or None
    return {k: take_snapshot(v, 200) for k, v in copied.items() if k not in _SKIPPED_KEYS} or None


def _copy_nested_message(copier: Copier, value: Any, depth: int) -> MessageFields:
    # Share the budget of the outer snapshot; otherwise messages that contain each other would recurse forever.
    # As a `Message`, it makes `record_codec` look for messages anywhere in the record.
    return Message(*snapshot_message(value, copy=lambda inner, _: copier.copy(inner, depth)))


register_copier(BaseMessage, _copy_nested_message)
