"""Differences between two texts."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gati.store.text_diff import DiffLine, diff_texts

LINES = st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), max_size=12), max_size=12)


def test_a_diff_marks_the_words_that_changed() -> None:
    old, new = diff_texts("You are kind.", "You are strict.")
    assert [span.text for span in old.spans if span.kind == "old"] == ["kind"]
    assert [span.text for span in new.spans if span.kind == "new"] == ["strict"]


def test_long_equal_stretches_become_a_gap() -> None:
    text = "\n".join(f"line {number}" for number in range(40))
    lines = diff_texts(text, text.replace("line 20", "line twenty"))
    assert [line.kind for line in lines] == ["gap", *["same"] * 3, "old", "new", *["same"] * 3, "gap"]


@given(LINES, LINES)
def test_a_diff_without_gaps_contains_both_texts(old: list[str], new: list[str]) -> None:
    lines = diff_texts("\n".join(old), "\n".join(new), context=1000)
    before, after = "\n".join(old).splitlines(), "\n".join(new).splitlines()
    if before != after:
        assert ["".join(p.text for p in line.spans) for line in lines if line.kind in ("same", "old")] == before
        assert ["".join(p.text for p in line.spans) for line in lines if line.kind in ("same", "new")] == after


def texts_of(lines: list[DiffLine], *kinds: str) -> list[str]:
    return ["".join(span.text for span in line.spans) for line in lines if line.kind in kinds]


def noise(words: list[str], count: int, seed: int) -> list[str]:
    return random.Random(seed).choices(words, k=count)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n" * 20_000 + "a", "b" + "\n" * 20_001),
        ("\n".join(noise(["a", "b"], 3000, 1)), "\n".join(noise(["a", "b"], 3000, 2))),
        (" ".join(noise(["a", "b"], 100_000, 1)), " ".join(noise(["a", "b"], 100_000, 2))),
        ("\n".join(" ".join(noise(["a", "b"], 100, n)) for n in range(3000)),
         "\n".join(" ".join(noise(["a", "b"], 100, -n - 1)) for n in range(3000))),
    ],
    ids=["blank lines", "repeated lines", "one long line", "many long lines"],
)  # fmt: skip
def test_texts_that_would_take_hours_are_compared_roughly(old: str, new: str) -> None:
    assert texts_of(diff_texts(old, new), "old", "new")


def test_a_long_prompt_with_one_changed_word_is_compared_exactly() -> None:
    lines = [f"{number}: be kind.\n" for number in range(20_000)]
    old, new = "\n".join(lines), "\n".join([*lines[:500], "500: be strict.", *lines[501:]])
    found = diff_texts(old, new)
    assert (texts_of(found, "old")[0], texts_of(found, "new")) == ("500: be kind.", ["500: be strict."])


def test_a_difference_has_a_bounded_number_of_lines() -> None:
    found = diff_texts("\n".join(map(str, range(30_000))), "x")
    assert len(found) <= 4001
    assert found[-1].kind == "gap"
