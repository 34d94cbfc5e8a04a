"""Read the user's messages from a root run's input."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from gati.trace.bare_base64 import is_only_media
from gati.trace.chat_messages import as_messages, messages_under
from gati.trace.records import ASSISTANT_ROLES, COMMAND, MESSAGES, Message

INPUT_KEYS = ("input", "question", "query", "text", "prompt", "user_input", "message", "content", "topic")


class SplitHistory(NamedTuple):
    """The messages of a turn's input: `new` after the last answer, `history` up to it.

    `origin` is where `new` comes from: messages; the entry that the option `input_key` names; a text that
    is the whole input or is under one of `INPUT_KEYS`; or the only text of the input.
    """

    history: list[Message]
    new: list[Message]
    origin: Literal["messages", "input_key", "question", "only_text"] = "messages"


def user_messages_in(value: Any, key: str | None = None) -> SplitHistory | None:
    """Return the messages in a root's input; None if it contains none.

    Example: ``{"question": "144?", "chat_history": [user, ai]}`` → history ``[user, ai]``, new
    ``[Message("human", "144?")]``.

    Args:
        value: the root's input.
        key: entry that holds the user's text (the option `input_key`).
    """
    if isinstance(value, str):
        return SplitHistory([], [Message("human", value)], "question") if value else None
    messages = as_messages(value)
    if messages is not None:
        return _split_at_last_answer(messages)
    if not isinstance(value, dict) or COMMAND in value:
        return None
    if key is not None and key in value:
        split = user_messages_in(value[key])
        return split._replace(origin="input_key") if split is not None else None
    if (messages := messages_under(MESSAGES, value.get(MESSAGES))) is not None:
        split = _split_at_last_answer(messages)
        if not split.new and (text := _text_under_usual_key(value)) is not None:
            return SplitHistory(messages, [text], "question")
        return split
    return _user_messages_in_state(value)


def _split_at_last_answer(messages: list[Message]) -> SplitHistory:
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].role in ASSISTANT_ROLES:
            return SplitHistory(messages[: index + 1], messages[index + 1 :])
    return SplitHistory([], messages)


def _text_under_usual_key(value: dict[str, Any]) -> Message | None:
    texts = (value.get(name) for name in INPUT_KEYS)
    return next((Message("human", text) for text in texts if isinstance(text, str) and text), None)


def _user_messages_in_state(value: dict[str, Any]) -> SplitHistory | None:
    """Find the user's text under a usual key, or as the only text of the state."""
    lists = (as_messages(entry) for entry in value.values() if isinstance(entry, list))
    history = next((messages for messages in lists if messages), None)
    for name in INPUT_KEYS:
        entry = value.get(name)
        if isinstance(entry, str) and entry:
            return SplitHistory(history or [], [Message("human", entry)], "question")
        if (messages := as_messages(entry)) is not None:
            return _split_at_last_answer(messages)
    texts = [v for v in value.values() if isinstance(v, str) and v and not is_only_media(v)]
    if len(texts) == 1:
        return SplitHistory(history or [], [Message("human", texts[0])], "only_text")
    return _split_at_last_answer(history) if history is not None and not texts else None
