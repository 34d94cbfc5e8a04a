"""System prompts: filled in, compared."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gati.store import prompt_queries, prompt_versions
from gati.store.prompt_queries import TextSpan

LINES = st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), max_size=12), max_size=12)


def test_placeholders_with_a_value_are_filled_and_others_stay() -> None:
    pieces = list(prompt_queries.fill_placeholders("Hi {{ name }}, {{other}}!", {"name": "Ada"}))
    assert pieces == [TextSpan("", "Hi "), TextSpan("variable", "Ada"), TextSpan("", ", {{other}}!")]


def test_a_diff_marks_the_words_that_changed() -> None:
    old, new = prompt_queries.diff_texts("You are kind.", "You are strict.")
    assert [span.text for span in old.spans if span.kind == "old"] == ["kind"]
    assert [span.text for span in new.spans if span.kind == "new"] == ["strict"]


def test_long_equal_stretches_become_a_gap() -> None:
    text = "\n".join(f"line {number}" for number in range(40))
    lines = prompt_queries.diff_texts(text, text.replace("line 20", "line twenty"))
    assert [line.kind for line in lines] == ["gap", *["same"] * 3, "old", "new", *["same"] * 3, "gap"]


@given(LINES, LINES)
def test_a_diff_without_gaps_contains_both_texts(old: list[str], new: list[str]) -> None:
    lines = prompt_queries.diff_texts("\n".join(old), "\n".join(new), context=1000)
    before, after = "\n".join(old).splitlines(), "\n".join(new).splitlines()
    if before != after:
        assert ["".join(p.text for p in line.spans) for line in lines if line.kind in ("same", "old")] == before
        assert ["".join(p.text for p in line.spans) for line in lines if line.kind in ("same", "new")] == after


@given(
    st.lists(st.tuples(st.text(max_size=9), st.booleans()), max_size=5),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)
def test_joining_a_split_prompt_restores_it(parts: list[tuple[str, bool]], variables: dict[str, str]) -> None:
    prompt = {"externalPromptId": "p", "variables": variables}
    prompt["components"] = [{"content": text, "isDynamic": dynamic} for text, dynamic in parts]
    assert prompt_versions.join_prompt(*prompt_versions.split_prompt(prompt)) == prompt
    assert prompt_versions.join_prompt(*prompt_versions.split_prompt("text")) == "text"
