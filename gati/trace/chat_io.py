"""What a person wrote and what they were answered, found in a root run's input and output."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson

from gati.trace.content import text_of
from gati.trace.records import COMMAND, Message

PEOPLE = frozenset({"human", "HumanMessageChunk", "user"})
ANSWERS = frozenset({"ai", "AIMessageChunk", "assistant"})
SYSTEM = frozenset({"system", "SystemMessageChunk", "developer"})
TOOLS = frozenset({"tool", "ToolMessageChunk", "function"})

INPUT_KEYS = ("input", "question", "query", "text", "prompt", "user_input", "message", "content", "topic")
OUTPUT_KEYS = ("output", "answer", "response", "result", "text", "content", "generation", "final_answer")


_WITH_RAW = {"raw", "parsed", "parsing_error"}
"""Keys of a structured output that LangChain was asked to give with the message it came from."""


class Heard(NamedTuple):
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


def _split(messages: list[Message]) -> Heard:
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].role in ANSWERS:
            return Heard(messages[: index + 1], messages[index + 1 :])
    return Heard([], messages)


def heard_in(value: Any, key: str | None = None) -> Heard | None:
    """What the input of a root says of the person; None if it does not tell.

    `key` names the entry that holds their text (`input_key` of the settings).
    """
    if isinstance(value, str):
        return Heard([], [Message("human", value)]) if value else None
    messages = as_messages(value)
    if messages is not None:
        return _split(messages)
    if not isinstance(value, dict) or COMMAND in value:
        return None
    if key is not None and key in value:
        return heard_in(value[key])
    if (messages := as_messages(_with_texts(value.get("messages")))) is not None:
        return _split(messages)
    return _heard_in_state(value)


def _with_texts(value: Any) -> Any:
    """What stands under `messages`, where a bare text is a person's message, too."""
    if isinstance(value, str) and value:
        return [Message("human", value)]
    if isinstance(value, list):
        return [Message("human", item) if isinstance(item, str) else item for item in value]
    return value


def _heard_in_state(value: dict[str, Any]) -> Heard | None:
    history = next((found for v in value.values() if isinstance(v, list) and (found := as_messages(v))), None)
    for name in INPUT_KEYS:
        found = value.get(name)
        if isinstance(found, str) and found:
            return Heard(history or [], [Message("human", found)])
        if (messages := as_messages(found)) is not None:
            return _split(messages)
    texts = [v for v in value.values() if isinstance(v, str) and v]
    if len(texts) == 1:
        return Heard(history or [], [Message("human", texts[0])])
    return _split(history) if history is not None and not texts else None


def answer_in(
    value: Any, key: str | None = None, structured: bool = False, given: Any = None, spoken: Iterable[str] = ()
) -> str:
    """The text that the output of a root shows to a person; "" if there is none.

    Args:
        value: the root's output.
        key: entry of it that holds the answer (`output_key` of the settings).
        structured: an output that is no text is the answer itself, as JSON.
        given: the root's input; what stands in it is nothing new.
        spoken: what models said, the latest first; tells among several texts.
    """
    if isinstance(value, str):
        return value
    messages = as_messages(value)
    if messages is not None:
        return _last_answer(messages)
    if isinstance(value, dict) and COMMAND not in value:
        text = _answer_in_state(value, key)
        if text:
            return text
        value = {k: v for k, v in value.items() if not (isinstance(given, dict) and k in given and given[k] == v)}
        text = _text_among(value, structured, spoken)
        if text:
            return text
    if structured and value not in (None, {}, []):
        return as_json(value)
    return ""


def _answer_in_state(value: dict[str, Any], key: str | None) -> str:
    if key is not None and key in value:
        return answer_in(value[key], structured=True)
    structured = value.get("structured_response")
    if (messages := as_messages(value.get("messages"))) is not None:
        # A structured answer may come as the "result" of a tool that is nothing but its shape.
        if text := _last_answer(messages, tools=structured is None):
            return text
    if structured is not None:
        return as_json(structured)
    for name in OUTPUT_KEYS:
        found = value.get(name)
        if isinstance(found, str) and found:
            return found
        if (messages := as_messages(found)) is not None:
            return _last_answer(messages)
    for found in value.values():
        if isinstance(found, list) and (messages := as_messages(found)) is not None:
            if text := _last_answer(messages):
                return text
    if value.keys() == _WITH_RAW:
        return as_json(value["parsed"]) if value["parsed"] is not None else answer_in(value["raw"])
    return ""


def _text_among(value: dict[str, Any], structured: bool, spoken: Iterable[str]) -> str:
    """The text that a program without any of the usual names made, if one of its entries is it."""
    texts = [v for v in value.values() if isinstance(v, str) and v]
    if structured:
        return texts[0] if texts and len(value) == 1 else ""
    return texts[0] if len(texts) == 1 else next((said for said in spoken if said and said in texts), "")


def _last_answer(messages: list[Message], tools: bool = True) -> str:
    for message in reversed(messages):
        if message.role in PEOPLE:
            return ""
        if message.role in ANSWERS:
            return "" if message.tool_calls else text_of(message)
        # A tool that returns directly to the person has the last word.
        if tools and message.role in TOOLS and message is messages[-1] and message.status != "error":
            return text_of(message)
    return ""


def as_json(value: Any) -> str:
    """A plain value as compact JSON, for results that are no text."""
    try:
        return orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, ValueError):
        return str(value)


def _plain(value: Any) -> Any:
    return value.as_dict() if isinstance(value, Message) else str(value)
