"""Recognize turns that continue a conversation without an id, because their input begins with its messages."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from gati.limits import hash_of_text
from gati.trace.chat_input import user_messages_in
from gati.trace.content import text_of
from gati.trace.identity import ANONYMOUS
from gati.trace.records import ASSISTANT_ROLES, USER_ROLES, Message, ModelCall, ModelResult, RepeatedHistory
from gati.trace.run_tree import model_messages

if TYPE_CHECKING:
    from gati.events import Turn
    from gati.trace.run_tree import Trace

MAX_CONVERSATIONS = 5_000
"""Conversations without an id that can be continued; the least recent is dropped first."""
MAX_ANSWER_IDS = 50_000
"""Answer ids remembered, to notice that a model or a cache uses one twice."""
MAX_SAME_ENDING = 16
"""Conversations kept that end with the same messages; the least recent is dropped first."""
HEAD = 16
"""Messages kept from the beginning of a long conversation."""


class Messages(NamedTuple):
    """The messages of a conversation as hashes: all of them, or its two ends.

    Attributes:
        head: its first messages.
        tail: its last messages; all of them if `is_whole`.
        is_whole: True if no message between the two is missing.
    """

    head: array[int]
    tail: array[int]
    is_whole: bool

    def add(self, role: str, texts: Iterable[str]) -> Messages:
        """Return the messages with further ones at the end."""
        return self._replace(
            tail=self.tail + array("q", [_hash_of_message(role, hash_of_text(text)) for text in texts if text])
        )

    def matches(self, other: Messages) -> bool:
        """Return True if both are the same messages, as far as they are known."""
        if self.is_whole and other.is_whole:
            return self.tail == other.tail
        known, first = min(len(self.tail), len(other.tail)), min(len(self.head), len(other.head))
        return self.tail[-known:] == other.tail[-known:] and self.head[:first] == other.head[:first]


class _Continuable(NamedTuple):
    """A conversation after its latest turn.

    Attributes:
        messages: the messages with which the next turn's history ends.
        answer_ids: the ids of the messages that models produced in it.
        failed: if the latest turn failed and `messages` are those before it, hashes of what it was asked; else None.
    """

    conversation_id: str
    user_id: str
    messages: Messages
    answer_ids: frozenset[str]
    failed: array[int] | None = None


class Continuations:
    """The conversations without an id of this process, bounded in number."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, list[_Continuable]] = OrderedDict()
        self._by_ending: dict[int, list[_Continuable]] = {}
        self._seen_ids: OrderedDict[str, bool] = OrderedDict()

    def continued_by(self, trace: Trace, user_id: str) -> str | None:
        """Return the id of the conversation that a turn continues; None if it begins a new one.

        A turn is continued once. Ids of messages decide where the messages have them. Texts decide only
        if the user is known, because two people may begin with the same words.
        """
        history = trace.history
        if history is None:
            return None
        messages = _messages_of(history)
        found = [
            earlier
            for earlier in self._by_ending.get(_ending_of(messages), ())
            if earlier.user_id == user_id
            and earlier.messages.matches(messages)
            and self._is_same(earlier, history.answer_id, user_id)
        ]
        chosen = _best_of(found, _questions_in(trace)) if found else None
        if chosen is None:
            return None
        self._forget(chosen.conversation_id)
        return chosen.conversation_id

    def _is_same(self, earlier: _Continuable, answer_id: str | None, user_id: str) -> bool:
        if answer_id is not None and earlier.answer_ids and not self._seen_ids.get(answer_id, False):
            return answer_id in earlier.answer_ids
        return user_id != ANONYMOUS

    def remember(self, trace: Trace, turn: Turn) -> None:
        """Remember a turn without a conversation id after its end."""
        output = _answers_in_output(trace)
        answers = [message for run in trace.models() for message in _answers_of(run.output)]
        answer_ids = frozenset(message.id for message in (*answers, *output) if message.id)
        for answer_id in answer_ids:
            # True: the id is of no use, since two answers have it.
            self._seen_ids[answer_id] = answer_id in self._seen_ids
        while len(self._seen_ids) > MAX_ANSWER_IDS:
            self._seen_ids.popitem(last=False)
        before = _messages_of(trace.history) if trace.history is not None else _NO_MESSAGES
        questions = tuple(message.text for message in turn.messages if message.role == "user")
        # A program passes all answers on, or only the one that it showed.
        shown = (turn.answer.text,) if turn.answer is not None else ()
        afterwards = [
            before.add("user", asked).add("assistant", texts)
            for asked in {questions, _as_asked(questions, trace)}
            for texts in {shown, tuple(text_of(message) for message in output) or shown}
        ]
        conversation = turn.conversation
        entries = [
            _Continuable(conversation.id, conversation.user_id, messages, answer_ids)
            for messages in afterwards
            if messages.tail
        ]
        if turn.status in ("error", "aborted") and before.tail:
            # The program asks again, or something else. Its history then ends with the answer before this turn.
            if trace.history is not None and trace.history.answer_id is not None:
                answer_ids |= {trace.history.answer_id}
            failed = _questions_in(trace)
            entries.append(_Continuable(conversation.id, conversation.user_id, before, answer_ids, failed))
        if entries:
            self._add(entries)

    def _add(self, entries: list[_Continuable]) -> None:
        conversation_id = entries[0].conversation_id
        self._forget(conversation_id)
        self._open[conversation_id] = entries
        for entry in entries:
            same_ending = self._by_ending.setdefault(_ending_of(entry.messages), [])
            same_ending.append(entry)
            del same_ending[:-MAX_SAME_ENDING]
        while len(self._open) > MAX_CONVERSATIONS:
            self._forget(next(iter(self._open)))

    def _forget(self, conversation_id: str) -> None:
        """Remove the latest turn of a conversation: it was continued, or is too old."""
        for entry in self._open.pop(conversation_id, ()):
            ending = _ending_of(entry.messages)
            kept = [other for other in self._by_ending.get(ending, ()) if other is not entry]
            if kept:
                self._by_ending[ending] = kept
            else:
                self._by_ending.pop(ending, None)


def _best_of(found: list[_Continuable], questions: array[int]) -> _Continuable | None:
    """Return the conversation that a turn with these questions continues; the latest of equally good ones.

    A failed turn is continued by one that begins with its question, or else if nothing else can be.
    """
    repeating = [earlier for earlier in found if earlier.failed and questions[: len(earlier.failed)] == earlier.failed]
    if certain := repeating or [earlier for earlier in found if earlier.failed is None]:
        return certain[-1]
    return found[-1] if len({earlier.conversation_id for earlier in found}) == 1 else None


def _questions_in(trace: Trace) -> array[int]:
    """Return hashes of the user's texts in a turn's input after the last answer."""
    inputs = trace.root.inputs
    split = user_messages_in(list(inputs.messages) if isinstance(inputs, ModelCall) else inputs)
    new = split.new if split is not None else ()
    return array("q", [hash_of_text(text_of(message)) for message in new if message.role in USER_ROLES])


_NO_MESSAGES = Messages(array("q"), array("q"), True)


def _messages_of(history: RepeatedHistory) -> Messages:
    roles = ["user" if role in USER_ROLES else "assistant" if role in ASSISTANT_ROLES else "" for role in history.roles]
    hashes = [
        _hash_of_message(role, text) if role and text else None for role, text in zip(roles, history.texts, strict=True)
    ]
    head = array("q", [value for value in hashes[:HEAD] if value is not None])
    tail = array("q", [value for value in hashes[0 if history.is_whole else HEAD :] if value is not None])
    return Messages(head, tail, history.is_whole)


def _hash_of_message(role: str, text: int) -> int:
    return hash((role, text))


def _ending_of(messages: Messages) -> int:
    return hash(tuple(messages.tail[-2:]))


def _answers_of(output: object) -> tuple[Message, ...]:
    return output.messages if isinstance(output, ModelResult) else ()


def _as_asked(questions: tuple[str, ...], trace: Trace) -> tuple[str, ...]:
    """Return the user's texts with the last one as the first model was asked it, for example without personal data.

    Middleware replaces the message in the state, which the program passes on as history.
    """
    for run in trace.models() if questions else ():
        for message in model_messages(run):
            if message.role in USER_ROLES:
                return (*questions[:-1], text_of(message) or questions[-1])
    return questions


def _answers_in_output(trace: Trace) -> list[Message]:
    """Return the answers in the message list that a root returned, such as those of several agents."""
    output = trace.root.output
    for value in output.values() if isinstance(output, dict) else [output]:
        if isinstance(value, list) and value and all(isinstance(item, Message) for item in value):
            return [item for item in value if item.role in ASSISTANT_ROLES]
    return []
