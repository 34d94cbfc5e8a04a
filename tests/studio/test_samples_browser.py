"""Conversations of every kind in a real browser, sent over HTTP by several clients, in both stores."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gati.store import queries
from tests.servers import LocalServer, studio_server
from tests.store.bodies import body, turn
from tests.studio import pictures, samples
from tests.studio.browsers import BROWSER_MARKS, open_page

pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytestmark = BROWSER_MARKS
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def studio() -> Iterator[LocalServer]:
    """A studio with the samples."""
    with studio_server() as running:
        pictures.send(running, samples.every_kind(time.time_ns() // 1000))
        pictures.mark(running, "rich", "needs a human", "ü" * 50, verdict="bad", note="The table is right. " * 9)
        yield running


def test_every_page_fits_a_phone(browser: Any, studio: LocalServer) -> None:
    with open_page(browser, studio, viewport=PHONE) as page:
        for name, address in pictures.addresses(studio).items():
            if name != "missing":  # its status is an error in the console
                page.goto(address)
                assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], name


def test_axe_finds_no_accessibility_problem(browser: Any, studio: LocalServer) -> None:
    shown = pictures.addresses(studio)
    with open_page(browser, studio, color_scheme="dark") as page:
        for name in ("conversation-rich", "conversation-failed", "user", "message"):
            page.goto(shown[name])
            page.evaluate(AXE.read_text("utf-8"))
            found = page.evaluate("axe.run()")["violations"]
            assert [(fault["id"], [n["html"][:200] for n in fault["nodes"]]) for fault in found] == [], name


def test_the_title_is_above_the_marks_and_updates_keep_what_is_open_and_typed(
    browser: Any, studio: LocalServer
) -> None:
    with open_page(browser, studio) as page:
        page.goto("/conversations/rich")
        title, marks = (page.locator(name).bounding_box() for name in ("h1", "#marks"))
        assert title["y"] < marks["y"] < page.locator(".turn").first.bounding_box()["y"]
        page.locator("#properties > summary").click()
        page.locator("details.step > summary").nth(2).click()
        page.locator("details.prompt > summary").first.click()
        page.locator(".prompt-text").first.wait_for()
        page.keyboard.press("n")
        page.keyboard.type("Half a thou")
        studio.store.ingest(body("rich", *turn("later", "One more question?", when=10**10), productId=samples.PRODUCT))
        page.get_by_text("One more question?").first.wait_for()
        page.keyboard.type("ght")
        assert page.locator("#new-note").input_value() == "Half a thought"
        assert page.locator("#about dd", has_text="3").first.is_visible()
        assert page.locator("#properties").get_attribute("open") is not None
        assert page.locator(".prompt-text").first.is_visible()


@pytest.mark.parametrize("address", ["/conversations/run-of-a-gati-client", "/?q=tour+begin&agent=guide"])
def test_what_a_gati_client_sent_is_shown_like_messages(browser: Any, studio: LocalServer, address: str) -> None:
    with open_page(browser, studio) as page:
        page.goto(address)
        shown = page.locator("main").inner_text()
        assert "Where does the tour begin?" in shown
        assert "0 ms" not in shown.split()  # the client did not say how long the tool took


def test_a_store_in_postgresql_is_searched_marked_and_deleted_by_keyboard(browser: Any, team_database: str) -> None:
    from gati.team_store.store import PostgresStore

    store = PostgresStore(team_database)
    with studio_server(store=store) as studio, open_page(browser, studio) as page:
        pictures.send(studio, samples.every_kind(time.time_ns() // 1000))
        page.goto("/overview")
        assert page.locator(".tiles dd").first.inner_text() == "10"
        page.keyboard.press("/")
        page.get_by_role("searchbox").wait_for()
        page.keyboard.press("/")
        page.keyboard.type("自転車")
        page.wait_for_url("**q=**")
        page.locator(".conversations mark").first.wait_for()
        page.locator("a.row").first.press("Enter")
        page.locator(".hit").wait_for()
        page.keyboard.press("g")
        page.locator("#mark-good[aria-pressed=true]").wait_for()
        page.get_by_role("link", name="Delete").press("Enter")
        page.get_by_role("button", name="Delete for good").press("Enter")
        page.get_by_role("heading", name="Deleted").wait_for()
        assert queries.find_conversation(store, "japanese") is None
    store.close()
