"""Which messages of a list are news: what keeps the cost of a conversation linear.

Programs hand the whole history to every model call. Only its tail is copied: the walk goes
backwards and stops at an answer that an earlier callback has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import is_dataclass
from typing import Any

from langchain_core.messages import BaseMessage
from pydantic import BaseModel

from gati.langchain.message_snapshot import ROLES, message
from gati.langchain.snapshot import SHARED, freeze, is_command, own_dict
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
    kind = type(item)
    if (role := ROLES[kind]) is not None:
        own = role or item.__dict__.get("type")
        return own if type(own) is str else ""
    if kind in SHARED:
        return ""
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
    if not value or type(last := value[-1]) in SHARED:
        return None
    return value if ROLES[type(last)] or role_of(last) else None


def remember(answer: BaseMessage, seen: Memory) -> None:
    """Know an answer again: by its id, and by its text for programs that keep only that."""
    have = answer.__dict__
    content = have.get("content")
    for key in (have.get("id"), content if type(content) is str else None):
        if key:
            seen.add(key)


def is_known(have: dict[str, Any], seen: Memory) -> bool:
    """Whether an answer with these fields was remembered."""
    content, known = have.get("content"), seen.kept
    return have.get("id") in known or (type(content) is str and content in known)


def tail_of_call(messages: Any, seen: Memory, whole: bool = False) -> tuple[list[Any], list[Any]]:
    """System messages and new messages of a model call, oldest first; all of them if it begins a
    conversation that is new to us (`whole`)."""
    system: list[Any] = []
    for item in messages:
        if (ROLES[type(item)] or role_of(item)) not in SYSTEM:
            break
        system.append(message(item))
    news: list[Any] = []
    for index in range(len(messages) - 1, len(system) - 1, -1):
        item = messages[index]
        if (role := ROLES[type(item)]) is None:
            news.append(freeze(item))
        else:
            if (role or role_of(item)) in ANSWERS:
                if not whole and is_known(item.__dict__, seen):
                    break
                remember(item, seen)
            news.append(message(item))
        if len(news) >= LONGEST_IMPORT:
            break
    news.reverse()
    return system, news


def state(value: Any, tail: Callable[[Any, Any], list[Any]], known: Any) -> Any:
    """A root's or node's input or output; of message lists in it only the `tail`, which is told what is `known`."""
    kind = type(value)
    if kind is dict:
        return _pairs(value, tail, known)
    if ROLES[kind] is not None:
        return message(value)
    if is_command(value):
        return _command(value, tail, known)
    if kind is list and 0 < len(value) <= MOST_COMMANDS and is_command(value[-1]):
        return [state(item, tail, known) for item in value]
    if (messages := conversation_in(value)) is not None:
        return tail(messages, known)
    if issubclass(kind, dict):
        return _pairs(dict(dict.items(value)), tail, known)
    if issubclass(kind, BaseModel) or (is_dataclass(kind) and own_dict(value)):
        return _pairs(own_dict(value), tail, known)
    return freeze(value)


def _pairs(pairs: dict[Any, Any], tail: Callable[[Any, Any], list[Any]], known: Any) -> dict[str, Any]:
    copied: dict[str, Any]
    if SHARED.issuperset(map(type, pairs.values())):
        copied = freeze(pairs, STATE_BUDGET)
        return copied
    plain, histories = {}, {}
    for key, item in list(pairs.items()):  # made in one step: another thread may write meanwhile
        messages = None if type(item) in SHARED else conversation_in(item)
        if messages is None:
            plain[key] = item
        else:
            histories[key] = messages
    copied = freeze(plain, STATE_BUDGET) if plain else {}
    for key, messages in histories.items():
        if news := tail(messages, known):
            copied[str(key)] = news
    return copied


def _command(value: Any, tail: Callable[[Any, Any], list[Any]], known: Any) -> dict[str, Any]:
    """LangGraph's `Command` with what it sets; of the messages in its update only the `tail`."""
    copied: dict[str, Any] = {}
    if (update := value.update) is not None:
        copied["update"] = _pairs(update, tail, known) if type(update) is dict else freeze(update)
    for name in ("goto", "graph", "resume"):
        if (said := getattr(value, name, None)) is not None and said != ():
            copied[name] = freeze(said)
    return {COMMAND: copied}


def tail_of_input(messages: Any, whole: bool) -> list[Any]:
    """What a turn's input adds: all of it when the conversation is new to us (`whole`),
    else what follows the last answer."""
    news: list[Any] = []
    for item in reversed(messages):
        role = ROLES[type(item)]
        if not whole and (role or role_of(item)) in ANSWERS:
            break
        news.append(freeze(item) if role is None else message(item))
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
        fixed = ROLES[type(item)]
        role = fixed or role_of(item)
        if role in PEOPLE:
            break
        if fixed is None:
            news.append(freeze(item))
        elif not (answered and item.__dict__.get("tool_call_id") in seen.kept):
            news.append(message(item))
        answered = answered or role in ANSWERS
        if len(news) >= LONGEST_IMPORT:
            break
    news.reverse()
    return news


def news_of_node(messages: Any, seen: Memory) -> list[Any]:
    """What a node's output adds: as of a root, without answers that a model's end has told."""
    news: list[Any] = []
    known = seen.kept
    for item in reversed(messages):
        fixed = ROLES[type(item)]
        if (fixed or role_of(item)) in PEOPLE:
            break
        if fixed is None:
            news.append(freeze(item))
        elif (have := item.__dict__).get("id") in known or have.get("tool_call_id") in known:
            continue
        else:
            news.append(message(item))
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
    return [message(item) for item in messages if (ROLES[type(item)] or role_of(item)) in SYSTEM]
