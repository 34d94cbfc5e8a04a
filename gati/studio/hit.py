"""A search hit on the page of its conversation: which turns to load, what to open, and what to mark. Pure, except `end_of_hits_page`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from gati.store import queries

if TYPE_CHECKING:
    from gati.store.store import Store
    from gati.store.turn_view import StepView, TurnView


class OpenedHit(NamedTuple):
    """The steps that a page opens and the words that it marks.

    Attributes:
        element: Id of the element that shows the message; empty without a hit.
        words: What was searched for.
        turn: Id of the turn that contains the message.
        steps: Row ids of the steps to open: the one that shows the message, and those above it.
    """

    element: str = ""
    words: str = ""
    turn: str = ""
    steps: frozenset[int] = frozenset()


def end_of_hits_page(store: Store, conversation: int, query: Mapping[str, str]) -> tuple[int, int] | None:
    """Return where the page ends that shows the message with the row id in ``at``; None for the last page."""
    row_id = _row_id(query)
    return None if row_id is None else queries.end_of_page(store, conversation, row_id)


def locate(turns: list[TurnView], query: Mapping[str, str]) -> OpenedHit:
    """Return where the page shows the message with the row id in ``at``."""
    row_id, words = _row_id(query), query.get("q", "")
    if row_id is None:
        return OpenedHit(words=words)
    for turn in turns:
        if any(message.id == row_id for message in [*turn.inputs, *turn.answers]):
            return OpenedHit(f"m-{row_id}", words, turn.id)
        for step in turn.all_steps:
            if row_id in (step.message.id, step.result.id if step.result else None):
                return OpenedHit(f"s-{step.message.id}", words, turn.id, frozenset(_path_to(turn, step)))
        if row_id in (edge.id for edge in (turn.start, turn.end) if edge is not None):
            return OpenedHit(f"w-{(turn.start or turn.steps[0].message).id}", words, turn.id)
    return OpenedHit(words=words)


def _path_to(turn: TurnView, step: StepView) -> Iterator[int]:
    by_key = {candidate.message.key: candidate for candidate in turn.all_steps}
    seen: set[str] = set()
    current: StepView | None = step
    while current is not None and current.message.key not in seen:
        seen.add(current.message.key)
        yield current.message.id
        current = by_key.get(current.message.body.get("parentExternalMessageId") or "")


def _row_id(query: Mapping[str, str]) -> int | None:
    text = query.get("at", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None
