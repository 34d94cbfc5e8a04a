"""Functions that the pipeline's threads call for other parts of gati.

The lists belong to the process, not to a pipeline, so that a listener is called after another `init` and in a forked
child as well. A listener must not block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gati.pipeline.internal_errors import contain

if TYPE_CHECKING:
    from gati.events import Item

finished_items: list[Callable[[Sequence[Item]], None]] = []
"""Called with items that were assembled, before they are masked and encoded."""

changed_counts: list[Callable[[], None]] = []
"""Called after delivery counters have changed."""


def report_items(items: Sequence[Item]) -> None:
    """Call the listeners of `finished_items`."""
    for listener in finished_items:
        with contain("listener"):
            listener(items)


def report_counts() -> None:
    """Call the listeners of `changed_counts`."""
    for listener in changed_counts:
        with contain("listener"):
            listener()
