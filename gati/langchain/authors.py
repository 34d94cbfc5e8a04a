"""Find out who wrote a message with the user's role: a person, or an agent of the program.

Agents of a multi-agent graph often answer with `HumanMessage(content=..., name="researcher")`. A person's message comes
with a turn's input, or from the checkpoint with an id. An agent's is new in the output of a node, and so is one without a
name, such as a critique or the words of a simulated user. All are remembered as keys, in the set that holds the known
answers.

The keys of messages without an agent's name contain the number of the conversation (`recorder.CONVERSATION`): a short text,
such as "yes", may be a person's in one conversation and a simulated user's in another.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from langchain_core.messages import BaseMessage

from gati.langchain.bounded_set import BoundedSet
from gati.langchain.message_snapshot import MessageFields, snapshot_message
from gati.langchain.snapshot import plain_text, take_snapshot
from gati.trace.records import Message

AGENT_ROLE = "ai"
"""Role of an agent's message in a snapshot, whatever its class."""
_PERSON, _SIMULATED_USER, _WITHOUT_ROLE = "person", "simulated user", "without role"
"""First parts of the keys of messages without an agent's name."""


def remember_person(item: Any, seen: BoundedSet, conversation: int) -> None:
    """Remember a message with the user's role that came with a turn's input."""
    if (key := _key_of(_PERSON, _content_of(item), conversation)) is not None:
        seen.add(key)


def came_from_person(item: Any, seen: BoundedSet, conversation: int, is_followed: bool) -> bool:
    """Return True if a message with the user's role came with an input or a checkpoint, and was not written by the node.

    A conditional edge gives the messages of its node ids before the node ends, so an id alone does not show that a message is
    from the checkpoint.

    Args:
        item: the message.
        seen: the known answers and persons' messages.
        conversation: number of the conversation.
        is_followed: a message that another run has recorded comes after it, so the node returns its whole state.
    """
    text = plain_text(_content_of(item))
    if not text or _key_of(_PERSON, text, conversation) in seen.entries:
        return True
    has_id = issubclass(type(item), BaseMessage) and item.__dict__.get("id") is not None
    return is_followed and has_id and hash(text) not in seen.entries


def remember_agent_message(message: BaseMessage | dict[str, Any], seen: BoundedSet) -> bool:
    """Remember a message with the user's role that a node wrote; return False if it does not name an agent."""
    fields = message.__dict__ if isinstance(message, BaseMessage) else message
    if (key := agent_key(fields)) is None:
        return False
    seen.add(key)
    return True


def is_agent_message(fields: dict[str, Any], seen: BoundedSet) -> bool:
    """Return True if a message with these fields was remembered as an agent's."""
    return (key := agent_key(fields)) is not None and key in seen.entries


def remember_simulated_user_message(item: Any, seen: BoundedSet, conversation: int) -> None:
    """Remember a message with the user's role, but without a name, that a node wrote."""
    if (key := _key_of(_SIMULATED_USER, _content_of(item), conversation)) is not None:
        seen.add(key)


def is_simulated_user_message(item: Any, seen: BoundedSet, conversation: int) -> bool:
    """Return True if a node wrote this message with the user's role, and no person has written its text."""
    content = _content_of(item)
    return (
        _key_of(_SIMULATED_USER, content, conversation) in seen.entries
        and _key_of(_PERSON, content, conversation) not in seen.entries
    )


def remember_answer_without_role(value: Any, seen: BoundedSet, conversation: int) -> None:
    """Remember a text that a node wrote into the thread as it is, if a model wrote it. LangGraph gives it the user's role."""
    text = plain_text(value)
    if text and hash(text) in seen.entries:
        seen.add(_key_of(_SIMULATED_USER, text, conversation))
        seen.add(_key_of(_WITHOUT_ROLE, text, conversation))


def is_answer_without_role(item: Any, seen: BoundedSet, conversation: int) -> bool:
    """Return True if the text of a message for which `is_simulated_user_message` is True is a model's answer."""
    return _key_of(_WITHOUT_ROLE, _content_of(item), conversation) in seen.entries


def agent_key(fields: dict[str, Any]) -> Hashable:
    """Return the key of an agent's message; None if the message has no name or no text."""
    name, content = plain_text(dict.get(fields, "name")), plain_text(dict.get(fields, "content"))
    return (name, hash(content)) if name and content else None


def snapshot_agent_message(message: BaseMessage | dict[str, Any]) -> MessageFields:
    """Copy an agent's message as an answer. Of a dict, only its text, name and id are copied."""
    if not isinstance(message, BaseMessage):
        content, name, given_id = (plain_text(dict.get(message, key)) for key in ("content", "name", "id"))
        return tuple(Message(AGENT_ROLE, take_snapshot(content), given_id, name))
    return (AGENT_ROLE, *snapshot_message(message)[1:])


def _key_of(author: str, content: Any, conversation: int) -> Hashable:
    text = plain_text(content)
    return (author, conversation, hash(text)) if text else None


def _content_of(item: Any) -> Any:
    kind = type(item)
    if issubclass(kind, BaseMessage):
        return item.__dict__.get("content")
    if issubclass(kind, dict):
        return dict.get(item, "content")
    return item[1] if (kind is tuple or kind is list) and len(item) == 2 else None
