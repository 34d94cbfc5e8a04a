"""Markdown of chat messages as safe HTML."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gati.studio.rendering import LANGUAGES, render_text

TAG = re.compile(r"<(/?)([a-z0-9]+)([^>]*)>")
KNOWN = {
    "p", "br", "hr", "strong", "em", "s", "blockquote", "ul", "ol", "li", "code", "pre", "span", "div",
    "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip


def html(text: str) -> str:
    shown = render_text(text)
    return (shown.visible or "") + shown.rest


def test_a_text_without_formatting_is_left_as_it_is():
    for text in ("", "Hello!", "one\n\ntwo  spaces", "1 < 2 and 3 > 2", "a_b c-d"):
        assert render_text(text).visible is None, text


def test_formatting_lists_tables_and_code_are_rendered():
    assert html("**a** *b* ~~c~~ `d`") == "<p><strong>a</strong> <em>b</em> <s>c</s> <code>d</code></p>\n"
    assert '<ol start="3">' in html("3. x\n4. y")
    table = html("|a|b|\n|:-|-:|\n|1|2|")
    assert '<th class="right">b</th>' in table
    assert '<td class="left">1</td>' in table
    assert "style" not in table


def test_code_is_highlighted_without_inline_styles():
    code = html("```python\ndef f(): return 'x'\n```")
    assert '<span class="hl-k">def</span>' in code
    assert "style" not in code
    assert html("```nonsense-language\n<b>\n```") == '<pre tabindex="0"><code>&lt;b&gt;\n</code></pre>\n'


def test_every_language_with_colours_has_a_lexer():
    for language in LANGUAGES:
        html(f"```{language}\nx = 1\n```")


@pytest.mark.parametrize("code", [
    "a." * 2_000, "x = 1\n" + "\n" * 3_000, "x = 1\n" + "  \n" * 3_000, "x = 1\n" * 3_000, "a" * 300,
    ("word " * 30 + "\n") * 20,
])  # fmt: skip
def test_code_that_would_take_a_lexer_long_has_no_colours(code: str):
    assert "hl-" not in html(f"```python\n{code}\n```")


def test_code_of_a_rare_language_has_no_colours():
    assert "hl-" not in html("```adl\nx = 1\n```")
    assert "hl-" in html("```Python\nx = 1\n\n\n\ny = 2\n```")


def test_headings_are_no_headings_of_the_page():
    assert html("# A\n## B\n##### C") == '<p class="h1">A</p>\n<p class="h2">B</p>\n<p class="h5">C</p>\n'


def test_links_are_inert_and_show_their_address():
    assert html("[the *portal*](https://x.org/p?a=1&b=2)") == (
        '<p><span class="link">the <em>portal</em></span> <span class="address">https://x.org/p?a=1&amp;b=2</span></p>\n'
    )
    assert html("<https://x.org>") == '<p><span class="link">https://x.org</span></p>\n'
    assert len(html(f"[x](https://x.org/{'a' * 900})")) < 250


def test_pictures_are_labels():
    shown = html("![A cat](https://x.org/cat.png)")
    assert "<img" not in shown
    assert "picture" in shown
    assert "A cat" in shown
    assert "https://x.org/cat.png" in shown


@pytest.mark.parametrize("text", [
    "<script>alert(1)</script>*x*", "*x*<img src=x onerror=alert(1)>", "[x](javascript:alert(1)) *y*",
    "[x](data:text/html;base64,PHNjcmlwdD4=) *y*", "![x](javascript:alert(1)) *y*", "`<svg onload=alert(1)>`",
    "```<img src=x onerror=alert(1)>\nx\n```", "[a](<x\" onmouseover=\"alert(1)>)", "|<b onclick=x>|\n|-|\n|<i>|",
    "<div style=\"position:fixed\">*x*</div>", "*x*&lt;script&gt;", "[x]: javascript:alert(1)\n[x] *y*",
])  # fmt: skip
def test_no_markup_of_a_text_becomes_active(text: str):
    check_is_inert(html(text))


@given(st.text(st.sampled_from("*_`[]()<>!|-#&;:\"'= \n\tax1./") | st.characters(), max_size=200))
def test_any_text_becomes_inert_html(text: str):
    check_is_inert(html(text))


def check_is_inert(shown: str) -> None:
    for _, tag, attributes in TAG.findall(shown):
        assert tag in KNOWN, shown
        assert re.fullmatch(
            r'(?: (?:class="[a-z0-9 -]+"|start="-?\d+"|tabindex="0"|role="group"|aria-label="Table"))*', attributes
        ), shown
    assert not re.search(r"<(?!/?[a-z0-9]+[ >])", shown), shown


def test_a_long_text_is_folded_between_blocks():
    shown = render_text("\n\n".join(f"**{n}** " + "words " * 40 for n in range(20)))
    assert shown.visible is not None
    assert shown.visible.endswith("</p>\n")
    assert shown.rest.startswith("<p>")
    assert shown.rest_length > 1000


def test_a_very_long_text_is_not_parsed():
    assert render_text("[" * 100_000).visible is None
