"""Read the answer from a root run's output."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

import orjson

from gati.trace.chat_messages import as_messages
from gati.trace.content import text_of
from gati.trace.records import ASSISTANT_ROLES, COMMAND, MESSAGES, TOOL_ROLES, USER_ROLES, Message

OUTPUT_KEYS = ("output", "answer", "response", "result", "text", "content", "generation", "final_answer")
AMBIGUOUS_KEYS = frozenset({"result", "text", "content"})
"""Those of `OUTPUT_KEYS` that hold what a program works on as often as what it answers."""
CLEAR_KEYS = tuple([key for key in OUTPUT_KEYS if key not in AMBIGUOUS_KEYS])
_RAW_OUTPUT_KEYS = {"raw", "parsed", "parsing_error"}
"""Keys of LangChain's structured output with `include_raw=True`."""
_AGENT_FINISH = {"return_values", "log"}
"""Keys of an `AgentFinish`, with which a classic agent answers."""
_EXECUTOR_CHUNK = {"output", MESSAGES}
"""Keys of what an `AgentExecutor` streams."""
_AGENT_ACTION = {"tool", "tool_input", "log"}
"""Keys of an `AgentAction`, with which a classic agent requests a tool."""


class StateTexts(NamedTuple):
    """Texts in the state of a graph.

    Attributes:
        whole: those that a node wrote in one piece, so that it may have joined several completions in them.
        wrapped: those that were the only text in an object that a model wrote.
    """

    whole: Collection[str] = ()
    wrapped: Collection[str] = ()


def answer_in(
    value: Any,
    *,
    key: str | None = None,
    structured: bool = False,
    completions: Iterable[str] = (),
    is_state: bool = False,
    state_texts: Callable[[], StateTexts] = StateTexts,
) -> str:
    """Return the answer in a root's output; "" if there is none.

    Args:
        value: the part of the root's output that its turn made (`made_output`).
        key: entry that holds the answer (the option `output_key`).
        structured: an output that is not text is the answer itself, as JSON.
        completions: the models' completions, latest first, to choose among several texts.
        is_state: the value is the state of a graph, with the entry that was written last first.
        state_texts: returns what is known of the texts in the state of a graph.
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
        text = _answer_in_state(value, completions if is_state else (), state_texts)
        if text:
            return text
        text = _answer_among_texts(value, structured, completions, state_texts)
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
    return output if " " in output or value.keys() == _EXECUTOR_CHUNK else ""


def is_agent_action(value: Any) -> bool:
    """Return True for the object with which a classic agent requests a tool."""
    return isinstance(value, dict) and value.keys() >= _AGENT_ACTION


def _answer_in_state(value: dict[str, Any], completions: Sequence[str], state_texts: Callable[[], StateTexts]) -> str:
    """Find the answer in messages, or under a usual key."""
    structured = value.get("structured_response")
    if (messages := as_messages(value.get(MESSAGES))) is not None:
        # A structured answer may be the "result" of a tool that only describes its shape.
        if text := _answer_in_messages(messages, tools=structured is None):
            return text
    if structured is not None:
        return structured if isinstance(structured, str) else json_text(structured)
    if (found := _answer_under_usual_key(value, completions, state_texts)) is not None:
        return found
    for entry in value.values():
        if isinstance(entry, list) and (messages := as_messages(entry)) is not None:
            if text := _answer_in_messages(messages):
                return text
    if value.keys() == _RAW_OUTPUT_KEYS:
        return json_text(value["parsed"]) if value["parsed"] is not None else answer_in(value["raw"])
    return ""


def _answer_under_usual_key(
    value: dict[str, Any], completions: Sequence[str], state_texts: Callable[[], StateTexts]
) -> str | None:
    for name in OUTPUT_KEYS:
        entry = value.get(name)
        if isinstance(entry, str) and entry:
            if name not in AMBIGUOUS_KEYS or not _is_material(entry, value, name, completions, state_texts):
                return entry
        elif (messages := as_messages(entry)) is not None:
            return _answer_in_messages(messages)
    return None


def _is_material(
    text: str, state: dict[str, Any], key: str, completions: Sequence[str], state_texts: Callable[[], StateTexts]
) -> bool:
    """Return True if a later entry of a graph's state shows that a text is only a part or the subject of the answer.

    Examples: a node fetched ``content``, and a model made ``summary`` of it; models wrote ``introduction`` and ``content``, and
    a node joined them. The latest entries are the first.
    """
    names = itertools.takewhile(lambda name: name != key, state)
    later = [entry for name in names if isinstance(entry := state[name], str)]
    if any(text in entry and _is_joined(entry, completions) and entry in state_texts().whole for entry in later):
        return True
    if any(completion and (completion in text or text in completion) for completion in completions):
        return False
    return any(entry in completions for entry in later)


def _answer_among_texts(
    value: dict[str, Any], structured: bool, completions: Iterable[str], state_texts: Callable[[], StateTexts]
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
    completions, known = list(completions), state_texts()
    if texts[0] in known.whole and _is_joined(texts[0], completions):
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
