"""State of conversations between their turns, bounded in number and size."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from gati.trace.continuations import Continuations
from gati.trace.model_input import ModelInputs
from gati.trace.prompt_index import UnlinkedPrompts
from gati.trace.prompt_names import NumberedPrompts
from gati.trace.replacements import PastTurns
from gati.trace.requested_calls import RequestedCalls, WaitingCall

MAX_CONVERSATIONS = 10_000
"""Conversations kept; the least recently used is dropped first."""
MAX_TEXTS = 256
"""Text hashes kept per conversation; the oldest is dropped first. Also the limit of message ids and of answers."""


class ConversationState:
    """State of one conversation: hashes of its texts, and the tool calls that its last turn left open.

    Attributes:
        waiting: tool calls that wait for a human decision, by id.
        answered: ids of the calls that a waiting turn has answered; the next turn's input repeats their results.
        requested: calls that the last turn with a model requested and no tool answered, by id.
        repeatable: ids of the model runs that requested the calls of a turn that did not complete, by id of the call. If it is
            continued, its tools may run again.
        is_waiting: the last turn ended waiting for the user.
        past_turns: its turns, to recognize those that replace them.
    """

    __slots__ = (
        "_answers", "_calls", "_ids", "_persons", "_produced", "_texts", "_without_id", "answered", "is_waiting",
        "past_turns", "repeatable", "requested", "waiting",
    )  # fmt: skip

    def __init__(self) -> None:
        self._texts: OrderedDict[int, None] = OrderedDict()
        self._produced: OrderedDict[int, None] = OrderedDict()
        self._answers: OrderedDict[int, None] = OrderedDict()
        self._ids: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._without_id: OrderedDict[int, None] = OrderedDict()
        self._calls: OrderedDict[str, None] = OrderedDict()
        self._persons: OrderedDict[str, None] = OrderedDict()
        self.requested: dict[str, WaitingCall] = {}
        self.repeatable: dict[str, str] = {}
        self.is_waiting = False
        self.waiting: dict[str, WaitingCall] = {}
        self.answered: frozenset[str] = frozenset()
        self.past_turns = PastTurns()

    def remember(self, text: str) -> None:
        """Remember that `text` is part of the conversation; ignore an empty one."""
        if text:
            _add(self._texts, hash(text))

    def has_seen(self, text: str) -> bool:
        """Return True if `text` is remembered."""
        return hash(text) in self._texts

    def is_new_message(self, text: str, call_id: str | None) -> bool:
        """Return True if a message is not part of the conversation yet, and remember it.

        Messages around tool calls may have the same text in every turn ("Transferring back to the supervisor"). Once one
        was reported with the id of its call, others with this text are the same message only if they have the same id.
        """
        with_ids, with_this_id = hash((text, None)), hash((text, call_id))
        if self.has_seen(text) and (call_id is None or with_ids not in self._texts or with_this_id in self._texts):
            return False
        self.remember(text)
        if call_id is not None:
            _add(self._texts, with_ids)
            _add(self._texts, with_this_id)
        return True

    def remember_answer(self, text: str) -> None:
        """Remember that `text` is an answer of the conversation; ignore an empty one."""
        self.remember(text)
        if text:
            _add(self._answers, hash(text))

    def is_answer(self, text: str) -> bool:
        """Return True if `text` was the answer of an earlier turn."""
        return hash(text) in self._answers

    def note_call(self, call_id: str) -> None:
        """Remember that the tool call with this id was reported with its result."""
        _add(self._calls, call_id)

    def has_reported_call(self, call_id: str) -> bool:
        """Return True if the tool call with this id was reported with its result."""
        return call_id in self._calls

    @property
    def knows_calls(self) -> bool:
        """True if a tool call of the conversation was requested or reported."""
        return bool(self.requested or self._calls)

    def note_texts(self, texts: list[str]) -> None:
        """Remember texts of the user that were reported and whose message ids are not known yet."""
        for text in texts:
            _add(self._without_id, hash(text))

    def note_id(self, message_id: str, text: str) -> None:
        """Remember that the user's message with this id and text was reported."""
        _add(self._ids, (message_id, hash(text)))
        self._without_id.pop(hash(text), None)

    def was_reported(self, message_id: str | None, text: str) -> bool:
        """Return True if the user's message was reported. An edited message has its former id and another text."""
        if message_id is None:
            return self.has_seen(text)
        return (message_id, hash(text)) in self._ids or hash(text) in self._without_id

    def was_said(self, text: str) -> bool:
        """Return True if `text` was a message of the user in an earlier turn."""
        key = hash(text)
        return key in self._without_id or any(known == key for _, known in self._ids)

    def remember_produced(self, text: str) -> None:
        """Remember a text that a model of the conversation produced; ignore an empty one."""
        if text:
            _add(self._produced, hash(text))

    def was_produced(self, text: str) -> bool:
        """Return True if a model of the conversation produced `text`."""
        return hash(text) in self._produced

    def remember_person(self, name: str | None) -> None:
        """Remember that a person of this name wrote a message; ignore None."""
        if name:
            _add(self._persons, name)

    def is_person(self, name: str) -> bool:
        """Return True if a person of this name wrote an earlier message."""
        return name in self._persons


def _add(items: OrderedDict[Any, None], key: Any) -> None:
    items[key] = None
    if len(items) > MAX_TEXTS:
        items.popitem(last=False)


class ConversationStates:
    """The states of this process's conversations, by conversation id.

    Attributes:
        was_seen: the conversation that `of` returned last existed before.
        continuations: the conversations without an id.
        numbered_prompts: prompts that share a name.
        unlinked_prompts: prompts that were rendered before any model call used them.
        model_inputs: the messages that model calls were sent.
        requested_calls: the tool requests that the latest turns left open.
    """

    __slots__ = (
        "_attempted", "_states", "continuations", "model_inputs", "numbered_prompts", "requested_calls", "unlinked_prompts",
        "was_seen",
    )  # fmt: skip

    def __init__(self) -> None:
        self.unlinked_prompts = UnlinkedPrompts()
        self.numbered_prompts = NumberedPrompts()
        self.continuations = Continuations()
        self.model_inputs = ModelInputs()
        self.requested_calls = RequestedCalls()
        self._states: OrderedDict[str, ConversationState] = OrderedDict()
        self._attempted: OrderedDict[str, None] = OrderedDict()
        self.was_seen = False

    def attempted_before(self, turn_id: str) -> bool:
        """Return True if this process has seen an earlier attempt at a turn; remember this one."""
        was_attempted = turn_id in self._attempted
        self._attempted[turn_id] = None
        if len(self._attempted) > MAX_CONVERSATIONS:
            self._attempted.popitem(last=False)
        return was_attempted

    def of(self, conversation_id: str, create: bool = True) -> ConversationState:
        """Return a conversation's state; if there is none, a new one, which is kept if `create` is set."""
        state = self._states.get(conversation_id)
        self.was_seen = state is not None
        if state is None:
            state = ConversationState()
            if not create:
                return state
            self._states[conversation_id] = state
            if len(self._states) > MAX_CONVERSATIONS:
                self._states.popitem(last=False)
        else:
            self._states.move_to_end(conversation_id)
        return state
