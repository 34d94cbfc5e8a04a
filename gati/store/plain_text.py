"""Show recorded text as text: control characters, bidirectional marks and markup become visible. Pure."""

from __future__ import annotations

import re
from typing import Any

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 except tab and line feed, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional marks, embeddings, overrides and isolates
    "\u2028\u2029\ufeff\ufff9-\ufffb]"  # separators of lines and paragraphs, byte order mark, annotations
)

_MARKDOWN = re.compile(r"[\\`*_\[\]<>~|]|&(?=#?\w+;)")
_ACTIVE_MARKDOWN = re.compile(
    r"((?<!\\)(?:\\\\)*)"  # an odd number of backslashes already escapes what follows, and one more would undo that
    r"(<(?=[A-Za-z/!?]|[\w.!#$%&'*+/=?^`{|}~-]+@)"  # HTML and addresses: <b>, <http://…>, <1@example.com>
    r"|&(?=#?\w+;)|(?<=!)\["
    r"|(?<=\])[(:])"  # targets of links, and definitions of them: [x](…), [x]: …
)


def escape_controls(text: str) -> str:
    r"""Replace characters that a terminal or a page would obey by escapes: ESC becomes ``\x1b``.

    Tabs and line feeds stay.
    """
    return _HIDDEN.sub(_python_escape, text.replace("\r\n", "\n"))


def _python_escape(character: re.Match[str]) -> str:
    code = ord(character[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def escape_value(value: Any) -> Any:
    """Apply `escape_controls` to all strings of a JSON value, keys included."""
    if isinstance(value, str):
        return escape_controls(value)
    if isinstance(value, dict):
        return {escape_controls(str(key)): escape_value(item) for key, item in value.items()}
    return [escape_value(item) for item in value] if isinstance(value, list) else value


def escape_json(document: str) -> str:
    """Escape the characters in a JSON document that JSON allows but a terminal would obey. The document stays equal."""
    return _HIDDEN.sub(lambda character: f"\\u{ord(character[0]):04x}", document)


def markdown_line(text: str) -> str:
    r"""Return a text as one line of Markdown that shows it as it is: ``[a](b)`` → ``\[a\](b)``."""
    return _MARKDOWN.sub(r"\\\g<0>", " ".join(escape_controls(text).split()))


def markdown_text(text: str) -> str:
    """Return a text as Markdown whose HTML, links and images are shown instead of obeyed. Other formatting stays."""
    return _ACTIVE_MARKDOWN.sub(r"\1\\\2", escape_controls(text))


def markdown_code(text: str) -> str:
    """Return a text as a code span, whatever backticks it contains."""
    line = " ".join(escape_controls(text).split())
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if "`" in line else f"`{line}`"
