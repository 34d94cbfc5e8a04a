"""Identify the conversation that a root's input repeats, without copying it.

A program without conversation ids passes its history with each turn. The assembler compares it with the turns
that it knows, so only roles and hashes of the texts are recorded, and of a long history only its two ends.
"""

from __future__ import annotations

from dataclasses import is_dataclass
from itertools import repeat
from operator import itemgetter
from typing import Any

from pydantic import BaseModel

from gati.langchain.message_snapshot import ROLE_BY_CLASS
from gati.langchain.new_messages import as_message_list, role_of
from gati.langchain.snapshot import instance_dict, plain_text, text_limit
from gati.limits import hash_of_text
from gati.trace.records import ASSISTANT_ROLES, RepeatedHistory

HEAD, TAIL = 16, 48
"""Number of messages recorded from the beginning and the end of a history."""

_role_and_content = itemgetter("type", "content")


def repeated_history(inputs: Any) -> RepeatedHistory | None:
    """Return the messages in a root's input up to its last answer; None if it contains no answer."""
    for messages in _message_lists(inputs):
        end = _end_of_last_answer(messages)
        if end:
            return _identify(messages, end)
    return None


def _message_lists(inputs: Any) -> list[Any]:
    if (messages := as_message_list(inputs)) is not None:
        return [messages]
    kind = type(inputs)
    values: list[Any] = []
    if issubclass(kind, dict):
        values = list(dict.values(inputs))
    elif issubclass(kind, BaseModel) or is_dataclass(kind):
        values = list(instance_dict(inputs).values())
    return [messages for value in values if type(value) is not str and (messages := as_message_list(value)) is not None]


def _end_of_last_answer(messages: Any) -> int:
    """Return the index after the last answer, or 0. Only the end of a list without answers is searched."""
    for index in range(len(messages) - 1, max(-1, len(messages) - 1 - TAIL), -1):
        item = messages[index]
        if (ROLE_BY_CLASS[type(item)] or role_of(item)) in ASSISTANT_ROLES:
            return index + 1
    return 0


def _identify(messages: Any, end: int) -> RepeatedHistory:
    is_whole = end <= HEAD + TAIL
    ends = messages[:end] if is_whole else [*messages[:HEAD], *messages[end - TAIL : end]]
    last = messages[end - 1]
    answer_id = dict.get(last if issubclass(type(last), dict) else instance_dict(last), "id")
    roles, hashes = _roles_and_hashes(ends)
    return RepeatedHistory(roles, hashes, is_whole, answer_id if type(answer_id) is str else None)


def _roles_and_hashes(messages: list[Any]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    if None not in map(ROLE_BY_CLASS.__getitem__, map(type, messages)):
        try:  # mostly message objects with texts: no Python code runs for each
            fields = map(object.__getattribute__, messages, repeat("__dict__"))
            roles, contents = zip(*map(_role_and_content, fields), strict=True)
            if set(map(type, roles)) == set(map(type, contents)) == {str}:
                if max(map(len, contents)) <= text_limit.chars:
                    return roles, tuple(map(hash, contents))
                return roles, tuple([hash_of_text(text, text_limit.chars) for text in contents])
        except KeyError:  # a message that was created without its fields
            pass
    return tuple(map(role_of, messages)), tuple([hash_of_text(_text_of(item), text_limit.chars) for item in messages])


def _text_of(item: Any) -> str:
    """Return the text of a message in any form, blocks joined as in `trace.content.text_of`."""
    kind = type(item)
    content: Any = None
    if ROLE_BY_CLASS[kind] is not None:
        content = instance_dict(item).get("content")
    elif issubclass(kind, dict):
        content = dict.get(item, "content")
    elif (kind is tuple or kind is list) and len(item) == 2:
        content = item[1]
    if (text := plain_text(content)) is not None:
        return text
    blocks = content if type(content) is list or type(content) is tuple else ()
    texts = [plain_text(block.get("text") if type(block) is dict else block) for block in blocks]
    separator = "" if role_of(item) in ASSISTANT_ROLES else "\n"
    return separator.join(filter(None, texts))
