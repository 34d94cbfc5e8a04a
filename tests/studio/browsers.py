"""A real browser for tests of the studio: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.servers import LocalServer

CHROMIUM = os.environ.get("GATI_TEST_CHROMIUM") or shutil.which("chromium")
# Without a sandbox, since tests run as root in containers; without what Chromium asks of the network by itself.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip

BROWSER_MARKS = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian's package chromium)"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
"""Marks of modules whose tests use the browser."""


@contextmanager
def open_page(browser: Any, studio: LocalServer, **options: Any) -> Iterator[Any]:
    """Open a page that has the studio's token. Every error in it, and every request to elsewhere, fails the test."""
    context = browser.new_context(base_url=studio.address, **options)
    opened = context.new_page()
    opened.set_default_timeout(20_000)
    trouble: list[str] = []

    def on_request(request: Any) -> None:
        if not request.url.startswith(studio.address):
            trouble.append(request.url)

    opened.on("pageerror", lambda error: trouble.append(str(error)))
    opened.on("console", lambda message: trouble.append(message.text) if message.type in ("error", "warning") else None)
    opened.on("request", on_request)
    opened.goto(f"/?token={studio.api_key}")
    yield opened
    context.close()
    assert trouble == []
