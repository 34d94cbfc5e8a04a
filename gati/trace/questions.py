"""Find the text that a person read in the payload of an interrupt, or wrote in the payload of a resume."""

from __future__ import annotations

from typing import Any

from gati.trace.scripts import is_label

_QUESTION_KEYS = ("query", "question", "message", "text", "prompt")
_ANSWER_KEYS = ("data", "answer", "text", "response")
_TYPE = "type"
"""Key of a decision's type. The type is not what a person said."""
_REPLIES = ("response", "respond", "reply", "feedback")
"""Types of the decisions that are a person's words."""
_WORDS_KEYS = ("args", "message")
"""Keys of these words: of the agent inbox, and of LangChain's `HumanInTheLoopMiddleware`."""
_DECISIONS = "decisions"
"""Key of this middleware's list of decisions."""
_REQUESTS = "action_requests"
"""Key of the tool calls that LangChain's `HumanInTheLoopMiddleware` wants approved. They are no question in words."""


def question_in(payload: Any) -> str:
    """Return the question in an interrupt's payload; "" if it has none.

    Examples: ``{"query": "Your name?", "draft": "Hi"}`` → ``"Your name?"``; ``{"kind": "date"}`` → ``""``, because the dict's only text
    is a single word, which names something.
    """
    if isinstance(payload, dict) and _REQUESTS in payload:
        return ""
    question = _text_in(payload, _QUESTION_KEYS)
    is_named = not isinstance(payload, dict) or not payload.keys().isdisjoint(_QUESTION_KEYS)
    return question if is_named or not (question.isascii() and is_label(question)) else ""


def replies_in(payload: Any) -> list[str]:
    """Return the replies in a resume's payload.

    Examples: ``{"data": "Ann"}`` → ``["Ann"]``; ``[{"type": "response", "args": "On Tuesday"}, {"type": "accept"}]``, which are
    decisions → ``["On Tuesday"]``; ``{"type": "accept"}`` → ``[]``.
    """
    decisions = payload.get(_DECISIONS) if isinstance(payload, dict) else None
    if isinstance(decisions, list) and (replies := replies_in(decisions)):
        return replies
    if isinstance(payload, list):
        return [text for item in payload if (text := _reply_in_decision(item))]
    text = _reply_in_decision(payload) or _text_in(payload, _ANSWER_KEYS)
    is_type = isinstance(payload, dict) and text == payload.get(_TYPE) and is_label(text)
    return [text] if text and not is_type else []


def _reply_in_decision(item: Any) -> str:
    if not isinstance(item, dict) or item.get(_TYPE) not in _REPLIES:
        return ""
    return next((words for key in _WORDS_KEYS if isinstance(words := item.get(key), str)), "")


def _text_in(payload: Any, keys: tuple[str, ...]) -> str:
    """Return a payload that is a text, a dict's only text, or its text under the first of `keys`."""
    if isinstance(payload, str):
        return payload
    if not isinstance(payload, dict):
        return ""
    texts = [value for value in payload.values() if isinstance(value, str) and value]
    if len(texts) == 1:
        return texts[0]
    return next((text for key in keys if isinstance(text := payload.get(key), str) and text), "")
