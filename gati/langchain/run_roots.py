"""Remembers the root of each open run, for log records. Used only if the program has a `LogFilter`."""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple
from uuid import UUID

MIN_SIZE = 1024


class Root(NamedTuple):
    """A root run with its conversation; the conversation is empty if the program named none."""

    run_id: UUID
    conversation_id: str


class RunRoots:
    """The roots of open runs. Runs that have ended are removed now and then, so that their ends cost nothing.

    Args:
        open_runs: `UUID.int` of the runs that are open.
    """

    def __init__(self, open_runs: Container[int]) -> None:
        self._open_runs = open_runs
        self._roots: dict[int, Root] = {}
        self._limit = MIN_SIZE

    def add_root(self, run_id: UUID, conversation_id: str) -> None:
        """Remember a root run."""
        self._add(run_id, Root(run_id, conversation_id))

    def add_child(self, run_id: UUID, parent: UUID) -> None:
        """Remember a run below another one."""
        root = self._roots.get(parent.int)
        if root is not None:  # else it began before the filter was made
            self._add(run_id, root)

    def find(self, run_id: UUID) -> Root | None:
        """Return the root of a run; None if it is unknown."""
        return self._roots.get(run_id.int)

    def _add(self, run_id: UUID, root: Root) -> None:
        roots = self._roots
        roots[run_id.int] = root
        if len(roots) > self._limit:
            # In a new dict, because other threads read and write this one.
            self._roots = kept = {key: value for key, value in list(roots.items()) if key in self._open_runs}
            self._limit = max(MIN_SIZE, 2 * len(kept))
