"""Find the model call that made a turn's answer, and mark the other calls as internal.

Programs edit what a model wrote before a person reads it: they strip it, remove its thoughts, add a
footer, redact it or read one field of its JSON. The edited text still belongs to the call. Evidence,
strongest first: the id of the answer's message, unless a later call wrote the answer's very text; an equal text, a text
that contains the other, and the words that both have in common.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from gati.events import ChatMessage, LLMCallEvent, has_client_calls
from gati.trace.content import text_of
from gati.trace.records import ASSISTANT_ROLES, DECISION, INTERNAL_MARKERS, Message, ModelCall, ModelResult
from gati.trace.scripts import SPACELESS

if TYPE_CHECKING:
    from gati.trace.run_tree import Run, Trace

ModelEvents: TypeAlias = "list[tuple[Run, LLMCallEvent]]"

_MARKERS = frozenset(INTERNAL_MARKERS)
MIN_SHARED = 0.5
"""Part of an answer's words that a completion must have in common with it to have made it."""
_MIN_SHARED_WORDS = 3
"""Fewest common words that count, unless one text contains the other or begins with it."""
_MAX_COMPARED_CHARS = 20_000
"""Longest text whose words are compared; of a longer one, the beginning."""

_THOUGHTS = re.compile(r"<(think|thinking|thought|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"```\w*+\s*+(.*?)```", re.DOTALL)
_WORD = re.compile(rf"[{SPACELESS}]|[^\W{SPACELESS}]+")
"""A word; in scripts without spaces, a character."""
_IS_SPACELESS = re.compile(f"[{SPACELESS}]")
_MAX_JSON_DEPTH = 16
"""Deepest level of a completion's JSON in which texts are looked for."""
_MAX_OCCURRENCES = 100
"""Most places at which a text is looked for as whole words."""

_Evidence: TypeAlias = "tuple[int, float, float]"
"""How well a completion explains an answer: the kind of match, the part of the answer that the completion covers, and
the similarity of the two texts. Greater is better."""

_SAME_TEXT: _Evidence = (3, 1.0, 1.0)
_SAME_VALUE: _Evidence = (2, 1.0, 1.0)


def mark_answer(trace: Trace, models: ModelEvents, answer: ChatMessage | None) -> None:
    """Set `is_answer`, `made_answer` and `internal` on the model events of a turn.

    `is_answer`: the completion is the answer's text. `made_answer`: the answer was made of the completion.
    `internal`: the completion is no part of the answer and requests no tools, or the call is not user-facing.
    """
    maker = _maker_of(trace, models, answer) if answer is not None else None
    for _, event in models:
        event.made_answer = event is maker
        event.is_answer = event is maker and answer is not None and is_same_text(answer.text, event.completion)
    contributors = _contributors(models, answer, maker) if answer is not None and maker is not None else []
    for run, event in models:
        is_part = event is maker or event in contributors
        writes = bool(event.completion) and not _requests_tools(event)
        event.internal = not is_part and (writes or not is_user_facing(run))


def is_user_facing(run: Run) -> bool:
    """Return True if a model run may make the user's answer: it is not marked as internal and not inside a tool."""
    metadata = run.metadata
    if not _MARKERS.isdisjoint(metadata) and any(metadata.get(marker) for marker in INTERNAL_MARKERS):
        return False
    above = run.parent
    while above is not None:
        if above.kind == "tool":
            return False
        above = above.parent
    return not _is_decision(run)


def _is_decision(run: Run) -> bool:
    """Return True for a call of a decision model, which writes no text."""
    messages = run.inputs.messages if isinstance(run.inputs, ModelCall) else ()
    return bool(messages) and getattr(messages[0], "role", None) == DECISION


def _maker_of(trace: Trace, models: ModelEvents, answer: ChatMessage) -> LLMCallEvent | None:
    """Return the event of the call that made the answer; the latest of equally good ones."""
    message_id = _message_id_of(trace, answer.text)
    best: _Evidence | None = None
    maker: LLMCallEvent | None = None
    for run, event in reversed(models):
        if not is_user_facing(run):
            continue
        if message_id is not None and _has_id(run, message_id):
            # A later call with this very text rewrote the message and kept its id.
            is_rewritten = best == _SAME_TEXT and not is_same_text(answer.text, event.completion)
            return maker if is_rewritten else event
        if best == _SAME_TEXT:  # a comparison finds nothing better, and costs as much as the rest of the event
            continue
        found = _evidence(event, answer)
        if found is not None and (best is None or found > best):
            best, maker = found, event
    return maker or _writer_in_node(models, answer.text) or _only_writer(trace, models)


def _writer_in_node(models: ModelEvents, answer: str) -> LLMCallEvent | None:
    """Return the last call in the node that wrote the answer whose text the answer contains, however short it is.

    Example: the node of a call that says "42" writes "The answer is 42." In another node, "42" would be a coincidence.
    """
    for run, event in reversed(models):
        node = next((above for above in run.ancestors() if above.node is not None), None)
        if node is None or not is_user_facing(run) or not _has_text(node.output, answer):
            continue
        if any(_contains(_single_spaced(answer), _single_spaced(text)) for text in written_texts(event)):
            return event
    return None


def _has_text(value: Any, text: str, depth: int = 4) -> bool:
    """Return True if an output contains `text` as an entry or as a message."""
    if isinstance(value, (str, Message)):
        return (text_of(value) if isinstance(value, Message) else value) == text
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth > 0 and any(_has_text(entry, text, depth - 1) for entry in entries)


def _only_writer(trace: Trace, models: ModelEvents) -> LLMCallEvent | None:
    """Return the only call of a plain chain: whatever the chain returns was made of its text."""
    if trace.root.kind != "chain" or any(run.node is not None or run.kind == "tool" for run in trace.runs()):
        return None
    writers = [event for run, event in models if is_user_facing(run)]
    return writers[0] if len(writers) == 1 and writers[0].completion else None


def _message_id_of(trace: Trace, text: str) -> str | None:
    """Return the id of the answer's message in the output of the root or of one of its nodes."""
    root = trace.root
    outputs = [root.output, *(run.output for run in reversed(trace.runs()) if run.node is not None)]
    for output in outputs:
        for message in _messages_in(output):
            if message.id and message.role in ASSISTANT_ROLES and text_of(message) == text:
                return message.id
    return None


def _messages_in(value: Any, depth: int = 4) -> Iterator[Message]:
    """Yield the messages in an output, the latest of a list first."""
    if isinstance(value, Message):
        yield value
    elif depth and isinstance(value, dict):
        for entry in value.values():
            yield from _messages_in(entry, depth - 1)
    elif depth and isinstance(value, list):
        for entry in reversed(value):
            yield from _messages_in(entry, depth - 1)


def _has_id(run: Run, message_id: str) -> bool:
    messages = run.output.messages if isinstance(run.output, ModelResult) else ()
    return any(message.id == message_id for message in messages) or message_id.startswith(f"lc_run--{run.id}")


def is_written_by(models: ModelEvents, text: str) -> bool:
    """Return True if one of the user-facing calls wrote a text, or JSON with the same values."""
    answer = ChatMessage("", "assistant", text, 0)
    return any(is_user_facing(run) and _evidence(event, answer) is not None for run, event in models)


def _evidence(event: LLMCallEvent, answer: ChatMessage) -> _Evidence | None:
    """Compare an answer with what a call wrote; None if the call cannot have made it."""
    if is_same_text(answer.text, event.completion):
        return _SAME_TEXT
    is_cut_off = (
        "status" in answer.properties and event.completion.startswith(answer.text) and not _requests_tools(event)
    )
    if is_cut_off:
        return _SAME_TEXT
    found = [e for text in written_texts(event) if (e := _compare(answer.text, text)) is not None]
    if not found and _is_value(answer.text, event):
        return 1, 0.0, 0.0
    return max(found, default=None)


def _is_value(answer: str, event: LLMCallEvent) -> bool:
    """Return True if an answer is JSON and one of its values is the text of a call, however short it is.

    Example: ``{"critic": "Art.", "fan": "Science."}``, of two models side by side.
    """
    text = _single_spaced(event.completion)
    return bool(text) and not event.tool_requests and any(_single_spaced(v) == text for v in texts_in_json(answer))


def written_texts(event: LLMCallEvent) -> list[str]:
    """Return what a call wrote for a reader: its text without thoughts, and the arguments of its tool requests.

    A tool request may only define the shape of the answer. JSON is also returned value by value.
    """
    texts = []
    if event.completion and not _requests_tools(event):
        visible = _THOUGHTS.sub("", event.completion)
        texts = [visible, *texts_in_json(visible)]
    for request in event.tool_requests:
        arguments = request.get("args")
        if isinstance(arguments, dict) and arguments and not request.get("server"):
            texts += [orjson.dumps(arguments, default=str, option=orjson.OPT_NON_STR_KEYS).decode()]
            texts += _answer_texts(arguments)
    return [text for text in texts if text.strip()]


def wrapped_text(event: LLMCallEvent) -> str:
    """Return the only text in the object that a call answered with; "" if there is none or several.

    Example: ``{"email": "Dear Ann, …"}``, by structured output or as JSON. An object with more fields is a judgement as often.
    """
    if event.completion:
        texts = texts_in_json(event.completion)
    else:
        requests = [request.get("args") for request in event.tool_requests]
        texts = list(_answer_texts(requests[0])) if len(requests) == 1 else []
    return texts[0] if len(texts) == 1 else ""


def _requests_tools(event: LLMCallEvent) -> bool:
    """Return True if a call requests tools of the program. Text beside a provider's own tools may be the answer."""
    return bool(event.tool_requests) and has_client_calls(event.tool_requests)


def texts_in_json(text: str) -> list[str]:
    """Return the texts inside a completion that is JSON, also inside a code fence; nothing for other texts."""
    fenced = _FENCE.search(text)
    candidate = (fenced[1] if fenced is not None else text).strip()
    if candidate[:1] not in ("{", "["):
        return []
    try:
        return list(_answer_texts(orjson.loads(candidate)))
    except orjson.JSONDecodeError:
        return []


def _answer_texts(value: Any, depth: int = _MAX_JSON_DEPTH) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield str(value)
    elif depth and isinstance(value, (dict, list)):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _answer_texts(entry, depth - 1)


def _compare(answer: str, text: str) -> _Evidence | None:
    answer, text = _single_spaced(answer), _single_spaced(text)
    if not answer or not text:
        return None
    if answer == text or _is_same_json(answer, text):
        return _SAME_VALUE
    if _contains(text, answer):
        # "Final Answer: 12" rather than "12 is a number".
        return 1, 1.0, 1.0 if text.endswith(answer) else 0.5
    shared, in_answer, in_text = _shared_words(answer, text)
    coverage, similarity = shared / in_answer, 2 * shared / (in_answer + in_text)
    is_part = _contains(answer, text)
    enough = shared == in_answer == in_text or (shared >= _MIN_SHARED_WORDS and (coverage >= MIN_SHARED or is_part))
    return (1, coverage, similarity) if enough or (is_part and answer.startswith(text)) else None


def _single_spaced(text: str) -> str:
    """Replace line breaks and repeated blanks by single blanks."""
    return " ".join(text.split())


def _contains(whole: str, part: str) -> bool:
    """Return True if `part` occurs in `whole` as whole words."""
    at = -1
    for _ in range(_MAX_OCCURRENCES):
        at = whole.find(part, at + 1)
        if at < 0:
            return False
        end = at + len(part)
        starts = at == 0 or not (_is_word(whole[at - 1]) and _is_word(part[0]))
        ends = end == len(whole) or not (_is_word(whole[end]) and _is_word(part[-1]))
        if starts and ends:
            return True
    return False


def _is_word(character: str) -> bool:
    return character.isalnum() and not _IS_SPACELESS.match(character)


def _shared_words(answer: str, text: str) -> tuple[int, int, int]:
    """Return how many words the texts have in common, and how many each has; the case of letters does not matter."""
    first = Counter(_WORD.findall(answer[:_MAX_COMPARED_CHARS].casefold()))
    second = Counter(_WORD.findall(text[:_MAX_COMPARED_CHARS].casefold()))
    return (first & second).total(), first.total() or 1, second.total() or 1


def _contributors(models: ModelEvents, answer: ChatMessage, maker: LLMCallEvent) -> Sequence[LLMCallEvent]:
    """Return the other calls whose whole text is in the answer too, beside the maker's.

    Example: an answer that joins the sections that several calls wrote.
    """
    if maker.is_answer or _requests_tools(maker):
        return ()
    rest = _without(_single_spaced(answer.text), maker)
    values = list(map(_single_spaced, texts_in_json(answer.text)))
    if (text := _single_spaced(maker.completion)) in values:
        values.remove(text)
    found = []
    for run, event in reversed(models):
        if event is maker or not (rest or values) or _requests_tools(event) or not is_user_facing(run):
            continue
        if is_value := _single_spaced(event.completion) in values:
            values.remove(_single_spaced(event.completion))
        shorter = _without(rest, event)
        left = len(_WORD.findall(shorter))
        covered = len(_WORD.findall(rest)) - left
        if covered >= _MIN_SHARED_WORDS or (covered and not left) or is_value:
            found.append(event)
            rest = shorter
    return found


def _without(text: str, event: LLMCallEvent) -> str:
    """Remove from a text what a call wrote, if the text contains all of it."""
    for written in written_texts(event):
        if (part := _single_spaced(written)) and part in text:
            return text.replace(part, " ", 1)
    return text


def is_same_text(answer: str, completion: str) -> bool:
    """Compare two texts, JSON by value. Example: ``'{"n":3}'`` and ``'{"n": 3}'`` → True."""
    return answer == completion or (bool(completion) and _is_same_json(answer, completion))


def _is_same_json(first: str, second: str) -> bool:
    if first[:1] not in ("{", "[") or second[:1] not in ("{", "["):
        return False
    try:
        return bool(orjson.loads(first) == orjson.loads(second))
    except (orjson.JSONDecodeError, RecursionError):
        return False


def answering_model(models: ModelEvents) -> str | None:
    """Return the name of the model that made the answer, else of the last model that is not internal, else the last."""
    named = [event for _, event in models if event.model]
    best = [event for event in named if event.made_answer] or [event for event in named if not event.internal] or named
    return best[-1].model if best else None
