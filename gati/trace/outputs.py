"""Convert the outputs of tools, nodes and retrievers to the objects that destinations accept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import orjson

from gati.trace.chat_messages import as_messages, messages_under
from gati.trace.media import plain_blocks as plain
from gati.trace.records import COMMAND, MESSAGES, TOOL_ROLES, Message

if TYPE_CHECKING:
    from gati.trace.run_tree import Run

_MAX_JSON_CHARS = 200_000
"""Longest text that is parsed as JSON; a longer one stays text."""


def as_object(value: Any, key: str) -> dict[str, Any]:
    """Return a dict as it is, None as ``{}`` and any other value as ``{key: value}``."""
    if value is None:
        return {}
    copied = plain(value)
    return copied if isinstance(copied, dict) else {key: copied}


def updates_of(output: Any) -> list[dict[str, Any]]:
    """Return the state updates in a node's output: a dict, a `Command`, or a list of these.

    Example: ``[Command(update={"a": 1}), {"b": 2}]`` → ``[{"a": 1}, {"b": 2}]``.
    """
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


def updates_by(run: Run) -> list[dict[str, Any]]:
    """Return `updates_of` the output of a run that has ended. Several parts of a turn's assembly need them."""
    if run.updates is None:
        run.updates = updates_of(run.output)
    return run.updates


def state_of(output: Any) -> dict[str, Any]:
    """Merge a node's state updates, without empty values and messages (other events contain these)."""
    return {
        k: plain(v)
        for update in updates_of(output)
        for k, v in update.items()
        if v not in (None, [], {}) and messages_under(k, v) is None
    }


def result_of(value: Any) -> dict[str, Any]:
    """Convert the return value of a task to an object, without messages (other events contain these)."""
    if isinstance(value, dict):
        return state_of(value)
    return {} if as_messages(value) is not None else as_object(value, "output")


def tool_message_in(output: Any, call_id: str | None) -> Message | None:
    """Return the tool message in a tool's output: the output itself, or an update of a `Command`."""
    if isinstance(output, Message):
        return output
    if isinstance(output, list):
        return next((m for item in output if (m := tool_message_in(item, call_id)) is not None), None)
    return next((m for m in tool_messages_in(output) if m.tool_call_id == call_id), None)


def tool_messages_in(output: Any) -> Iterator[Message]:
    """Yield the messages in a tool's output: the output itself, or the tool messages in the updates of `Command`s."""
    if isinstance(output, Message):
        yield output
    elif isinstance(output, list):
        for item in output:
            yield from tool_messages_in(item)
    elif isinstance(output, dict) and COMMAND in output:
        for update in updates_of(output):
            yield from [m for m in as_messages(update.get(MESSAGES)) or () if m.role in TOOL_ROLES]


def tool_output(value: Any, answer: Message | None) -> dict[str, Any]:
    """Convert a tool's output to an object; use the content of its tool message if there is one.

    Example: a message with content ``'{"rows": 2}'`` and an artifact → ``{"rows": 2, "artifact": …}``.
    """
    if answer is None:
        return as_object(value, "output")
    content = plain(read_json(answer.content) if isinstance(answer.content, str) else answer.content)
    result = content if isinstance(content, dict) else {"output": content}
    if answer.additional and "artifact" in answer.additional:
        result["artifact"] = plain(answer.additional["artifact"])
    if isinstance(value, dict) and COMMAND in value:
        command = value[COMMAND]
        result |= {k: plain(command[k]) for k in ("goto", "graph") if command.get(k)}
    return result


def read_json(text: str) -> Any:
    """Parse a text that is a JSON object, list or null; return any other text unchanged.

    LangChain serializes a tool's return value to JSON in the tool message.
    """
    if text == "null":
        return None
    if text[:1] not in ("{", "[") or len(text) > _MAX_JSON_CHARS:
        return text
    try:
        return orjson.loads(text)
    except ValueError:
        return text


_SCORE_KEYS = ("relevance_score", "rerank_score", "score", "_score")
"""Keys of a document's score, a reranker's first: it may keep the score of the search that it corrects."""


def normalize_document(item: Any) -> dict[str, Any]:
    """Convert a retrieved document of any class to ``{text, metadata, score}``."""
    if not isinstance(item, dict):
        return {"text": item if isinstance(item, str) else str(plain(item)), "metadata": {}, "score": None}
    metadata = plain(item.get("metadata") or {})
    score = (
        next((metadata[key] for key in _SCORE_KEYS if key in metadata), None) if isinstance(metadata, dict) else None
    )
    return {"text": str(item.get("page_content") or item.get("text") or ""), "metadata": metadata, "score": score}
