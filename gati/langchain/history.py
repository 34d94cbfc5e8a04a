"""Which messages of a list are news: what keeps the cost of a conversation linear.

Programs hand the whole history to every model call. Only its tail is copied: the walk goes
backwards and stops at an answer that an earlier callback has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import is_dataclass
from typing import Any

from langchain_core.messages import BaseMessage
from pydantic import BaseModel

from gati.langchain.snapshot import freeze, is_command, is_message, message, own_dict
from gati.trace.records import COMMAND

ANSWERS = frozenset({"ai", "AIMessageChunk", "assistant"})
PEOPLE = frozenset({"human", "HumanMessageChunk", "user"})
SYSTEM = frozenset({"system", "SystemMessageChunk", "developer"})
STATE_BUDGET = 500
"""Most values copied of a graph's state beside its messages: what keeps a callback far below a
millisecond whatever the state holds. Strings count one each, however long."""
LONGEST_IMPORT = 2_000
"""Most messages taken over from a history that began before gati watched."""
MOST_COMMANDS = 50
"""Most commands of one node that are looked into; more of them are copied as any list is."""


class Memory:
    """A set that forgets its oldest half when it is full. Safe without a lock: losing a race
    costs one repeated snapshot, which the assembler drops."""

    __slots__ = ("bound", "kept")

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.kept: dict[Hashable, None] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self.kept

    def add(self, key: Hashable) -> None:
        self.kept[key] = None
        if len(self.kept) > self.bound:
            for old in list(self.kept)[: self.bound // 2]:
                self.kept.pop(old, None)


def role_of(item: Any) -> str:
    """Role of a message in any of the forms that LangChain accepts; "" if it is none."""
    if is_message(item):
        role = item.__dict__.get("type")
        return role if type(role) is str else ""
    kind = type(item)
    if issubclass(kind, dict):
        said: Any = dict.get(item, "role")
        if said is None or (type(said) is str and not said):
            said = dict.get(item, "type")
        # A role may be the member of an enum; whatever else it is, it is not asked.
        return str.__str__(said) if issubclass(type(said), str) else ""
    if (kind is tuple or kind is list) and len(item) == 2 and type(item[0]) is str:
        first: str = item[0]
        return first
    return ""


def conversation_in(value: Any) -> Any:
    """A list of chat messages, None if `value` is something else; its last item tells.

    Of a subclass of `list` a plain list is given: its own methods are the user's code.
    """
    kind = type(value)
    if kind is not list and kind is not tuple:
        if not issubclass(kind, list):
            return None
        value = list(list.__iter__(value))
    return value if value and role_of(value[-1]) else None


def keys_of_answer(item: BaseMessage) -> list[Hashable]:
    """By what an answer is known again: its id, and its text for programs that keep only that."""
    have = item.__dict__
    content = have.get("content")
    return [key for key in (have.get("id"), content if type(content) is str else None) if key]


def tail_of_call(messages: Any, seen: Memory, whole: bool = False) -> tuple[list[Any], list[Any]]:
    """System messages and new messages of a model call, oldest first; all of them if it begins a
    conversation that is new to us (`whole`)."""
    system: list[Any] = []
    for item in messages:
        if role_of(item) not in SYSTEM:
            break
        system.append(message(item))
    news: list[Any] = []
    for index in range(len(messages) - 1, len(system) - 1, -1):
        item = messages[index]
        if not is_message(item):
            news.append(freeze(item))
        else:
            if role_of(item) in ANSWERS:
                keys = keys_of_answer(item)
                if not whole and not seen.kept.keys().isdisjoint(keys):
                    break
                for key in keys:
                    seen.add(key)
            news.append(message(item))
        if len(news) >= LONGEST_IMPORT:
            break
    news.reverse()
    return system, news


def state(value: Any, tail: Callable[[Any], list[Any]]) -> Any:
    """A root's or node's input or output; of message lists in it only the `tail`."""
    pairs: Mapping[Any, Any]
    if type(value) is dict:
        pairs = value
    elif is_message(value):
        return message(value)
    elif is_command(value):
        return _command(value, tail)
    elif type(value) is list and 0 < len(value) <= MOST_COMMANDS and is_command(value[-1]):
        return [state(item, tail) for item in value]
    elif (messages := conversation_in(value)) is not None:
        return tail(messages)
    elif issubclass(type(value), dict):
        pairs = dict(dict.items(value))
    elif issubclass(type(value), BaseModel) or (
        is_dataclass(type(value)) and own_dict(value) and not is_command(value)
    ):
        pairs = own_dict(value)
    else:
        return freeze(value)
    copied: dict[Any, Any] = {}
    plain: dict[Any, Any] = {}
    for key, item in pairs.items():
        if type(item) is not str and (messages := conversation_in(item)) is not None:
            if news := tail(messages):
                copied[str(key)] = news
        else:
            plain[key] = item
    if plain:
        plain = freeze(plain, STATE_BUDGET)
        plain.update(copied)
        return plain
    return copied


def _command(value: Any, tail: Callable[[Any], list[Any]]) -> dict[str, Any]:
    """LangGraph's `Command` with what it sets; of the messages in its update only the `tail`."""
    copied: dict[str, Any] = {}
    if (update := value.update) is not None:
        copied["update"] = state(update, tail) if type(update) is dict else freeze(update)
    for name in ("goto", "graph", "resume"):
        if (said := getattr(value, name, None)) is not None and said != ():
            copied[name] = freeze(said)
    return {COMMAND: copied}


def tail_of_input(messages: Any, whole: bool) -> list[Any]:
    """What a turn's input adds: all of it when the conversation is new to us (`whole`),
    else what follows the last answer."""
    news: list[Any] = []
    for item in reversed(messages):
        if not whole and role_of(item) in ANSWERS:
            break
        news.append(message(item) if is_message(item) else freeze(item))
        if len(news) >= LONGEST_IMPORT:
            break
    news.reverse()
    return news


def tail_of_output(messages: Any, seen: Memory) -> list[Any]:
    """What a root's output adds: what follows the last message of a person, without what tools were seen to
    return before the last answer."""
    news: list[Any] = []
    answered = False
    for item in reversed(messages):
        role = role_of(item)
        if role in PEOPLE:
            break
        if not is_message(item):
            news.append(freeze(item))
        elif not (answered and item.__dict__.get("tool_call_id") in seen):
            news.append(message(item))
        answered = answered or role in ANSWERS
        if len(news) >= LONGEST_IMPORT:
            break
    news.reverse()
    return news


def news_of_node(messages: Any, seen: Memory) -> list[Any]:
    """What a node's output adds: as of a root, without answers that a model's end has told."""
    news: list[Any] = []
    for item in reversed(messages):
        role = role_of(item)
        if role in PEOPLE:
            break
        if is_message(item):
            have = item.__dict__
            if have.get("id") in seen or have.get("tool_call_id") in seen:
                continue
            news.append(message(item))
        else:
            news.append(freeze(item))
        if len(news) >= LONGEST_IMPORT:
            break
    news.reverse()
    return news


def rendered(value: Any) -> Any:
    """System messages of a prompt's output, or its text: what links it to the model call."""
    have = getattr(value, "__dict__", {})
    messages = have.get("messages")
    if messages is None:
        return freeze(have.get("text"))
    return [message(item) for item in messages if role_of(item) in SYSTEM]
