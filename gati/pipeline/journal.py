"""The interface of the storage for an outbox's queued requests until they are settled: the files of a spool, or the log of a broker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from gati.exporters.base import Request

Lines: TypeAlias = "list[tuple[Request, bytes]]"
"""Requests, each with its line as packed by `codec.pack`."""


class JournalEntry(Protocol):
    """Requests that are taken over, read and removed together."""

    @property
    def items(self) -> int:
        """Number of messages."""
        ...

    @property
    def size(self) -> int:
        """Size in bytes."""
        ...


class Journal(Protocol):
    """Holds queued requests. Methods may block, so they are called without the outbox's lock.

    An entry is an object that `adopt` returned. Every entry ends with exactly one call of `remove` that returns True, or
    of `withdraw`, or with `close`.
    """

    def adopt(self, *, everything: bool = False) -> Sequence[Any]:
        """Take over entries that this process has to deliver, in order, each a `JournalEntry`.

        Args:
            everything: include those of all other accounts of this destination.
        """
        ...

    def read(self, entry: Any) -> Lines | None:
        """Return the readable requests of an entry; None if it is gone.

        Raises:
            OSError: the entry cannot be read now.
        """
        ...

    def remove(self, entry: Any) -> bool:
        """Remove an entry whose requests were delivered, set aside or dropped; return False to be called again."""
        ...

    def set_aside(self, line: bytes, reason: str, entry: Any) -> bool:
        """Keep a request that cannot be delivered, with the reason; return False if that is not possible now.

        Args:
            line: the request, as packed by `codec.pack`.
            reason: why, without content.
            entry: the entry that it is part of; None if it was in memory only.
        """
        ...

    def withdraw(self, entry: Any) -> None:
        """Leave an entry to others. It was not delivered, or only in part."""
        ...

    def close(self) -> None:
        """Leave all entries to others."""
        ...
