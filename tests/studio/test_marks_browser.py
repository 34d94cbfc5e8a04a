"""Marks and shared conversations in a real browser: by keyboard, while others write, and on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gati.store import marks, queries
from gati.store.marks import Marks
from tests.servers import LocalServer, studio_server
from tests.store.bodies import body, said, turn
from tests.studio.browsers import BROWSER_MARKS, open_page

pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytestmark = BROWSER_MARKS
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
PNG = "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAIAAACQkWg2AAAAFklEQVR4nGNgaPhPGhrVMKph+GoAAHEMf5F1Ed2zAAAAAElFTkSuQmCC"


@pytest.fixture
def studio() -> Iterator[LocalServer]:
    with studio_server() as running:
        running.store.ingest(body("maths", *turn("r")))
        running.store.ingest(body("soup", said("s", "How do I cook carrot soup?", 100), user="grace"))
        yield running


def row_of(studio: LocalServer, external: str) -> int:
    found = queries.find_conversation(studio.store, external)
    assert found is not None
    return found.id


def marks_in(studio: LocalServer, external: str = "maths") -> Marks:
    return marks.marks_of(studio.store, row_of(studio, external))


def test_a_conversation_is_marked_by_keyboard_alone(browser: Any, studio: LocalServer) -> None:
    with open_page(browser, studio) as page:
        page.goto("/conversations/maths")
        page.locator("#reader").focus()
        page.keyboard.type("Ada Lovelace")  # the name goes along with the first mark
        page.keyboard.press("Escape")
        page.keyboard.press("g")
        page.locator("#mark-good[aria-pressed=true]").wait_for()
        page.get_by_text("You are Ada Lovelace").wait_for()
        page.keyboard.press("4")
        page.locator("#rate-4[aria-pressed=true]").wait_for()
        page.keyboard.press("t")
        page.keyboard.type("gb needs review?")
        page.keyboard.press("Enter")
        page.locator("#marks .chip.tag").wait_for()
        page.keyboard.press("Escape")
        page.keyboard.press("n")
        page.keyboard.type("The calculator is not needed.")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.locator(".notes li").wait_for()
        made = marks_in(studio)
        assert made.verdict is not None
        every = (made.verdict, *made.ratings, *made.tags, *made.notes)
        assert [mark.value for mark in every] == ["good", "4", "gb needs review?", "The calculator is not needed."]
        assert {mark.author for mark in every} == {"Ada Lovelace"}
        assert page.locator("#add-note").get_attribute("open") is None
        page.locator("#main").focus()
        page.keyboard.press("g")
        page.locator("#mark-good[aria-pressed=false]").wait_for()
        assert marks_in(studio).verdict is None


def test_a_conversation_in_the_list_is_marked_by_keyboard(browser: Any, studio: LocalServer) -> None:
    with open_page(browser, studio) as page:
        page.goto("/")
        page.keyboard.press("j")
        page.keyboard.press("b")
        page.get_by_text("marked bad").wait_for()
        page.keyboard.press("2")
        page.get_by_text("rated 2 of 5").wait_for()
        focused = page.evaluate("document.activeElement.dataset.uid")
        marked = queries.find_conversation(studio.store, focused)
        assert marked is not None
        assert marks.marks_of(studio.store, marked.id).verdict is not None
        page.goto("/?mark=bad")
        assert page.locator(".conversations li").count() == 1


def test_the_keys_are_listed(browser: Any, studio: LocalServer) -> None:
    with open_page(browser, studio) as page:
        page.get_by_role("button", name="Keys").click()
        page.get_by_role("dialog", name="Keys").wait_for()
        page.keyboard.press("g")  # marks nothing behind the list
        assert "mark as good or bad" in page.get_by_role("dialog").inner_text()
        page.keyboard.press("Escape")
        page.keyboard.press("?")
        page.get_by_role("button", name="Close").click()
        page.get_by_role("dialog").wait_for(state="hidden")


def test_marks_of_others_arrive_and_keep_what_is_typed(browser: Any, studio: LocalServer) -> None:
    with open_page(browser, studio) as page:
        page.goto("/conversations/maths")
        page.keyboard.press("n")
        page.keyboard.type("Half a thought")
        page.locator("#new-note").evaluate("field => field.blur()")
        marks.add_tag(studio.store, row_of(studio, "maths"), "from Bob", "Bob")
        page.locator("#marks .chip.tag", has_text="from Bob").wait_for()
        assert page.locator("#new-note").input_value() == "Half a thought"
        page.keyboard.press("b")
        page.locator("#mark-bad[aria-pressed=true]").wait_for()
        assert page.locator("#new-note").input_value() == "Half a thought"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_marks_are_accessible_and_fit_a_phone(browser: Any, studio: LocalServer, scheme: str) -> None:
    row = row_of(studio, "maths")
    marks.set_verdict(studio.store, row, "bad", "Ada")
    marks.rate(studio.store, row, 3, None)
    for tag in ("a", "w" * 60):
        marks.add_tag(studio.store, row, tag, "Ada")
    marks.write_note(studio.store, row, "n" * 300, "Ada", marks.new_key())
    with open_page(browser, studio, viewport={"width": 390, "height": 844}, color_scheme=scheme) as page:
        for address in ("/", "/conversations/maths"):
            page.goto(address)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            page.keyboard.press("n")
            page.evaluate(AXE.read_text("utf-8"))
            found = page.evaluate("axe.run()")["violations"]
            assert [(fault["id"], [n["html"][:200] for n in fault["nodes"]]) for fault in found] == [], address


def test_a_shared_file_opens_anywhere_and_requests_nothing(browser: Any, studio: LocalServer, tmp_path: Path) -> None:
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    studio.store.ingest(body("maths", said("p", "Look", 9000, properties={"attachments": [picture]})))
    with open_page(browser, studio) as page:
        page.goto("/conversations/maths")
        with page.expect_download() as download:
            page.get_by_role("link", name="HTML", exact=True).click()
        assert download.value.suggested_filename == "conversation-maths.html"
        download.value.save_as(tmp_path / "shared.html")
    context = browser.new_context(offline=True)
    page = context.new_page()
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(message.text))
    page.on(
        "request", lambda request: trouble.append(request.url) if request.url[:5] not in ("file:", "data:") else None
    )
    page.goto((tmp_path / "shared.html").as_uri())
    assert page.locator("h1").inner_text() == "What is the square root of 144?"
    page.locator("details.step > summary").first.click()
    assert page.locator("img").evaluate("image => image.naturalWidth") == 16
    assert page.evaluate("getComputedStyle(document.querySelector('.bubble')).borderTopLeftRadius") == "16px"
    context.close()
    assert trouble == []
