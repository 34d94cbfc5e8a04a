"""Masks items in a thread of their own, so that a mask that hangs delays delivery for a limited time only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from gati.pipeline.internal_errors import report
from gati.pipeline.mask import Masking
from gati.pipeline.time_limit import CallTimeoutError, TimeLimit

if TYPE_CHECKING:
    from gati.events import Item
    from gati.settings import Mask

MASK_SECONDS = 5.0
"""Time limit of one call of the mask. Long enough for a mask that asks a model."""

MAX_SLOW_TEXTS = 1_000
"""Texts that are remembered because the mask did not return for them."""


class MaskedItem(NamedTuple):
    """A masked copy; None if the item cannot be masked and must not leave the process."""

    item: Item | None
    failures: int


class LimitedMask:
    """Applies the user's mask. A text for which it does not return in time is replaced by the marker."""

    def __init__(self, function: Mask) -> None:
        self._function = function
        self._limit = TimeLimit("mask")
        self._slow_texts: set[str] = set()

    def apply(self, items: Sequence[Item]) -> list[MaskedItem]:
        """Return a masked copy of each item."""
        masked: list[MaskedItem] = []
        while len(masked) < len(items):
            attempt = _Attempt(self._function, self._slow_texts, items[len(masked) :])
            try:
                self._limit.call(attempt.run, MASK_SECONDS, attempt.progress)
            except CallTimeoutError as error:
                report("mask", error)
                attempt.is_abandoned = True
                if attempt.text is None:  # not called, because the mask hangs again and again
                    # Another one, since a thread that starts very late may still run the first.
                    attempt = _Attempt(self._function, self._slow_texts, items[len(masked) :])
                    attempt.is_abandoned = True
                    attempt.run()
                else:
                    self._remember(attempt.text)
            masked += attempt.masked
        return masked[: len(items)]

    def _remember(self, text: str) -> None:
        if len(self._slow_texts) >= MAX_SLOW_TEXTS:
            self._slow_texts.clear()
        self._slow_texts.add(text)


class _Attempt:
    """Masks items until all are done or the mask hangs; then another attempt continues."""

    def __init__(self, function: Mask, slow_texts: set[str], items: Sequence[Item]) -> None:
        self._function = function
        self._slow_texts = slow_texts
        self._items = items
        self.masked: list[MaskedItem] = []
        self.calls = 0
        self.text: str | None = None
        """The text that is being masked."""
        self.is_abandoned = False
        """True once the caller waits no longer: the mask is not called any more."""

    def progress(self) -> int:
        """Return the number of calls of the mask so far."""
        return self.calls

    def run(self) -> None:
        masked = self.masked
        for item in self._items:
            masking = Masking(self._mask)
            try:
                result = MaskedItem(masking.item(item), masking.failures)
            except BaseException as error:  # noqa: BLE001 - an item that cannot be masked must not leave the process
                report("mask.item", error)
                result = MaskedItem(None, masking.failures)
            masked.append(result)

    def _mask(self, text: str, path: str, kind: str) -> str:
        if self.is_abandoned or text in self._slow_texts:
            raise CallTimeoutError("the mask did not return in time")
        self.text = text
        self.calls += 1
        return self._function(text, path, kind)
