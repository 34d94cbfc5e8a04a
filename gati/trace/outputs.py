"""What tools, nodes and retrievers returned, as the objects that a destination wants."""

from __future__ import annotations

from typing import Any

import orjson

from gati.trace.chat_io import TOOL_ROLES, as_messages
from gati.trace.media import plain_blocks as plain
from gati.trace.records import COMMAND, Message

_MAX_JSON_CHARS = 200_000
"""Characters of a text that is looked at as JSON; a longer one stays a text."""


def as_object(value: Any, key: str) -> dict[str, Any]:
    """A value as the object that the destination wants: a dict as it is, else `{key: value}`."""
    if value is None:
        return {}
    made = plain(value)
    return made if isinstance(made, dict) else {key: made}


def updates_of(output: Any) -> list[dict[str, Any]]:
    """What a node's output changes in its graph's state: a dict, a command's update, or several."""
    if isinstance(output, list):
        return [update for item in output for update in updates_of(item)]
    if not isinstance(output, dict):
        return []
    if COMMAND not in output:
        return [output]
    update = output[COMMAND].get("update")
    if isinstance(update, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in update):
        update = {str(key): value for key, value in update}
    return [update] if isinstance(update, dict) else []


def state_of(output: Any) -> dict[str, Any]:
    """What a node changed, without messages, which stand elsewhere, and without what it left empty."""
    return {
        k: plain(v)
        for update in updates_of(output)
        for k, v in update.items()
        if v not in (None, [], {}) and as_messages(v) is None
    }


def result_of(value: Any) -> dict[str, Any]:
    """What a function returned, without messages, which stand elsewhere."""
    if isinstance(value, dict):
        return state_of(value)
    return {} if as_messages(value) is not None else as_object(value, "output")


def tool_message_in(output: Any, call_id: str | None) -> Message | None:
    """The tool message in what a tool returned: the value itself, or inside a command's update."""
    if isinstance(output, Message):
        return output
    if isinstance(output, list):
        return next((m for item in output if (m := tool_message_in(item, call_id)) is not None), None)
    if isinstance(output, dict) and COMMAND in output:
        for update in updates_of(output):
            for message in as_messages(update.get("messages")) or ():
                if message.role in TOOL_ROLES and message.tool_call_id == call_id:
                    return message
    return None


def tool_output(value: Any, answer: Message | None) -> dict[str, Any]:
    """What a tool returned, as an object; the message's text where there is one."""
    if answer is None:
        return as_object(value, "output")
    made = read_json(answer.content) if isinstance(answer.content, str) else plain(answer.content)
    made = made if isinstance(made, dict) else {"output": made}
    if answer.additional and "artifact" in answer.additional:
        made["artifact"] = plain(answer.additional["artifact"])
    if isinstance(value, dict) and COMMAND in value:
        command = value[COMMAND]
        made |= {k: plain(command[k]) for k in ("goto", "graph") if command.get(k)}
    return made


def read_json(text: str) -> Any:
    """The value of a text that is a JSON object, list or null, else the text: LangChain writes
    what a tool returned into a message as JSON.
    """
    if text == "null":
        return None
    if text[:1] not in ("{", "[") or len(text) > _MAX_JSON_CHARS:
        return text
    try:
        return orjson.loads(text)
    except ValueError:
        return text


def normalize_document(item: Any) -> dict[str, Any]:
    """A retrieved normalize_document as `{text, metadata, score}`, whatever class it was."""
    if not isinstance(item, dict):
        return {"text": item if isinstance(item, str) else str(plain(item)), "metadata": {}, "score": None}
    metadata = plain(item.get("metadata") or {})
    score = metadata.get("score", metadata.get("relevance_score")) if isinstance(metadata, dict) else None
    return {"text": str(item.get("page_content") or item.get("text") or ""), "metadata": metadata, "score": score}
