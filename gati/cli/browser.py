"""Open an address that contains a token in a web browser."""

from __future__ import annotations

import html
import tempfile
import webbrowser
from contextlib import ExitStack
from pathlib import Path


def open_privately(address: str, stack: ExitStack) -> None:
    """Open the address through a page in a private folder, which is deleted when the stack closes.

    Every user of the machine can read the command line of the browser, and would find the token there.
    """
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gati-studio-")))  # mode 0700
    page = folder / "open.html"
    page.write_text(
        '<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer"><title>gati studio</title>'
        f'<meta http-equiv="refresh" content="0; url={html.escape(address)}">'
        f'<a href="{html.escape(address)}">Open gati studio</a>',
        encoding="utf-8",
    )
    webbrowser.open(page.as_uri())
