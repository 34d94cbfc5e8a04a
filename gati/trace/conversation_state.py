"""What is kept of conversations between their turns: bounded, and small for each."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

from gati.trace.prompt_index import Filled

THREADS = 10_000
"""Most conversations remembered; the least recently used goes first."""
TEXTS = 256
"""Most texts remembered of one conversation, by hash."""


class Waiting(NamedTuple):
    """A tool call that waits for a human: what was asked for, and the model run that did."""

    request: dict[str, Any]
    asked_by: str


class Thread:
    """What one conversation has had: hashes of its texts, and what its last turn left open.

    Attributes:
        waiting: tool calls that wait for a human, by their ids.
        answered: ids of the calls that a waiting turn has answered; the next one brings their results along.
    """

    __slots__ = ("_texts", "answered", "waiting")

    def __init__(self) -> None:
        self._texts: OrderedDict[int, None] = OrderedDict()
        self.waiting: dict[str, Waiting] = {}
        self.answered: frozenset[str] = frozenset()

    def tell(self, text: str) -> None:
        """Remember that this text stands in the conversation."""
        if text:
            self._texts[hash(text)] = None
            if len(self._texts) > TEXTS:
                self._texts.popitem(last=False)

    def was_told(self, text: str) -> bool:
        """Whether it does."""
        return hash(text) in self._texts


class Threads:
    """The conversations of this process by id. `knew`: whether the last one asked for was known.
    `filled`: prompts that wait for a model call."""

    __slots__ = ("_kept", "filled", "knew")

    def __init__(self) -> None:
        self.filled = Filled()
        self._kept: OrderedDict[str, Thread] = OrderedDict()
        self.knew = False

    def of(self, conversation_id: str) -> Thread:
        """What is remembered of a conversation; made when there is nothing yet."""
        thread = self._kept.get(conversation_id)
        self.knew = thread is not None
        if thread is None:
            thread = self._kept[conversation_id] = Thread()
            if len(self._kept) > THREADS:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(conversation_id)
        return thread
