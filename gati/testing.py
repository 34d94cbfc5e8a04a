"""For the tests of programs that use gati: see what would have been delivered, with nothing leaving the process.

::

    from gati.testing import capture

    def test_the_tutor_answers():
        with capture() as captured:
            tutor.invoke("What is 2 + 2?")
        assert captured.turns[0].answer.text == "4"

`ScriptedChatModel` is a chat model that answers from a script.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gati._deprecation import warn_renamed
from gati.events import Action, Event, Turn
from gati.exporters.base import DELIVERED, Outcome, Request

if TYPE_CHECKING:
    from gati.events import Item
    from gati.langchain.scripted import ScriptedChatModel

__all__ = ["Captured", "Clock", "ScriptedChatModel", "capture"]


@dataclass
class Captured:
    """What was delivered, complete once the `with` block is left; an exporter that keeps things.

    Attributes:
        turns: one for each root run, in order of their ends.
        events: told by `observe.track_event` outside of runs.
        actions: told by `observe.identify_user`, `log_rating` and their sisters.
    """

    turns: list[Turn] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)

    name = "captured"
    account = "captured"
    durable = True

    def conversation(self, conversation_id: str) -> list[Turn]:
        """The turns of one conversation."""
        return [turn for turn in self.turns if turn.conversation.id == conversation_id]

    def transcript(self) -> list[tuple[str, str]]:
        """Return all messages as ``(role, text)``, in order: the user's, then the answer, turn by turn."""
        messages = [m for turn in self.turns for m in (*turn.messages, turn.answer) if m is not None]
        return [(message.role, message.text) for message in messages]

    def said(self) -> list[tuple[str, str]]:
        """Deprecated: use `transcript`."""
        warn_renamed("Captured.said()", "Captured.transcript()")
        return self.transcript()

    def encode(self, items: Sequence[Item]) -> list[Request]:
        """Keep the items; what is made of them carries nothing."""
        for item in items:
            kept: list[Any] = (
                self.turns if isinstance(item, Turn) else self.actions if isinstance(item, Action) else self.events
            )
            kept.append(item)
        return []

    def send(self, request: Request) -> Outcome:
        """Nothing is ever sent."""
        return DELIVERED

    def split(self, request: Request) -> tuple[Request, Request] | None:
        """Nothing is ever sent."""
        return None

    def after_fork(self) -> None:
        """A child has a copy of its own."""

    def close(self) -> None:
        """Nothing to release."""


@contextmanager
def capture(**options: Any) -> Iterator[Captured]:
    """Watch the block with gati and keep what it would have delivered.

    Args:
        options: as of `observe.init`. Destinations that they or the environment name get
            nothing. A gati that was running before is shut down first.
    """
    from gati._api.runtime import runtime
    from gati.settings import load

    captured = Captured()
    runtime.start(load(**options), [captured])
    try:
        yield captured
    finally:
        runtime.stop(timeout=10.0)


@dataclass
class Clock:
    """A clock that stands still until it is told: `clock.forward(seconds)`. Call it for nanoseconds."""

    now_ns: int = 1_700_000_000_000_000_000

    def __call__(self) -> int:
        return self.now_ns

    def forward(self, seconds: float) -> None:
        """Let time pass."""
        self.now_ns += int(seconds * 1e9)


def __getattr__(name: str) -> Any:
    if name == "ScriptedChatModel":
        from gati.langchain.scripted import ScriptedChatModel  # late: it loads LangChain

        return ScriptedChatModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
