"""State of conversations between their turns, bounded in number and size."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

from gati.trace.continuations import Continuations
from gati.trace.prompt_index import UnlinkedPrompts

MAX_CONVERSATIONS = 10_000
"""Conversations kept; the least recently used is dropped first."""
MAX_TEXTS = 256
"""Text hashes kept per conversation; the oldest is dropped first."""


class WaitingCall(NamedTuple):
    """A tool call that waits for a human decision: its request, and the id of the model run that requested it."""

    request: dict[str, Any]
    requested_by: str


class ConversationState:
    """State of one conversation: hashes of its texts, and the tool calls that its last turn left open.

    Attributes:
        waiting: tool calls that wait for a human decision, by id.
        answered: ids of the calls that a waiting turn has answered; the next turn's input repeats their results.
    """

    __slots__ = ("_produced", "_texts", "answered", "waiting")

    def __init__(self) -> None:
        self._texts: OrderedDict[int, None] = OrderedDict()
        self._produced: OrderedDict[int, None] = OrderedDict()
        self.waiting: dict[str, WaitingCall] = {}
        self.answered: frozenset[str] = frozenset()

    def remember(self, text: str) -> None:
        """Remember that `text` is part of the conversation; ignore an empty one."""
        _add(self._texts, text)

    def has_seen(self, text: str) -> bool:
        """Return True if `text` is remembered."""
        return hash(text) in self._texts

    def remember_produced(self, text: str) -> None:
        """Remember a text that a model of the conversation produced; ignore an empty one."""
        _add(self._produced, text)

    def was_produced(self, text: str) -> bool:
        """Return True if a model of the conversation produced `text`."""
        return hash(text) in self._produced


def _add(texts: OrderedDict[int, None], text: str) -> None:
    if text:
        texts[hash(text)] = None
        if len(texts) > MAX_TEXTS:
            texts.popitem(last=False)


class ConversationStates:
    """The states of this process's conversations, by conversation id.

    Attributes:
        was_seen: the conversation that `of` returned last existed before.
        continuations: the conversations without an id.
        unlinked_prompts: prompts that were rendered before any model call used them.
    """

    __slots__ = ("_states", "continuations", "unlinked_prompts", "was_seen")

    def __init__(self) -> None:
        self.unlinked_prompts = UnlinkedPrompts()
        self.continuations = Continuations()
        self._states: OrderedDict[str, ConversationState] = OrderedDict()
        self.was_seen = False

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
