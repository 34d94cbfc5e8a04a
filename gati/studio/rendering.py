"""Renders the Markdown of chat messages as safe HTML: no scripts, no working links, no images. Pure.

markdown-it-py parses the text without HTML, and nh3 removes every element and attribute that is not listed here.
"""

from __future__ import annotations

import functools
import re
from typing import Any, NamedTuple

import nh3
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.token import Token
from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

_LONGEST_RENDERED = 20_000
"""Characters of a text. Longer ones are shown as they are, since a page shows many and has to stay fast."""

_LONGEST_HIGHLIGHTED = 5_000
"""Characters of a code block. Longer ones have no colours."""

_LONGEST_CODE_LINE = 200
"""Characters of a line of code. A block with a longer one has no colours: the time of many lexers grows with its square."""

_BLANK_LINES = re.compile(r"\n(?:[ \t\r\f\v]{0,200}\n){6}")
_PUNCTUATION = re.compile(r"[^\w\s]")
_LONGEST_PROSE = 600
"""Six blank lines in a code block, or so many characters without punctuation, have the same effect."""

LANGUAGES = frozenset((
    "bash", "c", "c#", "c++", "cmake", "console", "cpp", "cs", "csharp", "css", "diff", "docker", "dockerfile", "elixir",
    "go", "golang", "graphql", "groovy", "haskell", "hs", "html", "http", "ini", "java", "javascript", "js", "json", "jsx",
    "julia", "kotlin", "lua", "makefile", "markdown", "md", "matlab", "nginx", "objective-c", "perl", "php", "powershell",
    "properties", "proto", "protobuf", "ps1", "py", "pycon", "python", "r", "rb", "rs", "ruby", "rust", "scala", "scss",
    "sh", "shell", "sql", "swift", "terraform", "toml", "ts", "tsx", "typescript", "vb.net", "xml", "yaml", "yml", "zsh",
))  # fmt: skip
"""Languages with colours, as code blocks name them. Hostile texts were tried with their lexers; Pygments has 500 others."""

_FOLD_AFTER = 1200
"""Characters of a text that are visible before the rest is folded."""

_ADDRESS_LENGTH = 60
"""Characters of a link's address that are shown. The text as received has all of it."""

_TAGS = {
    "p", "br", "hr", "strong", "em", "s", "blockquote", "ul", "ol", "li", "code", "pre", "span",
    "div", "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip
_MARKDOWN = re.compile(r"[\\`*_\[\]<>~|&]|^ {0,3}\t|^ {4}|^[ \t]*(?:[-+#]|\d+[.)]\s|={2,})", re.MULTILINE)
"""Found in every text with formatting, and in few others. Spares most texts the parser."""

_ATTRIBUTES = {
    "ol": {"start"}, "p": {"class"}, "span": {"class"}, "th": {"class"}, "td": {"class"},
    "div": {"class", "tabindex", "role", "aria-label"},
}  # fmt: skip
_SCROLLABLE = 'tabindex="0" role="group" aria-label="Table"'
"""Attributes of an element that can be scrolled, so that this works by keyboard."""

_PLAIN_TOKENS = {"paragraph_open", "paragraph_close", "inline", "text", "softbreak", "hardbreak"}


class RenderedText(NamedTuple):
    """A chat message for a page.

    Attributes:
        visible: The beginning as HTML; None if the text has no formatting and is to be shown as it is.
        rest: The folded rest as HTML, empty for short texts.
        rest_length: Characters of the folded rest.
    """

    visible: Markup | None
    rest: Markup
    rest_length: int


NOT_FORMATTED = RenderedText(None, Markup(""), 0)


@functools.lru_cache(maxsize=1024)
def render_text(text: str) -> RenderedText:
    """Render a text as Markdown. Texts without formatting, and very long ones, are left as they are."""
    if len(text) > _LONGEST_RENDERED or not _MARKDOWN.search(text):
        return NOT_FORMATTED
    parser = _parser()
    env: dict[str, Any] = {}
    tokens = parser.parse(text, env)
    if not _has_formatting(tokens):
        return NOT_FORMATTED
    cut, rest_length = _fold(tokens, text)
    return RenderedText(_to_html(parser, tokens[:cut], env), _to_html(parser, tokens[cut:], env), rest_length)


@functools.cache
def _parser() -> MarkdownIt:
    """Return the parser: CommonMark with tables and strikethrough. Line breaks are kept, as chat programs do."""
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True, "highlight": _highlight})
    parser.enable(["table", "strikethrough"])
    parser.add_render_rule("link_open", _link_open)
    parser.add_render_rule("link_close", _link_close)
    parser.add_render_rule("image", _image)
    parser.add_render_rule("table_open", lambda *_: f'<div class="table" {_SCROLLABLE}><table>')
    parser.add_render_rule("table_close", lambda *_: "</table></div>")
    parser.add_render_rule("th_open", _cell_open)
    parser.add_render_rule("td_open", _cell_open)
    # Not as headings: a text may begin with any level, and the page has headings of its own.
    parser.add_render_rule("heading_open", lambda self, tokens, i, *_: f'<p class="{tokens[i].tag}">')
    parser.add_render_rule("heading_close", lambda *_: "</p>\n")
    return parser


def _to_html(parser: MarkdownIt, tokens: list[Token], env: dict[str, Any]) -> Markup:
    html = nh3.clean(
        parser.renderer.render(tokens, parser.options, env),
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        set_tag_attribute_values={"pre": {"tabindex": "0"}},
        link_rel=None,
        url_schemes=set(),
    )
    return Markup(html)  # noqa: S704  # sanitised in the line above


def _has_formatting(tokens: list[Token]) -> bool:
    return any(
        token.type not in _PLAIN_TOKENS or any(child.type not in _PLAIN_TOKENS for child in token.children or ())
        for token in tokens
    )


def _fold(tokens: list[Token], text: str) -> tuple[int, int]:
    """Return the index of the first token to fold and the number of characters from there. Blocks stay whole."""
    if len(text) <= _FOLD_AFTER * 1.2:
        return len(tokens), 0
    lines = text.split("\n")
    for index, token in enumerate(tokens):
        if token.level or token.nesting < 0 or token.map is None or not token.map[0]:
            continue
        begin = sum(len(line) + 1 for line in lines[: token.map[0]])
        if begin >= _FOLD_AFTER and len(text) - begin > _FOLD_AFTER * 0.2:
            return index, len(text) - begin
    return len(tokens), 0


def _cell_open(self: Any, tokens: list[Token], index: int, options: Any, env: Any) -> str:
    """Align a table's cell by its class: the pages' policy blocks style attributes."""
    side = str(tokens[index].attrs.get("style", "")).removeprefix("text-align:")
    return f'<{tokens[index].tag} class="{side}">' if side else f"<{tokens[index].tag}>"


def _highlight(code: str, language: str, _: str) -> str:
    """Return the code as HTML, or "" for the default."""
    if language.lower() not in LANGUAGES or not _is_harmless(code):
        return ""
    name = "yaml" if language.lower() == "yml" else language  # not every version of Pygments knows `yml`
    lexer = get_lexer_by_name(name, stripnl=False)
    return str(highlight(code, lexer, HtmlFormatter(nowrap=True, classprefix="hl-")))


def _is_harmless(code: str) -> bool:
    """Return False for text that is hardly code and would keep a lexer busy."""
    return (
        len(code) <= _LONGEST_HIGHLIGHTED
        and _BLANK_LINES.search(code) is None
        and max(map(len, code.split("\n"))) <= _LONGEST_CODE_LINE
        and max(map(len, _PUNCTUATION.split(code))) <= _LONGEST_PROSE
    )


def _link_open(self: Any, tokens: list[Token], index: int, options: Any, env: Any) -> str:
    return '<span class="link">'


def _link_close(self: Any, tokens: list[Token], index: int, options: Any, env: Any) -> str:
    """Close a link, and show its address unless the text is the address."""
    depth, start = 1, index
    while depth and start:
        start -= 1
        depth += {"link_close": 1, "link_open": -1}.get(tokens[start].type, 0)
    address = str(tokens[start].attrs.get("href", ""))
    text = "".join(token.content for token in tokens[start:index])
    if not address or address.removeprefix("mailto:") == text:
        return "</span>"
    return f'</span> <span class="address">{escapeHtml(_shorten(address))}</span>'


def _image(self: Any, tokens: list[Token], index: int, options: Any, env: Any) -> str:
    """Replace a picture by a label, since showing it would be a request to another host."""
    address = str(tokens[index].attrs.get("src", ""))
    name = tokens[index].content or "without a name"
    return (
        f'<span class="attachment"><span class="kind">picture</span> {escapeHtml(name)}'
        f' <span class="address">{escapeHtml(_shorten(address))}</span></span>'
    )


def _shorten(address: str) -> str:
    return address if len(address) <= _ADDRESS_LENGTH else address[: _ADDRESS_LENGTH - 1] + "…"
