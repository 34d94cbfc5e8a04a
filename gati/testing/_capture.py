"""Captures turns, events and actions in memory instead of delivering them; a clock for tests."""

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
    from gati.settings import Settings


@dataclass
class Captured:
    """An exporter that keeps what it receives. Complete once the `with` block has ended.

    Attributes:
        turns: One turn per root run, in the order in which they ended.
        events: Events of `observe.track_event` outside of runs.
        actions: Actions of `observe.identify_user`, `identify_organization`, `log_rating` and `log_event`.
    """

    turns: list[Turn] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)

    name = "captured"
    account = "captured"
    durable = True

    def conversation(self, conversation_id: str) -> list[Turn]:
        """Return the turns of one conversation."""
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
        """Keep the items. Returns no requests, so nothing is ever sent."""
        for item in items:
            kept: list[Any] = (
                self.turns if isinstance(item, Turn) else self.actions if isinstance(item, Action) else self.events
            )
            kept.append(item)
        return []

    def send(self, request: Request) -> Outcome:
        """Do nothing: `encode` returns no requests."""
        return DELIVERED

    def split(self, request: Request) -> tuple[Request, Request] | None:
        """Do nothing: `encode` returns no requests."""
        return None

    def after_fork(self) -> None:
        """Do nothing: the child process has its own copy."""

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


@contextmanager
def capture(**options: Any) -> Iterator[Captured]:
    """Run gati for the duration of the block and capture what it would deliver.

    Shuts down gati first if it is running. Nothing is sent to the destinations in `options` or in the environment, and
    an `observe.init` inside the block changes the options, but not where the turns go. gati is on, whatever
    `GATI_ENABLED` says.

    Args:
        options: The options of `observe.init`.
    """
    from gati.settings import load

    with capture_with(load(**{"enabled": True, **options})) as captured:
        yield captured


@contextmanager
def capture_with(settings: Settings) -> Iterator[Captured]:
    """Do the same as `capture`, for validated options."""
    from gati._api.runtime import runtime

    captured = Captured()
    earlier = runtime.substitutes
    runtime.start(settings, [captured])
    runtime.substitutes = [captured] if settings.enabled else []
    try:
        yield captured
    finally:
        runtime.substitutes = earlier
        runtime.stop(timeout=10.0)


@dataclass
class Clock:
    """A clock that only advances by `clock.forward(seconds)`. Call it to get nanoseconds since the epoch."""

    now_ns: int = 1_700_000_000_000_000_000

    def __call__(self) -> int:
        return self.now_ns

    def forward(self, seconds: float) -> None:
        """Advance the clock."""
        self.now_ns += int(seconds * 1e9)
