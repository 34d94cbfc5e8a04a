"""Chat messages in the forms in which exports contain them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from gati.importing.imported_run import ImportedTurn
from gati.trace.chat_messages import as_message
from gati.trace.records import ASSISTANT_ROLES, SYSTEM_ROLES, USER_ROLES, Message, ModelCall, ModelResult

_ROLES_OF_CLASSES = {
    "HumanMessage": "human",
    "AIMessage": "ai",
    "SystemMessage": "system",
    "ToolMessage": "tool",
    "FunctionMessage": "function",
}

_KNOWN_ROLES = USER_ROLES | ASSISTANT_ROLES | SYSTEM_ROLES | {"tool", "function", "ToolMessageChunk"}


def with_messages(value: Any) -> Any:
    """Return a plain value in which every chat message is a `Message`. JSON in a text stays a text."""
    if isinstance(value, dict):
        message = to_message(value)
        return message if message is not None else {key: with_messages(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_messages(item) for item in value]
    return value


def to_message(value: Any) -> Message | None:
    """Return the message that a dict holds: LangChain's serialized or dumped form, or a role with content; else None."""
    if not isinstance(value, dict):
        return None
    if value.get("lc") == 1 and isinstance(value.get("kwargs"), dict):
        name = str((value.get("id") or [""])[-1]).removesuffix("Chunk")
        role = _ROLES_OF_CLASSES.get(name)
        return _from_fields(role, value["kwargs"]) if role is not None else None
    role = value.get("role") or value.get("type")
    if role not in _KNOWN_ROLES or not ("content" in value or "tool_calls" in value):
        return None
    if isinstance(value.get("data"), dict):  # `messages_to_dict`
        return _from_fields(role, value["data"])
    return _from_fields(role, value)


def _from_fields(role: str, fields: dict[str, Any]) -> Message:
    message = as_message({**fields, "role": role, "content": fields.get("content") or ""})
    assert message is not None
    calls = [_tool_call(call) for call in fields.get("tool_calls") or () if isinstance(call, dict)]
    return message._replace(
        tool_calls=tuple(calls),
        status=fields.get("status"),
        usage=fields.get("usage_metadata") or None,
        response=fields.get("response_metadata") or None,
    )


def _tool_call(call: dict[str, Any]) -> dict[str, Any]:
    """Return a tool call in LangChain's form. OpenAI puts name and arguments (as JSON) below `function`."""
    function = call.get("function")
    if not isinstance(function, dict):
        return call
    return {"id": call.get("id"), "name": function.get("name"), "args": parse_json(function.get("arguments")) or {}}


def parse_json(value: Any) -> Any:
    """Return what a JSON text means; any other value as it is."""
    if isinstance(value, str):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def messages_in(value: Any) -> list[Message]:
    """Return the messages of a model's input or output: a list, a batch of one list, one message, or a text."""
    while isinstance(value, dict) and "messages" in value:
        value = value["messages"]
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    if isinstance(value, str):
        return [Message("human", value)] if value else []
    items = value if isinstance(value, list) else [value]
    return [
        message for item in items if (message := item if isinstance(item, Message) else to_message(item)) is not None
    ]


def with_model_calls(turns: Iterable[ImportedTurn]) -> Iterator[ImportedTurn]:
    """Yield turns in which the inputs of models are a `ModelCall`, with the messages that no earlier call had.

    Before, they are the messages and parameters of the call.
    """
    conversations: dict[str, _SeenMessages] = {}
    for turn in turns:
        seen = conversations.setdefault(turn.conversation_id or turn.root.id, _SeenMessages())
        for run in sorted(turn.runs, key=lambda run: run.started_ns):
            if run.kind == "model":
                run.inputs = seen.model_call(*run.inputs)
                seen.add(run.output)
        yield turn


class _SeenMessages:
    """Finds which messages of a model call no earlier call of the conversation had."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()

    def model_call(self, messages: Iterable[Message], params: dict[str, Any] | None) -> ModelCall:
        """Return a call with its new messages."""
        messages = list(messages)
        system = tuple(message for message in messages if message.role in SYSTEM_ROLES)
        rest = [message for message in messages if message.role not in SYSTEM_ROLES]
        new = tuple(message for message in rest if _message_key(message) not in self._seen)
        self._seen.update(map(_message_key, rest))
        return ModelCall(system, new, len(messages), params)

    def add(self, result: ModelResult) -> None:
        """Add a model's answer, which later calls repeat."""
        self._seen.update(map(_message_key, result.messages))


def _message_key(message: Message) -> tuple[str, str]:
    role = "ai" if message.role in ASSISTANT_ROLES else "human" if message.role in USER_ROLES else message.role
    calls = [call.get("id") for call in message.tool_calls if isinstance(call, dict)]
    return role, f"{message.tool_call_id}{calls}{message.content}"
