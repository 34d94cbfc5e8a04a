"""Operations for people on a queue: look at it, and read, replay or drop dead letters. The same for both engines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from gati.queues.message import QueueMessage


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A request that no relay could deliver.

    Attributes:
        id: Names it in commands.
        message: The request, with `reason`, `origin` and `dead_ms`.
    """

    id: str
    message: QueueMessage


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """The state of a queue.

    Attributes:
        turns: Queued requests.
        oldest_seconds: Age of the oldest one; None if it is unknown.
        dead: Dead letters.
        relays: For each relay its name, its number of lanes, and what else the engine knows.
        lanes: Number of lanes; 0 if there is no queue yet.
    """

    turns: int
    oldest_seconds: float | None
    dead: int
    lanes: int
    relays: list[dict[str, Any]] = field(default_factory=list)


class QueueAdmin(Protocol):
    """Access to a queue for commands. Methods raise `log.LogError`. Only `replay` and `drop` change something."""

    def exists(self) -> bool:
        """Return whether the tables or the topic exist."""
        ...

    def status(self) -> QueueStatus:
        """Return the state of the queue."""
        ...

    def dead_letters(self) -> Iterator[DeadLetter]:
        """Yield the dead letters, oldest first."""
        ...

    def replay(self, letters: Sequence[DeadLetter]) -> None:
        """Publish requests again, at the end of the queue, and remove them from the dead letters."""
        ...

    def drop(self, letters: Sequence[DeadLetter]) -> None:
        """Remove dead letters for good."""
        ...

    def close(self) -> None:
        """Close connections."""
        ...
