"""System prompts: split, joined and filled in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gati.store import prompt_queries, prompt_versions
from gati.store.prompt_queries import TextSpan


def test_placeholders_with_a_value_are_filled_and_others_stay() -> None:
    pieces = list(prompt_queries.fill_placeholders("Hi {{ name }}, {{other}}!", {"name": "Ada"}))
    assert pieces == [TextSpan("", "Hi "), TextSpan("variable", "Ada"), TextSpan("", ", {{other}}!")]


def test_a_text_full_of_open_braces_is_filled_quickly() -> None:
    for text in ("{{" + " " * 300_000, "{{ " * 100_000, "{" * 300_000):
        assert "".join(span.text for span in prompt_queries.fill_placeholders(text, {"name": "Ada"})) == text


@given(
    st.lists(st.tuples(st.text(max_size=9), st.booleans()), max_size=5),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)
def test_joining_a_split_prompt_restores_it(parts: list[tuple[str, bool]], variables: dict[str, str]) -> None:
    prompt = {"externalPromptId": "p", "variables": variables}
    prompt["components"] = [{"content": text, "isDynamic": dynamic} for text, dynamic in parts]
    assert prompt_versions.join_prompt(*prompt_versions.split_prompt(prompt)) == prompt
    assert prompt_versions.join_prompt(*prompt_versions.split_prompt("text")) == "text"
