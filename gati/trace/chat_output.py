"""Read the answer from a root run's output."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

import orjson

from gati.trace.chat_messages import as_messages
from gati.trace.content import text_of
from gati.trace.records import ASSISTANT_ROLES, COMMAND, MESSAGES, TOOL_ROLES, USER_ROLES, Message
from gati.trace.scripts import is_label, is_one_word, is_sentence

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


_FINAL = "final_"
"""Beginning of the names of entries that hold an answer, such as `final_report`."""
_NOTES = ("summary", "topic", "title", "score", "grade")
"""Ends of the names of entries that say something about the answer, such as `final_score`."""
_REVISIONS = (
    "revised_",
    "improved_",
    "corrected_",
    "refined_",
    "updated_",
    "polished_",
    "rewritten_",
    "edited_",
    _FINAL,
)
"""Beginnings of the names of entries that hold a later version of a text, such as `revised_response`."""


class StateTexts(NamedTuple):
    """Texts in the state of a graph.

    Attributes:
        whole: those that a node wrote in one piece, so that it may have joined several completions in them.
        wrapped: those that were the only text in an object that a model wrote.
        fields: those that a model wrote, as a whole or in an object, and those of tools.
    """

    whole: Collection[str] = ()
    wrapped: Collection[str] = ()
    fields: Collection[str] = ()


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
        text = _answer_among_texts(value, structured, completions, is_state, state_texts)
        if text:
            return text
    if structured and (own := without_documents(value)) not in (None, {}, []):
        return json_text(own)
    return ""


def names_answer(key: Any) -> bool:
    """Return True for the names of entries that hold the answer itself: `answer`, `final_report`."""
    return isinstance(key, str) and (key in CLEAR_KEYS or (key.startswith(_FINAL) and not key.endswith(_NOTES)))


def without_documents(value: Any) -> Any:
    """Return a plain value without the documents in it: a program was given them, or a retriever found them."""
    if isinstance(value, dict):
        return (
            None
            if _is_document(value)
            else {k: without_documents(v) for k, v in value.items() if not _are_documents(v)}
        )
    if isinstance(value, list):
        return [without_documents(item) for item in value if not _are_documents(item)]
    return value


def _are_documents(value: Any) -> bool:
    return _is_document(value) or (isinstance(value, list) and bool(value) and all(map(_is_document, value)))


def _is_document(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") == "Document" and "page_content" in value


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
        if text := entry if isinstance(entry, str) else _completion_in_blocks(entry, completions):
            if name not in AMBIGUOUS_KEYS or not _is_material(text, value, name, completions, state_texts):
                return text
        elif (messages := as_messages(entry)) is not None:
            return _answer_in_messages(messages)
    return None


def _completion_in_blocks(entry: Any, completions: Sequence[str]) -> str:
    """Return the text of a message's content blocks if a model wrote it; "" for other values, such as blocks of a prompt."""
    is_content = isinstance(entry, list) and all(isinstance(block, dict) and "type" in block for block in entry)
    return text if is_content and (text := text_of(entry)) in completions else ""


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
    value: dict[str, Any],
    structured: bool,
    completions: Sequence[str],
    is_state: bool,
    state_texts: Callable[[], StateTexts],
) -> str:
    """Find the answer in an output without any usual key: its only text, or the one a model produced last."""
    texts = {name: text for name, entry in value.items() if (text := _text_of_entry(entry))}
    if len(texts) == 1:
        (last,) = texts.values()
        is_only = sum(entry is not None for entry in value.values()) == 1
        is_name = is_state and is_one_word(last) and is_label(last) and last not in completions
        if is_name and not (is_only and _is_said(last, state_texts())):
            return ""  # a label, an id or a status
        return last if not structured or len(value) == 1 else ""
    if not texts or not is_state:
        return _text_of_latest(completions, texts.values())
    return _answer_among_texts_of_state(texts, completions, state_texts())


def _answer_among_texts_of_state(texts: dict[Any, str], completions: Sequence[str], known: StateTexts) -> str:
    """Find the answer among several texts of a graph's state, of which the latest is the first.

    A text under a name for answers comes first, unless a model wrote a later one. Then come a text that was joined of several
    completions, and one of a model's object, if it was written last.
    """
    last_name, last = next(iter(texts.items()))
    for name, text in texts.items():
        is_written = any(part in text for part in completions if part) or text in known.fields
        if names_answer(name) and (is_written or not completions) and is_sentence(text):
            return text
        if text in completions:
            break
    if last in known.whole and _is_joined(last, completions):
        return last
    if str(last_name).startswith(_REVISIONS) and last in known.fields and not is_one_word(last):
        return last
    # A shorter one is a title, a query or a label.
    if last in known.wrapped and len(last) >= len(_text_of_latest(completions, texts.values())):
        return last
    return _text_of_latest(completions, texts.values(), known.whole)


def _is_said(word: str, known: StateTexts) -> bool:
    """Return True if a model or a tool wrote a word, in whatever case and beside whatever else."""
    return any(word.casefold() in text.casefold() for text in known.fields)


def _text_of_latest(completions: Sequence[str], texts: Collection[str], whole: Collection[str] = ()) -> str:
    """Return the text that is the latest completion, or that a node wrote around a later one; "" if there is none.

    A later one that is shorter is a title or a critique.
    """
    said = [completion for completion in completions if completion]
    exact = next((completion for completion in said if completion in texts), "")
    for completion in itertools.takewhile(lambda completion: completion != exact, said):
        around = [text for text in texts if completion in text and text in whole]
        if around and len(completion) >= len(exact) and not is_one_word(completion):
            return min(around, key=len)
    return exact


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
    return [entry[0] if _is_one_text(entry) else json_text(entry) for entry in map(without_documents, found) if entry]


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
