"""Read the user's messages from a root run's input, and the answer from its output."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import orjson

from gati.trace.bare_base64 import is_only_media
from gati.trace.content import text_of
from gati.trace.records import ASSISTANT_ROLES, COMMAND, MESSAGES, TOOL_ROLES, USER_ROLES, Message

INPUT_KEYS = ("input", "question", "query", "text", "prompt", "user_input", "message", "content", "topic")
OUTPUT_KEYS = ("output", "answer", "response", "result", "text", "content", "generation", "final_answer")
AMBIGUOUS_KEYS = frozenset({"result", "text", "content"})
"""Those of `OUTPUT_KEYS` that hold what a program works on as often as what it answers."""
CLEAR_KEYS = tuple([key for key in OUTPUT_KEYS if key not in AMBIGUOUS_KEYS])


_RAW_OUTPUT_KEYS = {"raw", "parsed", "parsing_error"}
"""Keys of LangChain's structured output with `include_raw=True`."""


_AGENT_FINISH = {"return_values", "log"}
"""Keys of an `AgentFinish`, with which a classic agent answers."""


_LOG = ("output", MESSAGES)
"""Keys of what an `AgentExecutor` streams."""
_AGENT_ACTION = {"tool", "tool_input", "log"}
"""Keys of an `AgentAction`, with which a classic agent requests a tool."""


_MESSAGE_FIELDS = frozenset(
    {"role", "type", "content", "id", "name", "tool_calls", "tool_call_id", "status", "artifact", "invalid_tool_calls",
     "additional_kwargs", "response_metadata", "usage_metadata", "example"}
)  # fmt: skip
"""Fields of a message in a dict."""


_ROLES_OF_PAIRS = frozenset({"human", "user", "ai", "assistant", "system", "developer"})
"""Roles of the pairs that LangChain accepts as messages."""


class SplitHistory(NamedTuple):
    """The messages of a turn's input: `new` after the last answer, `history` up to it.

    `origin` is where `new` comes from: messages; the entry that the option `input_key` names; a text that
    is the whole input or is under one of `INPUT_KEYS`; or the only text of the input.
    """

    history: list[Message]
    new: list[Message]
    origin: Literal["messages", "input_key", "question", "only_text"] = "messages"


class TextsOfGraph(NamedTuple):
    """Texts in the state of a graph.

    Attributes:
        joined: those that a node may have joined of several completions.
        wrapped: those that were the only text in an object that a model wrote.
    """

    joined: Collection[str] = ()
    wrapped: Collection[str] = ()


def as_message(item: Any) -> Message | None:
    """Convert any form of message that LangChain accepts; return None for other values.

    Example: ``("user", "Hi")`` and ``{"role": "user", "content": "Hi"}`` → ``Message("user", "Hi")``.
    """
    if isinstance(item, Message):
        return item
    if isinstance(item, dict):
        role = item.get("role") or item.get("type")
        if isinstance(role, str) and "content" in item:
            calls = item.get("tool_calls")
            return Message(
                role, item["content"], item.get("id"), item.get("name"),
                tuple(calls) if isinstance(calls, list) else (), tool_call_id=item.get("tool_call_id"),
                additional=_additional_of(item),
            )  # fmt: skip
    if isinstance(item, (list, tuple)) and len(item) == 2 and isinstance(item[0], str):
        return Message(item[0], item[1])
    return None


def _additional_of(item: dict[str, Any]) -> dict[str, Any] | None:
    """Return what LangChain keeps in `additional_kwargs` when it converts the dict: that entry, and unknown keys."""
    unknown = {key: value for key, value in item.items() if key not in _MESSAGE_FIELDS}
    given = item.get("additional_kwargs")
    return {**unknown, **(given if isinstance(given, dict) else {})} or None


def as_messages(value: Any) -> list[Message] | None:
    """Convert a message or a list of messages to a list; return None for other values."""
    if isinstance(value, Message):
        return [value]
    if not isinstance(value, list) or not value:
        return None
    if as_message(value[-1]) is not None:
        messages = [m for item in value if (m := as_message(item)) is not None]
        return messages if len(messages) == len(value) else _flat(value)
    # Lists of messages alone are conversations side by side, such as examples.
    is_thread = isinstance(value[-1], list) and any(isinstance(item, Message) for item in value)
    return _flat(value) if is_thread and as_messages(value[-1]) is not None else None


def _flat(items: list[Any]) -> list[Message]:
    """Return the messages in a list, and in the lists of messages that a node appended to it as they are."""
    messages: list[Message] = []
    for item in items:
        if (message := as_message(item)) is not None:
            messages.append(message)
        elif isinstance(item, list):
            messages += as_messages(item) or ()
    return messages


def _split_at_last_answer(messages: list[Message]) -> SplitHistory:
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].role in ASSISTANT_ROLES:
            return SplitHistory(messages[: index + 1], messages[index + 1 :])
    return SplitHistory([], messages)


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


def _text_under_usual_key(value: dict[str, Any]) -> Message | None:
    texts = (value.get(name) for name in INPUT_KEYS)
    return next((Message("human", text) for text in texts if isinstance(text, str) and text), None)


def messages_under(key: Any, value: Any) -> list[Message] | None:
    """Return `as_messages` of an entry of a state. Under `messages`, LangGraph also accepts bare texts and a single pair.

    Example: ``"Hi"`` and ``["Hi"]`` → ``[Message("human", "Hi")]``; ``["user", "Hi"]``, which was a tuple →
    ``[Message("user", "Hi")]``.
    """
    if key != MESSAGES:
        return as_messages(value)
    if isinstance(value, str) and value:
        return [Message("human", value)]
    if isinstance(value, list):
        if len(value) == 2 and isinstance(value[0], str) and value[0] in _ROLES_OF_PAIRS:
            return [Message(value[0], value[1])]
        return as_messages([Message("human", item) if isinstance(item, str) else item for item in value])
    single = as_message(value)
    return [single] if single is not None else None


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


def answer_in(
    value: Any,
    key: str | None = None,
    structured: bool = False,
    completions: Iterable[str] = (),
    is_state: bool = False,
    graph_texts: Callable[[], TextsOfGraph] = TextsOfGraph,
) -> str:
    """Return the answer in a root's output; "" if there is none.

    Args:
        value: the part of the root's output that its turn made (`made_output`).
        key: entry that holds the answer (the option `output_key`).
        structured: an output that is not text is the answer itself, as JSON.
        completions: the models' completions, latest first, to choose among several texts.
        is_state: the value is the state of a graph, with the entry that was written last first.
        graph_texts: returns what is known of the texts in the state of a graph.
    """
    if isinstance(value, str):
        return value
    messages = as_messages(value)
    if messages is not None:
        return _answer_in_messages(messages)
    if isinstance(value, dict) and COMMAND not in value:
        if key is not None and key in value:
            return answer_in(value[key], structured=True)
        if value.keys() >= _AGENT_FINISH:
            return answer_in(value["return_values"])
        if is_agent_action(value):
            return ""
        if not is_state and (text := _text_parsed_from_log(value)):
            return text
        completions = list(completions)
        text = _answer_in_state(value, completions if is_state else (), graph_texts)
        if text:
            return text
        text = _answer_among_texts(value, structured, completions, graph_texts)
        if text:
            return text
    if structured and value not in (None, {}, []):
        return json_text(value)
    return ""


def _text_parsed_from_log(value: dict[str, Any]) -> str:
    """Return the output of an `AgentExecutor` that is read as a stream. It was parsed from the text of the last message."""
    output, messages = value.get("output"), as_messages(value.get(MESSAGES))
    if not isinstance(output, str) or messages is None or output not in text_of(messages[-1]):
        return ""
    # A single word beside other entries may be a label that occurs in the message by chance.
    return output if " " in output or len(value) == len(_LOG) else ""


def is_agent_action(value: Any) -> bool:
    """Return True for the object with which a classic agent requests a tool."""
    return isinstance(value, dict) and value.keys() >= _AGENT_ACTION


def _answer_in_state(value: dict[str, Any], completions: Sequence[str], graph_texts: Callable[[], TextsOfGraph]) -> str:
    """Find the answer in messages, or under a usual key."""
    structured = value.get("structured_response")
    if (messages := as_messages(value.get(MESSAGES))) is not None:
        # A structured answer may be the "result" of a tool that only describes its shape.
        if text := _answer_in_messages(messages, tools=structured is None):
            return text
    if structured is not None:
        return structured if isinstance(structured, str) else json_text(structured)
    if (found := _answer_under_usual_key(value, completions, graph_texts)) is not None:
        return found
    for entry in value.values():
        if isinstance(entry, list) and (messages := as_messages(entry)) is not None:
            if text := _answer_in_messages(messages):
                return text
    if value.keys() == _RAW_OUTPUT_KEYS:
        return json_text(value["parsed"]) if value["parsed"] is not None else answer_in(value["raw"])
    return ""


def _answer_under_usual_key(
    value: dict[str, Any], completions: Sequence[str], graph_texts: Callable[[], TextsOfGraph]
) -> str | None:
    for name in OUTPUT_KEYS:
        entry = value.get(name)
        if isinstance(entry, str) and entry:
            if name not in AMBIGUOUS_KEYS or not _is_material(entry, value, name, completions, graph_texts):
                return entry
        elif (messages := as_messages(entry)) is not None:
            return _answer_in_messages(messages)
    return None


def _is_material(
    text: str, state: dict[str, Any], key: str, completions: Sequence[str], graph_texts: Callable[[], TextsOfGraph]
) -> bool:
    """Return True if a later entry of a graph's state shows that a text is only a part or the subject of the answer.

    Examples: a node fetched ``content``, and a model made ``summary`` of it; models wrote ``introduction`` and ``content``, and
    a node joined them. The latest entries are the first.
    """
    names = itertools.takewhile(lambda name: name != key, state)
    later = [entry for name in names if isinstance(entry := state[name], str)]
    if any(text in entry and _is_joined(entry, completions) and entry in graph_texts().joined for entry in later):
        return True
    if any(completion and (completion in text or text in completion) for completion in completions):
        return False
    return any(entry in completions for entry in later)


def _answer_among_texts(
    value: dict[str, Any], structured: bool, completions: Iterable[str], graph_texts: Callable[[], TextsOfGraph]
) -> str:
    """Find the answer in an output without any usual key: its only text, or the one a model produced last.

    In a graph's state, it is a text that was joined of several completions, or the only one in a model's object, if it was written
    last.
    """
    texts = [text for entry in value.values() if (text := _text_of_entry(entry))]
    if len(texts) == 1 and (not structured or len(value) == 1):
        return texts[0]
    if len(texts) < 2:
        return ""
    completions, known = list(completions), graph_texts()
    if texts[0] in known.joined and _is_joined(texts[0], completions):
        return texts[0]
    made = next((completion for completion in completions if completion and completion in texts), "")
    # A shorter one is a title, a query or a label.
    return texts[0] if texts[0] in known.wrapped and len(texts[0]) >= len(made) else made


def structured_answers_in(state: Any) -> list[str]:
    """Return the objects and lists in the part of a graph's state that its turn made, as JSON, the likeliest answer first.

    These are the entries under usual keys, the only entry, and lists of texts. A list of one text is that text.
    """
    if not isinstance(state, dict) or COMMAND in state:
        return []
    entries = {key: entry for key, entry in state.items() if _is_structured(entry)}
    is_only = len(entries) == sum(entry is not None for entry in state.values()) == 1
    found = [entries[name] for name in OUTPUT_KEYS if name in entries]
    found += [entry for entry in entries.values() if is_only or all(isinstance(item, str) for item in entry)]
    return [entry[0] if _is_one_text(entry) else json_text(entry) for entry in found]


def _is_structured(entry: Any) -> bool:
    return isinstance(entry, (dict, list)) and bool(entry) and as_messages(entry) is None


def _is_one_text(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 1 and isinstance(entry[0], str)


def _is_joined(text: str, parts: Iterable[str]) -> bool:
    return sum(part in text for part in {*parts} - {text} if len(part.split()) > 1) > 1


def _text_of_entry(entry: Any) -> str:
    if isinstance(entry, Message):
        return text_of(entry) if entry.role in ASSISTANT_ROLES and not entry.tool_calls else ""
    if isinstance(entry, dict) and entry.keys() >= _AGENT_FINISH:
        return answer_in(entry["return_values"])
    return entry if isinstance(entry, str) else ""


def _answer_in_messages(messages: list[Message], tools: bool = True) -> str:
    for message in reversed(messages):
        if message.role in USER_ROLES:
            return ""
        if message.role in ASSISTANT_ROLES:
            return "" if message.tool_calls else text_of(message)
        # The result of a tool with `return_direct` is the answer.
        if tools and message.role in TOOL_ROLES and message is messages[-1] and message.status != "error":
            return text_of(message)
    return ""


def json_text(value: Any) -> str:
    """Serialize a plain value to compact JSON, or to its `str` if JSON cannot represent it."""
    try:
        return orjson.dumps(value, default=_json_default, option=orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, ValueError):
        return str(value)


def _json_default(value: Any) -> Any:
    return value.as_dict() if isinstance(value, Message) else str(value)
