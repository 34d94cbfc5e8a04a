"""Ids of turns and runs whose run id is not unique.

A program may pass one `run_id` to several calls. LangGraph Server gives each attempt of a run a run id of its own, but
they are attempts at one turn.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from gati.trace.run_tree import Trace

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from gati.trace.records import Scope
    from gati.trace.run_tree import Run

REMEMBERED_IDS = 20_000
"""Repeated ids whose number is remembered; the oldest is dropped first."""


class RepeatedIds:
    """Counts the runs of this process that have the same id."""

    def __init__(self) -> None:
        self._counts: OrderedDict[int, int] = OrderedDict()

    def rename(self, run_id: UUID) -> str:
        """Return the id of a further run with `run_id`. Example: the second run → ``"…:2"``."""
        number = self._counts[run_id.int] = self._counts.pop(run_id.int, 1) + 1
        if len(self._counts) > REMEMBERED_IDS:
            self._counts.popitem(last=False)
        return f"{run_id}:{number}"


def new_trace(root: Run, scope: Scope | None, offset: int) -> Trace:
    """Return the trace of a root run that has started. A further attempt is renamed: the second → ``"…:2"``."""
    attempt = _attempt_of(root.metadata)
    if attempt is not None:
        root.renamed = f"{attempt[0]}:{attempt[1]}"
    trace = Trace(root, scope, offset)
    if attempt is not None:
        trace.first_attempt = attempt[0]
    return trace


def _attempt_of(metadata: Mapping[str, Any]) -> tuple[str, int] | None:
    """Return LangGraph Server's id of the run and the number of the attempt, from the second attempt on; else None."""
    run_id, attempt = metadata.get("run_id"), metadata.get("run_attempt")
    if not isinstance(attempt, int) or isinstance(attempt, bool) or attempt < 2 or not run_id:
        return None
    return str(run_id), attempt
