"""How values are written: precise, short, and never 0 for what is unknown."""

from __future__ import annotations

import pytest

from gati.studio import formatting


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "unknown"), (0, "$0"), (0.0000648, "$0.000065"), (0.03, "$0.03"), (0.5, "$0.5"), (1234.5, "$1,234.50"), (1e-9, "< $0.0000001")],
)  # fmt: skip
def test_a_small_cost_is_not_shown_as_zero(value: float | None, text: str) -> None:
    assert formatting.format_dollars(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "unknown"), (0.417, "0.42 ms"), (12, "12 ms"), (1480, "1.48 s"), (83_000, "1 min 23 s"), (7_500_000, "2 h 5 min")],
)  # fmt: skip
def test_a_duration_has_a_suitable_unit(value: float | None, text: str) -> None:
    assert formatting.format_duration_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "unknown"), (0, "0"), (1234, "1.23k"), (2_000_000, "2M"), (3e9, "3G"), (0.5, "0.5")]
)
def test_axis_labels_are_compact(value: float | None, text: str) -> None:
    assert formatting.format_compact(value) == text


def test_unknown_values_are_labelled() -> None:
    for write in (
        formatting.format_number,
        formatting.format_cost,
        formatting.format_duration,
        formatting.format_share,
    ):
        assert "unknown" in write(None)
        assert "0" in write(0)


def test_an_excerpt_marks_matches_and_escapes_the_text() -> None:
    text = formatting.search_excerpt("x " * 200 + "<b>Carrot</b> soup", "carrot")
    assert text.startswith("…")
    assert "&lt;b&gt;<mark>Carrot</mark>&lt;/b&gt; soup" in text
    assert formatting.search_excerpt("<i>no words</i>", "") == "&lt;i&gt;no words&lt;/i&gt;"


def test_a_long_text_is_folded_at_a_line_break() -> None:
    assert formatting.fold_text("short") == ("short", "")
    first, rest = formatting.fold_text("line\n" * 1000)
    assert first + rest == "line\n" * 1000
    assert first.endswith("line")


@pytest.mark.parametrize("text", ["\n" * 3000, "a\n" * 200, "\n" * 100 + "a"])
def test_a_text_of_many_short_lines_is_folded_after_some_of_them(text: str) -> None:
    first, rest = formatting.fold_text(text)
    assert first + rest == text
    assert 50 < first.count("\n") < 60


@pytest.mark.parametrize("text", ["a\n" * 60, "\n" * 70, "x" * 1_400, ""])
def test_a_rest_that_is_hardly_worth_it_is_not_folded(text: str) -> None:
    assert formatting.fold_text(text) == (text, "")
