"""Recorded text is shown as text, whatever characters it contains."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from gati.store.plain_text import (
    escape_controls,
    escape_json,
    escape_value,
    markdown_code,
    markdown_line,
    markdown_text,
)

OBEYED = [*(chr(n) for n in range(32) if chr(n) not in "\t\n"), *(chr(n) for n in range(0x7F, 0xA0)), "\u061c", "\u200e",
          "\u200f", *"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029\ufeff"]  # fmt: skip
TEXT = st.text(st.sampled_from([*OBEYED, *'ab \\"`*[](){}<>&!#\n', "é", "😀", "\u200d", "א"]), max_size=30)


@pytest.mark.parametrize("character", OBEYED)
def test_each_character_that_a_terminal_obeys_is_shown_as_an_escape(character: str) -> None:
    text = escape_controls(f"a{character}b")
    assert text.isprintable()
    assert f"{ord(character):02x}" in text


def test_other_text_stays() -> None:
    text = "Grüße, 你好, שלום, مرحبا 👩\u200d👩\u200d👧\n\tindented"
    assert escape_controls(text) == text
    assert escape_controls("a\r\nb") == "a\nb"


@given(st.recursive(TEXT, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)))
def test_json_keeps_its_value_and_nothing_is_obeyed(value: object) -> None:
    document = escape_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(document) == value
    for text in (document, json.dumps(escape_value(value), ensure_ascii=False)):
        assert not set(text) & set(OBEYED)


@given(TEXT)
def test_markdown_is_one_line_and_nothing_is_obeyed(text: str) -> None:
    for written in (markdown_line(text), markdown_code(text)):
        assert "\n" not in written
        assert not set(written) & set(OBEYED)
    assert not set(markdown_text(text)) & set(OBEYED)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("What is 2 + 2?", "What is 2 + 2?"),
        ("[a](http://evil)", r"\[a\](http://evil)"),
        ("<script>x</script>", r"\<script\>x\</script\>"),
        ("&lt;b&gt; & c", r"\&lt;b\&gt; & c"),
        ("**a** _b_", r"\*\*a\*\* \_b\_"),
    ],
)
def test_markup_in_a_line_is_shown(text: str, line: str) -> None:
    assert markdown_line(text) == line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("**bold** and 1 < 2", "**bold** and 1 < 2"),
        ("<img src=x onerror=alert(1)>", r"\<img src=x onerror=alert(1)>"),
        ("![x](http://evil/p.png)", r"!\[x]\(http://evil/p.png)"),
        ("[x](javascript:alert(1))", r"[x]\(javascript:alert(1))"),
        (r"\<b> and \\<b>", r"\<b> and \\\<b>"),
        (r"\&lt; and \\&lt;", r"\&lt; and \\\&lt;"),
        ("[x]: http://evil", r"[x]\: http://evil"),
        ("<1@example.com>, <2 and <=3", r"\<1@example.com>, <2 and <=3"),
        ("- [ ] **a**: `b`", "- [ ] **a**: `b`"),
    ],
)
def test_active_markup_in_a_text_is_shown(text: str, shown: str) -> None:
    assert markdown_text(text) == shown


def test_a_code_span_cannot_be_left() -> None:
    assert markdown_code("calc") == "`calc`"
    assert markdown_code("a``b") == "``` a``b ```"


HOSTILE = st.lists(
    st.sampled_from([
        *"\\\\\\`*_~|#>-+=[]()<>!&:;/@ \t\n\n", "\r", "\x1b", "a", "1.", "<img src=x onerror=alert(1)>", "<script>", "</b>", "<!--",
        "-->", "<![CDATA[", "<?x?>", "<http://evil.example>", "<1@evil.example>", "<=@evil.example>", "[a]", "![a]", "(http://evil.example)",
        "[a]: http://evil.example", "[a]:\n<http://evil.example>", "\n\n[a]: x\n\n", "&lt;b&gt;", "&#60;b>", "```", "~~~", "    ",
    ]),
    max_size=12,
).map("".join)  # fmt: skip


def live_tokens(markdown: str) -> list[Token]:
    tokens = MarkdownIt("commonmark", {"html": True}).parse(markdown)
    tokens += [child for token in tokens for child in token.children or []]
    return [token for token in tokens if token.type.startswith(("html", "link", "image"))]


@given(HOSTILE)
def test_no_recorded_text_becomes_live_in_markdown(text: str) -> None:
    shown = markdown_text(text)
    quoted = "\n".join(f"> {line}" for line in shown.split("\n"))
    for markdown in (shown, quoted, f"# {markdown_line(text)}", f"- {markdown_code(text)} · {markdown_line(text)}"):
        assert not live_tokens(markdown)


def test_the_control_of_the_tests_finds_live_markup() -> None:
    for text in ("<b>", "a\n\n<div>\n", "[a](x)", "![a](x)", "[a]\n\n[a]: x", "<1@evil.example>"):
        assert live_tokens(text)
