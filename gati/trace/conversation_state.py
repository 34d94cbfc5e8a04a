"""What is kept of conversations between their turns: bounded, and small for each."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

from gati.trace.prompt_index import UnlinkedPrompts

MAX_CONVERSATIONS = 10_000
"""Most conversations remembered; the least recently used goes first."""
MAX_TEXTS = 256
"""Most texts remembered of one conversation, by hash."""


class WaitingCall(NamedTuple):
    """A tool call that waits for a human: what was asked for, and the model run that did."""

    request: dict[str, Any]
    requested_by: str


class ConversationState:
    """What one conversation has had: hashes of its texts, and what its last turn left open.

    Attributes:
        waiting: tool calls that wait for a human, by their ids.
        answered: ids of the calls that a waiting turn has answered; the next one brings their results along.
    """

    __slots__ = ("_texts", "answered", "waiting")

    def __init__(self) -> None:
        self._texts: OrderedDict[int, None] = OrderedDict()
        self.waiting: dict[str, WaitingCall] = {}
        self.answered: frozenset[str] = frozenset()

    def remember(self, text: str) -> None:
        """Remember that this text stands in the conversation."""
        if text:
            self._texts[hash(text)] = None
            if len(self._texts) > MAX_TEXTS:
                self._texts.popitem(last=False)

    def has_seen(self, text: str) -> bool:
        """Whether it does."""
        return hash(text) in self._texts


class ConversationStates:
    """The conversations of this process by id. `was_seen`: whether the last one asked for was known.
    `unlinked_prompts`: prompts that wait for a model call."""

    __slots__ = ("_states", "unlinked_prompts", "was_seen")

    def __init__(self) -> None:
        self.unlinked_prompts = UnlinkedPrompts()
        self._states: OrderedDict[str, ConversationState] = OrderedDict()
        self.was_seen = False

    def of(self, conversation_id: str) -> ConversationState:
        """What is remembered of a conversation; made when there is nothing yet."""
        state = self._states.get(conversation_id)
        self.was_seen = state is not None
        if state is None:
            state = self._states[conversation_id] = ConversationState()
            if len(self._states) > MAX_CONVERSATIONS:
                self._states.popitem(last=False)
        else:
            self._states.move_to_end(conversation_id)
        return state
