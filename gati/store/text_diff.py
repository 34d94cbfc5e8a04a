"""Differences between two texts by lines and words, in bounded time. Pure."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

_WORDS = re.compile(r"\s+|\w+|[^\w\s]")

_MAX_PAIRS = 50_000
"""Pairs of equal elements that one comparison may have. Its time grows with them."""

_ALL_PAIRS = 400_000
"""Pairs of equal elements in all comparisons of two texts."""

_MAX_LINES = 4000
"""Lines of a difference that are returned."""


class DiffSpan(NamedTuple):
    """A span of a line."""

    kind: Literal["same", "old", "new"]
    text: str


class DiffLine(NamedTuple):
    """A line of a difference. Its spans mark the words that differ. A "gap" stands for lines that are left out."""

    kind: Literal["same", "old", "new", "gap"]
    spans: list[DiffSpan]


Opcode = tuple[str, int, int, int, int]


class _Comparison:
    """Compares sequences of one text with those of another. Sequences that would take too long differ as a whole."""

    def __init__(self) -> None:
        self._pairs_left = _ALL_PAIRS

    def opcodes(self, old: Sequence[str], new: Sequence[str]) -> list[Opcode]:
        """Return what `difflib.SequenceMatcher.get_opcodes` returns."""
        start = 0
        while start < min(len(old), len(new)) and old[start] == new[start]:
            start += 1
        end = 0
        while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
            end += 1
        middle = self._compare_middle(old[start : len(old) - end], new[start : len(new) - end])
        codes = [("equal", 0, start, 0, start)] if start else []
        codes += [(kind, i1 + start, i2 + start, j1 + start, j2 + start) for kind, i1, i2, j1, j2 in middle]
        if end:
            codes.append(("equal", len(old) - end, len(old), len(new) - end, len(new)))
        return codes

    def _compare_middle(self, old: Sequence[str], new: Sequence[str]) -> list[Opcode]:
        counts = Counter(new)
        pairs = sum(count * counts[element] for element, count in Counter(old).items())
        if pairs > min(_MAX_PAIRS, self._pairs_left):
            return [("replace", 0, len(old), 0, len(new))]
        self._pairs_left -= pairs
        return [*difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()]


def diff_texts(old: str, new: str, context: int = 3) -> list[DiffLine]:
    """Compare by lines, and by words within changed lines. Long equal stretches become a gap.

    Texts of any size take less than a second or so: what would take longer is returned as replaced.
    """
    before, after = old.splitlines(), new.splitlines()
    comparison = _Comparison()
    lines: list[DiffLine] = []
    codes = comparison.opcodes(before, after)
    for number, (kind, i1, i2, j1, j2) in enumerate(codes):
        if kind == "equal":
            lines += _equal_lines(before[i1:i2], context if number else 0, context if number < len(codes) - 1 else 0)
        else:
            lines += _changed_lines(comparison, before[i1:i2], after[j1:j2])
        if len(lines) > _MAX_LINES:
            return [*lines[:_MAX_LINES], DiffLine("gap", [])]
    return lines if any(line.kind in ("old", "new") for line in lines) else []


def _equal_lines(lines: list[str], first: int, last: int) -> list[DiffLine]:
    """Return the first and the last lines, and a gap between them."""
    same = [DiffLine("same", [DiffSpan("same", line)]) for line in lines]
    if len(lines) <= first + last:
        return same
    return [*same[:first], DiffLine("gap", []), *same[len(same) - last :]]


def _changed_lines(comparison: _Comparison, old: list[str], new: list[str]) -> list[DiffLine]:
    if len(old) != len(new):
        return [
            *(DiffLine("old", [DiffSpan("old", line)]) for line in old),
            *(DiffLine("new", [DiffSpan("new", line)]) for line in new),
        ]
    removed: list[DiffLine] = []
    added: list[DiffLine] = []
    for before, after in zip(old, new, strict=True):
        a, b = _WORDS.findall(before), _WORDS.findall(after)
        left: list[DiffSpan] = []
        right: list[DiffSpan] = []
        for kind, i1, i2, j1, j2 in comparison.opcodes(a, b):
            left.append(DiffSpan("same" if kind == "equal" else "old", "".join(a[i1:i2])))
            right.append(DiffSpan("same" if kind == "equal" else "new", "".join(b[j1:j2])))
        removed.append(DiffLine("old", [span for span in left if span.text]))
        added.append(DiffLine("new", [span for span in right if span.text]))
    return removed + added
