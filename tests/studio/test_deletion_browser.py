"""Deleting in a real browser, with the keyboard, on a phone's width."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gati.store import queries
from tests.servers import LocalServer, studio_server
from tests.store.bodies import body, turn
from tests.studio.browsers import BROWSER_MARKS, open_page

pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytestmark = BROWSER_MARKS


@pytest.fixture
def studio() -> Iterator[LocalServer]:
    with studio_server() as running:
        for number in range(3):
            running.store.ingest(body(f"c-{number}", *turn(f"r{number}", when=number * 90_000_000), user=f"u-{number}"))
        yield running


def left(studio: LocalServer) -> list[str | None]:
    return [row.external_id for row in queries.list_conversations(studio.store).conversations]


def test_a_conversation_is_deleted_with_the_keyboard_only(browser: Any, studio: LocalServer) -> None:
    with open_page(browser, studio, viewport={"width": 390, "height": 844}) as page:
        page.locator("#list a.row").last.focus()
        page.keyboard.press("Enter")
        page.get_by_role("link", name="Delete").focus()
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Delete for good").focus()
        page.keyboard.press("Enter")
        page.get_by_text("Deleted: the conversation").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert left(studio) == ["c-2", "c-1"]


def test_old_conversations_are_deleted_without_javascript(browser: Any, studio: LocalServer) -> None:
    with open_page(browser, studio, java_script_enabled=False, timezone_id="Asia/Tokyo") as page:
        page.goto("/overview")
        page.get_by_role("link", name="Delete old conversations").click()
        page.get_by_label("Before").fill("2025-11-21")
        page.get_by_role("button", name="Continue").click()
        page.get_by_role("button", name="Delete for good").click()
        page.get_by_text("Deleted: everything before 2025-11-21").wait_for()
        assert left(studio) == ["c-2", "c-1"]
