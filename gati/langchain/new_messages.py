"""Find the new messages in a list, so that the cost of a conversation stays linear in its length.

Programs pass the whole history to every model call. Only its new part is copied: the walk goes backwards and stops at
an answer that an earlier callback has already seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any, TypeAlias

from langchain_core.messages import BaseMessage
from pydantic import BaseModel

from gati.langchain.authors import (
    agent_key,
    came_from_person,
    is_agent_message,
    is_answer_without_role,
    is_simulated_user_message,
    remember_agent_message,
    remember_answer_without_role,
    remember_person,
    remember_simulated_user_message,
    snapshot_agent_message,
)
from gati.langchain.bounded_set import BoundedSet
from gati.langchain.message_snapshot import ROLE_BY_CLASS, role_in, snapshot_message
from gati.langchain.snapshot import (
    IMMUTABLE_TYPES,
    instance_dict,
    is_command,
    is_entrypoint_final,
    is_overwrite,
    take_snapshot,
)
from gati.trace.records import ASSISTANT_ROLES, COMMAND, MESSAGE_TYPES, MESSAGES, PAIR_ROLES, SYSTEM_ROLES, USER_ROLES

STATE_BUDGET = 500
"""Maximum number of values copied from a graph's state in addition to its messages. Keeps a callback well below a
millisecond for any state. A string counts as one value, whatever its length."""
MAX_IMPORTED_MESSAGES = 2_000
"""Maximum number of messages imported from a history that predates gati."""
MAX_GREETINGS = 2
"""Most messages before the first question of a conversation that has no id."""
MAX_RECEIVED_MESSAGES = 50
"""Maximum number of messages copied from an input that ends with an answer and has no user message."""
MEASURED_MESSAGES = 8
"""Messages at the beginning of a call whose lengths are noted, because programs shorten the oldest ones."""
MAX_COMMANDS = 50
"""Maximum number of commands of one node that are inspected; a longer list is copied like any other list."""

Select: TypeAlias = "Callable[[Any, BoundedSet, int], list[Any]]"
"""Returns some of the messages in a list, given the known answers and the number of the conversation."""


def role_of(item: Any) -> str:
    """Return the role of a message in any form that LangChain accepts, or "" if it is not a message.

    Example: `("user", "Hi")` and `{"role": "user", "content": "Hi"}` → `"user"`; `HumanMessage("Hi")` → `"human"`.
    """
    kind = type(item)
    if (role := ROLE_BY_CLASS[kind]) is not None:
        return role or role_in(item.__dict__)
    if kind in IMMUTABLE_TYPES:
        return ""
    if issubclass(kind, dict):
        value: Any = dict.get(item, "role")
        if value is None or (type(value) is str and not value):
            value = dict.get(item, "type")
            if type(value) is str and value not in MESSAGE_TYPES:
                return ""
        # The role may be a member of a string enum. Nothing else is converted, because that could run user code.
        return str.__str__(value) if issubclass(type(value), str) else ""
    if (kind is tuple or kind is list) and len(item) == 2 and type(item[0]) is str:
        return item[0] if item[0] in PAIR_ROLES else ""
    return ""


def as_message_list(value: Any) -> Any:
    """Return `value` if it is a list of chat messages, judged by its last item; otherwise None.

    A subclass of `list` is returned as a plain list, because its methods are user code.
    """
    kind = type(value)
    if kind is not list and kind is not tuple:
        if not issubclass(kind, list):
            return None
        value = list(list.__iter__(value))
    if not value or type(last := value[-1]) in IMMUTABLE_TYPES:
        return None
    return value if ROLE_BY_CLASS[type(last)] or role_of(last) else None


def remember_answer(answer: BaseMessage, seen: BoundedSet) -> None:
    """Remember an answer by its id, and by its text for programs that keep only the text."""
    fields = answer.__dict__
    for key in (fields.get("id"), _text_key(fields)):
        if key:
            seen.add(key)


def forget_calls(calls: Any, seen: BoundedSet) -> None:
    """Forget the ids of tool calls that a model requests now. Some providers number their calls from 0 in every answer, and
    no tool has run yet for these."""
    for call in calls if type(calls) is list else ():
        if type(call) is dict and type(call_id := call.get("id")) is str:
            seen.entries.pop(call_id, None)


def is_known_answer(fields: dict[str, Any], seen: BoundedSet) -> bool:
    """Return True if an answer with these fields was remembered."""
    known = seen.entries
    return fields.get("id") in known or _text_key(fields) in known


def _text_key(fields: dict[str, Any]) -> int | None:
    """Return a hash of an answer's text, or None without text. Hashes, because texts may be long and the set is large.

    Text beside tool calls may be the same in every turn ("Transferring back to the supervisor"), so the call's id counts.
    """
    content = fields.get("content")
    if type(content) is not str or not content:
        return None
    calls = fields.get("tool_calls")
    if not calls or type(calls) is not list or type(calls[0]) is not dict:
        return hash(content)
    call_id = calls[0].get("id")
    return hash((content, call_id)) if type(call_id) is str else hash(content)


def new_messages_of_call(
    messages: Any, seen: BoundedSet, whole: bool = False
) -> tuple[list[Any], list[Any], tuple[Any, ...] | None]:
    """Return the system messages of a model call, its new messages (oldest first), and the fields of `RepeatedMessages` for
    those that earlier callbacks recorded.

    Args:
        messages: the call's messages.
        seen: known answers; answers found here are added.
        whole: True for the first call of a conversation: all messages are new.
    """
    system: list[Any] = []
    for item in messages:
        if (ROLE_BY_CLASS[type(item)] or role_of(item)) not in SYSTEM_ROLES:
            break
        system.append(snapshot_message(item))
    new: list[Any] = []
    repeats = None
    for index in range(len(messages) - 1, len(system) - 1, -1):
        item = messages[index]
        if (class_role := ROLE_BY_CLASS[type(item)]) is None:
            new.append(take_snapshot(item))
        elif (role := class_role or role_of(item)) in ASSISTANT_ROLES:
            if new or not _is_prefilled(item, seen):
                if not whole and is_known_answer(fields := item.__dict__, seen):
                    repeats = _repeated_messages(fields, messages[len(system) : len(system) + MEASURED_MESSAGES])
                    break
                remember_answer(item, seen)
            new.append(snapshot_message(item))
        elif role in USER_ROLES and is_agent_message(fields := item.__dict__, seen):
            # An agent's message is new once, like an answer.
            key = (agent_key(fields), "in a call")
            if not whole and key in seen.entries:
                break
            seen.add(key)
            new.append(snapshot_agent_message(item))
        else:
            new.append(snapshot_message(item))
        if len(new) >= MAX_IMPORTED_MESSAGES:
            break
    new.reverse()
    return system, new, repeats


def _repeated_messages(answer: dict[str, Any], first: Any) -> tuple[Any, ...]:
    content, answer_id = answer.get("content"), answer.get("id")
    return (
        answer_id if type(answer_id) is str else None,
        hash(content) if type(content) is str else None,
        tuple([_length_of(item) for item in first]),
    )


def _length_of(item: Any) -> int:
    content = item.__dict__.get("content") if ROLE_BY_CLASS[type(item)] is not None else None
    return len(content) if type(content) is str or type(content) is list else -1


def _is_prefilled(item: Any, seen: BoundedSet) -> bool:
    """Return True for an assistant's message at the end of a list if it begins the answer that the model is asked to continue."""
    fields = item.__dict__ if ROLE_BY_CLASS[type(item)] is not None else item
    if not isinstance(fields, dict):
        return True
    return not dict.get(fields, "tool_calls") and dict.get(fields, "id") not in seen.entries


def snapshot_state(value: Any, select: Select, known: BoundedSet, conversation: int = 0) -> Any:
    """Copy the input or output of a root or node, but of each message list only `select(messages, known, conversation)`."""
    kind = type(value)
    if kind is dict:
        return _snapshot_mapping(value, select, known, conversation)
    if ROLE_BY_CLASS[kind] is not None:
        return snapshot_message(value)
    if is_command(value):
        return _snapshot_command(value, select, known, conversation)
    if kind is list and 0 < len(value) <= MAX_COMMANDS and is_command(value[-1]):
        return [snapshot_state(item, select, known, conversation) for item in value]
    if (messages := as_message_list(value)) is not None:
        return select(messages, known, conversation)
    if issubclass(kind, dict):
        return _snapshot_mapping(dict(dict.items(value)), select, known, conversation)
    if issubclass(kind, BaseModel):
        return _snapshot_mapping(instance_dict(value), select, known, conversation)
    if is_dataclass(kind):
        if is_entrypoint_final(kind):
            return snapshot_state(value.value, select, known, conversation)
        if instance_dict(value):
            return _snapshot_mapping(instance_dict(value), select, known, conversation)
    return take_snapshot(value)


def _snapshot_mapping(pairs: dict[Any, Any], select: Select, known: BoundedSet, conversation: int) -> dict[str, Any]:
    copied: dict[str, Any]
    if IMMUTABLE_TYPES.issuperset(map(type, pairs.values())):
        if MESSAGES in pairs and select is new_messages_of_node:
            remember_answer_without_role(pairs[MESSAGES], known, conversation)
        copied = take_snapshot(pairs, STATE_BUDGET)
        return copied
    plain, histories = {}, {}
    for key, item in list(pairs.items()):  # `list` is atomic; another thread may modify the dict
        if is_overwrite(item):
            item = item.value
        messages = None if type(item) in IMMUTABLE_TYPES else as_message_list(item)
        if messages is None:
            plain[key] = item
        else:
            histories[key] = messages
    copied = {}
    if plain:
        copied = take_snapshot(plain, STATE_BUDGET)
        if MESSAGES in plain and select is new_messages_of_node:
            remember_answer_without_role(plain[MESSAGES], known, conversation)
    for key, messages in histories.items():
        # An empty list shows that a node returned the entry, as one that returns its whole state does.
        if (new := select(messages, known, conversation)) or select is new_messages_of_node:
            copied[str(key)] = new
    return copied


def _snapshot_command(value: Any, select: Select, known: BoundedSet, conversation: int) -> dict[str, Any]:
    """Copy a LangGraph `Command`, but of each message list in its update only the messages that `select` returns."""
    copied: dict[str, Any] = {}
    if (update := value.update) is not None:
        is_mapping = type(update) is dict
        copied["update"] = (
            _snapshot_mapping(update, select, known, conversation) if is_mapping else take_snapshot(update)
        )
    for name in ("goto", "graph", "resume"):
        if (field := getattr(value, name, None)) is not None and field != ():
            copied[name] = take_snapshot(field)
    return {COMMAND: copied}


def all_messages_of_input(messages: Any, seen: BoundedSet, conversation: int = 0) -> list[Any]:
    """Return the messages of the input of a conversation's first turn: all of them."""
    return new_messages_of_input(messages, seen, conversation, whole=True)


def new_messages_of_input(messages: Any, seen: BoundedSet, conversation: int = 0, whole: bool = False) -> list[Any]:
    """Return the new messages of a turn's input, and remember which of them persons wrote.

    With `whole`, all messages are new. Otherwise these are the messages after the last answer, and a greeting before the
    first question. If the list ends with an answer, return everything from the last user message on: it contains the
    question before a prefilled answer, and the answers that the turn was given.
    """
    new: list[Any] = []
    is_complete = not whole and _ends_with_question(messages)
    for item in reversed(messages):
        class_role = ROLE_BY_CLASS[type(item)]
        role = class_role or role_of(item)
        is_agent = class_role is not None and role in USER_ROLES and is_agent_message(item.__dict__, seen)
        is_answer = is_agent or role in ASSISTANT_ROLES
        if not whole and is_answer and (is_complete or len(new) >= MAX_RECEIVED_MESSAGES):
            if len(messages) - len(new) > MAX_GREETINGS or not _is_greeting(messages[: len(messages) - len(new)], seen):
                break
            whole = True
        if role in USER_ROLES and not is_agent:
            is_complete = True
            if not is_simulated_user_message(item, seen, conversation):
                remember_person(item, seen, conversation)
        if class_role is None:
            new.append(take_snapshot(item))
        else:
            new.append(snapshot_agent_message(item) if is_agent else snapshot_message(item))
        if len(new) >= MAX_IMPORTED_MESSAGES:
            break
    new.reverse()
    return new


def _is_greeting(messages: Any, seen: BoundedSet) -> bool:
    """Return True if the first messages of a conversation contain no user message, and no answer of an earlier turn."""
    return not any(
        (ROLE_BY_CLASS[type(item)] or role_of(item)) in USER_ROLES
        or (ROLE_BY_CLASS[type(item)] is not None and is_known_answer(item.__dict__, seen))
        for item in messages
    )


def _ends_with_question(messages: Any) -> bool:
    """Return False if the last message is an answer."""
    last = messages[-1]
    return (ROLE_BY_CLASS[type(last)] or role_of(last)) not in ASSISTANT_ROLES


def new_messages_of_output(messages: Any, seen: BoundedSet, conversation: int = 0) -> list[Any]:
    """Return the new messages of a root's output: those after the last message of a person, without simulated users'.

    Tool results before the last answer are left out if the tool's own run has recorded them.
    """
    new: list[Any] = []
    answered = False
    for item in reversed(messages):
        class_role = ROLE_BY_CLASS[type(item)]
        role = class_role or role_of(item)
        if role in USER_ROLES:
            if class_role is not None and is_agent_message(item.__dict__, seen):
                new.append(snapshot_agent_message(item))
            elif not is_simulated_user_message(item, seen, conversation):
                break
            elif is_answer_without_role(item, seen, conversation):
                new.append(snapshot_agent_message(item))
        elif class_role is None:
            new.append(take_snapshot(item))
        elif not (answered and item.__dict__.get("tool_call_id") in seen.entries):
            new.append(snapshot_message(item))
        answered = answered or role in ASSISTANT_ROLES
        if len(new) >= MAX_IMPORTED_MESSAGES:
            break
    new.reverse()
    return new


def messages_of_continued_output(messages: Any, seen: BoundedSet, conversation: int = 0) -> list[Any]:
    """Return the new messages of the output of a graph that ran without input, after the person's messages before them.

    `update_state` may have added these to the thread.
    """
    persons: list[Any] = []
    for item in reversed(messages):
        class_role = ROLE_BY_CLASS[type(item)]
        is_user = (class_role or role_of(item)) in USER_ROLES
        if is_user and not (class_role is not None and is_agent_message(item.__dict__, seen)):
            persons.append(take_snapshot(item) if class_role is None else snapshot_message(item))
        elif persons:
            break
    persons.reverse()
    return persons[-MAX_IMPORTED_MESSAGES:] + new_messages_of_output(messages, seen, conversation)


def new_messages_of_node(messages: Any, seen: BoundedSet, conversation: int = 0) -> list[Any]:
    """Return the messages that a node wrote, without those that other runs recorded.

    The walk ends at a person's message. Messages with the user's role that name an agent are remembered as its answers.
    """
    new: list[Any] = []
    known = seen.entries
    for item in reversed(messages):
        class_role = ROLE_BY_CLASS[type(item)]
        if (class_role or role_of(item)) in USER_ROLES:
            if class_role is not None and is_agent_message(item.__dict__, seen):
                new.append(snapshot_agent_message(item))
            elif came_from_person(item, seen, conversation, is_followed=messages[-1 - len(new)] is not item):
                break
            elif (class_role is not None or issubclass(type(item), dict)) and remember_agent_message(item, seen):
                new.append(snapshot_agent_message(item))
            else:
                remember_simulated_user_message(item, seen, conversation)
                new.append(take_snapshot(item) if class_role is None else snapshot_message(item))
        elif class_role is None:
            new.append(take_snapshot(item))
        elif (fields := item.__dict__).get("id") in known or fields.get("tool_call_id") in known:
            continue
        else:
            new.append(snapshot_message(item))
        if len(new) >= MAX_IMPORTED_MESSAGES:
            break
    new.reverse()
    return new


def snapshot_prompt_output(value: Any) -> Any:
    """Copy the system messages of a prompt's output, or its text. They link the prompt to its model call."""
    fields = getattr(value, "__dict__", {})
    messages = fields.get("messages")
    if messages is None:
        return take_snapshot(fields.get("text"))
    return [snapshot_message(item) for item in messages if (ROLE_BY_CLASS[type(item)] or role_of(item)) in SYSTEM_ROLES]
