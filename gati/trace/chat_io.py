"""What a person wrote and what they were answered, found in a root run's input and output."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson

from gati.trace.content import text_of
from gati.trace.records import COMMAND, Message

USER_ROLES = frozenset({"human", "HumanMessageChunk", "user"})
ASSISTANT_ROLES = frozenset({"ai", "AIMessageChunk", "assistant"})
SYSTEM_ROLES = frozenset({"system", "SystemMessageChunk", "developer"})
TOOL_ROLES = frozenset({"tool", "ToolMessageChunk", "function"})

INPUT_KEYS = ("input", "question", "query", "text", "prompt", "user_input", "message", "content", "topic")
OUTPUT_KEYS = ("output", "answer", "response", "result", "text", "content", "generation", "final_answer")


_WITH_RAW = {"raw", "parsed", "parsing_error"}
"""Keys of a structured output that LangChain was asked to give with the message it came from."""


class SplitHistory(NamedTuple):
    """The messages of a turn's input: `news` since the last answer, `history` before it."""

    history: list[Message]
    news: list[Message]


def as_message(item: Any) -> Message | None:
    """A message in any of the forms that LangChain accepts; None if it is none."""
    if isinstance(item, Message):
        return item
    if isinstance(item, dict):
        role = item.get("role") or item.get("type")
        if isinstance(role, str) and "content" in item:
            calls = item.get("tool_calls")
            return Message(
                role, item["content"], item.get("id"), item.get("name"),
                tuple(calls) if isinstance(calls, list) else (), tool_call_id=item.get("tool_call_id"),
            )  # fmt: skip
    if isinstance(item, (list, tuple)) and len(item) == 2 and isinstance(item[0], str):
        return Message(item[0], item[1])
    return None


def as_messages(value: Any) -> list[Message] | None:
    """A list of messages, or one, as a list; None if it is neither."""
    if isinstance(value, Message):
        return [value]
    if isinstance(value, list) and value and as_message(value[-1]) is not None:
        return [m for item in value if (m := as_message(item)) is not None]
    return None


def _split_at_last_answer(messages: list[Message]) -> SplitHistory:
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].role in ASSISTANT_ROLES:
            return SplitHistory(messages[: index + 1], messages[index + 1 :])
    return SplitHistory([], messages)


def user_messages_in(value: Any, key: str | None = None) -> SplitHistory | None:
    """What the input of a root says of the person; None if it does not tell.

    `key` names the entry that holds their text (`input_key` of the settings).
    """
    if isinstance(value, str):
        return SplitHistory([], [Message("human", value)]) if value else None
    messages = as_messages(value)
    if messages is not None:
        return _split_at_last_answer(messages)
    if not isinstance(value, dict) or COMMAND in value:
        return None
    if key is not None and key in value:
        return user_messages_in(value[key])
    if (messages := as_messages(_texts_as_messages(value.get("messages")))) is not None:
        return _split_at_last_answer(messages)
    return _user_messages_in_state(value)


def _texts_as_messages(value: Any) -> Any:
    """What stands under `messages`, where a bare text is a person's message, too."""
    if isinstance(value, str) and value:
        return [Message("human", value)]
    if isinstance(value, list):
        return [Message("human", item) if isinstance(item, str) else item for item in value]
    return value


def _user_messages_in_state(value: dict[str, Any]) -> SplitHistory | None:
    history = next((found for v in value.values() if isinstance(v, list) and (found := as_messages(v))), None)
    for name in INPUT_KEYS:
        found = value.get(name)
        if isinstance(found, str) and found:
            return SplitHistory(history or [], [Message("human", found)])
        if (messages := as_messages(found)) is not None:
            return _split_at_last_answer(messages)
    texts = [v for v in value.values() if isinstance(v, str) and v]
    if len(texts) == 1:
        return SplitHistory(history or [], [Message("human", texts[0])])
    return _split_at_last_answer(history) if history is not None and not texts else None


def answer_in(
    value: Any,
    key: str | None = None,
    structured: bool = False,
    root_input: Any = None,
    completions: Iterable[str] = (),
) -> str:
    """The text that the output of a root shows to a person; "" if there is none.

    Args:
        value: the root's output.
        key: entry of it that holds the answer (`output_key` of the settings).
        structured: an output that is no text is the answer itself, as JSON.
        root_input: the root's input; what stands in it is nothing new.
        completions: what models said, the latest first; tells among several texts.
    """
    if isinstance(value, str):
        return value
    messages = as_messages(value)
    if messages is not None:
        return _answer_in_messages(messages)
    if isinstance(value, dict) and COMMAND not in value:
        text = _answer_in_state(value, key)
        if text:
            return text
        value = {
            k: v
            for k, v in value.items()
            if not (isinstance(root_input, dict) and k in root_input and root_input[k] == v)
        }
        text = _answer_among_texts(value, structured, completions)
        if text:
            return text
    if structured and value not in (None, {}, []):
        return json_text(value)
    return ""


def _answer_in_state(value: dict[str, Any], key: str | None) -> str:
    if key is not None and key in value:
        return answer_in(value[key], structured=True)
    structured = value.get("structured_response")
    if (messages := as_messages(value.get("messages"))) is not None:
        # A structured answer may come as the "result" of a tool that is nothing but its shape.
        if text := _answer_in_messages(messages, tools=structured is None):
            return text
    if structured is not None:
        return json_text(structured)
    for name in OUTPUT_KEYS:
        found = value.get(name)
        if isinstance(found, str) and found:
            return found
        if (messages := as_messages(found)) is not None:
            return _answer_in_messages(messages)
    for found in value.values():
        if isinstance(found, list) and (messages := as_messages(found)) is not None:
            if text := _answer_in_messages(messages):
                return text
    if value.keys() == _WITH_RAW:
        return json_text(value["parsed"]) if value["parsed"] is not None else answer_in(value["raw"])
    return ""


def _answer_among_texts(value: dict[str, Any], structured: bool, completions: Iterable[str]) -> str:
    """The text that a program without any of the usual names made, if one of its entries is it."""
    texts = [v for v in value.values() if isinstance(v, str) and v]
    if structured:
        return texts[0] if texts and len(value) == 1 else ""
    return texts[0] if len(texts) == 1 else next((said for said in completions if said and said in texts), "")


def _answer_in_messages(messages: list[Message], tools: bool = True) -> str:
    for message in reversed(messages):
        if message.role in USER_ROLES:
            return ""
        if message.role in ASSISTANT_ROLES:
            return "" if message.tool_calls else text_of(message)
        # A tool that returns directly to the person has the last word.
        if tools and message.role in TOOL_ROLES and message is messages[-1] and message.status != "error":
            return text_of(message)
    return ""


def json_text(value: Any) -> str:
    """A plain value as compact JSON, for results that are no text."""
    try:
        return orjson.dumps(value, default=_json_default, option=orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, ValueError):
        return str(value)


def _json_default(value: Any) -> Any:
    return value.as_dict() if isinstance(value, Message) else str(value)
