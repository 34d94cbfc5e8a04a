"""Chat messages in the form of the GenAI semantic conventions: `gen_ai.input.messages` and its relatives. Pure.

A message is ``{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from gati import events

Message: TypeAlias = dict[str, Any]
Part: TypeAlias = dict[str, Any]

_ROLES = {"human": "user", "ai": "assistant", "developer": "system", "function": "tool"}
"""LangChain's role → the role in the conventions, where they differ."""


def system_instructions(text: str) -> list[Part]:
    """Return a system prompt as `gen_ai.system_instructions`."""
    return [_text_part(text)]


def tool_definitions(names: Iterable[str]) -> list[dict[str, str]]:
    """Return the tools that a model was offered as `gen_ai.tool.definitions`."""
    return [{"type": "function", "name": name} for name in names]


def chat_message(chat: events.ChatMessage) -> Message:
    """Return a message that the user wrote or read."""
    attachments = chat.properties.get("attachments")
    media = [_media_part(item) for item in attachments] if isinstance(attachments, list) else []
    return {"role": chat.role, "parts": [_text_part(chat.text), *media]}


def call_input(call: events.LLMCallEvent) -> list[Message]:
    """Return the new messages in the input of a model call: the last of the user, and those that no other span contains."""
    new = [_input_message(message) for message in call.new_messages]
    prompt = {"role": "user", "parts": [_text_part(call.prompt)]}
    return new if not call.prompt or prompt in new else [prompt, *new]


def call_output(call: events.LLMCallEvent) -> list[Message]:
    """Return the answers of a model call, one message for each candidate."""
    parts = [{"type": "reasoning", "content": call.reasoning}] if call.reasoning else []
    if call.completion:
        parts.append(_text_part(call.completion))
    parts += [_tool_call_part(request) for request in call.tool_requests]
    parts += [_media_part(item) for item in call.attachments]
    if not parts and not call.candidates:
        return []
    # The conventions require a reason.
    reason = call.finish_reason or ("error" if call.status == "error" else "stop")
    choices = [parts, *([_text_part(text)] for text in call.candidates)]
    return [{"role": "assistant", "parts": choice, "finish_reason": reason} for choice in choices]


def _input_message(message: Mapping[str, Any]) -> Message:
    """Convert a message of `LLMCallEvent.new_messages`."""
    role = str(message.get("role", "user"))
    content = message.get("content", message.get("text"))
    calls = message.get("tool_calls") or ()
    parts: list[Part] = []
    if role in ("tool", "function"):
        parts.append({"type": "tool_call_response", "id": message.get("tool_call_id"), "response": content})
    elif content or not calls:
        parts += [_block_part(block) for block in content] if isinstance(content, list) else [_text_part(content)]
    parts += [_tool_call_part(call) for call in calls]
    return {"role": _ROLES.get(role, role), "parts": parts}


def _block_part(block: Any) -> Part:
    if isinstance(block, Mapping) and isinstance(block.get("text"), str):
        return _text_part(block["text"])
    return _media_part(block) if isinstance(block, Mapping) else _text_part(block)


def _text_part(text: Any) -> Part:
    return {"type": "text", "content": text if isinstance(text, str) else str(text or "")}


def _tool_call_part(call: Any) -> Part:
    if not isinstance(call, Mapping):
        return {"type": "tool_call", "name": str(call)}
    return {"type": "tool_call", "id": call.get("id"), "name": call.get("name"), "arguments": call.get("args")}


def _media_part(block: Any) -> Part:
    """Return the description of a picture, a sound or a file as a part of a type of its own."""
    return {"type": "media", **block} if isinstance(block, Mapping) else _text_part(block)
