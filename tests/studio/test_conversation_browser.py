"""The page of a conversation in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gati.store.message_columns import utc_datetime
from tests.servers import LocalServer, studio_server
from tests.store.bodies import START, body, said, step, turn
from tests.studio.browsers import BROWSER_MARKS, open_page

pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytestmark = BROWSER_MARKS
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
PHONE = {"width": 390, "height": 844}
ANSWER = """Hold the **reset** button, see [the portal](https://portal.example.org/login).

| Light | Meaning |
|:--|--:|
| green | ready |

```python
def reset(seconds: int = 10) -> bool: return True  # a line that is much longer than the screen of a phone is wide
```

![the button](https://cdn.example.org/button.png)
"""
PHOTO = {"type": "image_url", "image_url": {"url": "https://example.org/my-photo.jpg"}}


@pytest.fixture
def studio() -> Iterator[LocalServer]:
    """A studio with a conversation that has Markdown, a photo and a turn that failed."""
    with studio_server() as running:
        prompt = {"components": [{"content": "You help {{name}}."}], "variables": {"name": "Ada"}}
        failed = [
            said("f:user", "And now? \u202etxet", 20_000, properties={"attachments": [PHOTO]}),
            step("f", "chain_start", "f:user", 20_001),
            step("f:end", "chain_end", "f", 20_002, output={"status": "error", "error": {"type": "ValueError", "message": "boom"}}),
        ]  # fmt: skip
        messages = [*turn("r", "How do I reset it?", ANSWER), *failed]
        running.store.ingest(body("shop", *messages, systemPrompt=prompt, properties={"agent_name": "helper"}))
        yield running


@pytest.fixture
def page(browser: Any, studio: LocalServer) -> Iterator[Any]:
    with open_page(browser, studio) as opened:
        opened.goto("/conversations/shop")
        yield opened


def model_step(page: Any) -> Any:
    return page.locator("details.step", has=page.locator("> summary .kind.llm")).nth(1)


def test_markdown_is_shown_formatted_and_its_text_is_one_click_away(page: Any) -> None:
    answer = page.locator(".bubble.assistant").first
    assert answer.locator("strong").inner_text() == "reset"
    assert answer.locator("td").all_inner_texts() == ["green", "ready"]
    assert answer.locator("pre .hl-k").first.inner_text() == "def"
    assert answer.locator("img, a[href*=example]").count() == 0
    answer.get_by_text("Text as received").click()
    assert answer.locator(".source .text").text_content() == ANSWER


def test_a_photo_is_a_label_and_a_failed_turn_says_why(page: Any) -> None:
    assert page.locator(".bubble.user .attachment").inner_text().split() == [
        "picture",
        "my-photo.jpg",
        "at",
        "example.org",
    ]
    assert page.locator(".missing").inner_text() == "No answer: the turn failed. ValueError: boom"


def test_a_text_cannot_change_the_direction_of_what_is_beside_it(page: Any) -> None:
    isolated = "[...document.querySelectorAll('.bubble .text, .bubble .rendered, h1')].map(e => getComputedStyle(e).unicodeBidi)"
    assert set(page.evaluate(isolated)) == {"isolate"}


def test_what_the_model_was_sent_opens_inside_the_step(page: Any) -> None:
    call = model_step(page)
    call.locator("> summary").click()
    call.locator("details.sent > summary").click()
    call.locator(".sent-message.returned").wait_for()
    roles = [role.split("\n")[0].split()[0] for role in call.locator(".sent-message .role").all_inner_texts()]
    assert roles == ["system", "user", "assistant", "tool", "returned"]
    assert call.locator(".certainty .chip").inner_text() == "reconstructed"
    assert call.locator(".sent-message.system mark").inner_text() == "Ada"
    assert "144**0.5" in call.locator(".sent-message.assistant").inner_text()
    assert "12.0" in call.locator(".sent-message.tool").inner_text()
    assert "Finish reason: stop" in call.locator(".sent-message.returned").inner_text()


def test_live_updates_keep_what_is_open_and_the_focus(page: Any, studio: LocalServer) -> None:
    call = model_step(page)
    call.locator("> summary").click()
    call.locator("details.sent > summary").click()
    call.locator(".sent-message.returned").wait_for()
    call.locator(".sent-message .more > summary").first.click()  # the prompt's variables, inside what was loaded
    page.locator(".bubble.assistant .source > summary").first.click()
    page.locator(".bubble.assistant .source > summary").first.focus()
    for number in range(2):
        studio.store.ingest(body("shop", *turn(f"u{number}", f"Update {number}?", when=60_000 + number * 3000)))
        page.get_by_text(f"Update {number}?").first.wait_for()
        assert page.locator(".bubble.assistant .source").first.get_attribute("open") is not None
        assert call.locator("details.sent").get_attribute("open") is not None
        assert call.locator(".sent-message.returned").is_visible()
        assert call.locator(".sent-message .more").first.get_attribute("open") is not None
        assert page.evaluate("document.activeElement.textContent") == "Text as received"


def test_everything_can_be_opened_by_keyboard(page: Any) -> None:
    page.locator("#main").focus()
    for name in ("How do I reset it", "Text as received"):
        assert name in page.locator("main").inner_text()
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        text = page.evaluate("document.activeElement.textContent.trim()")
        if page.evaluate("document.activeElement.tagName") == "SUMMARY" and text.startswith(
            ("Text as", "model call", "What the model")
        ):
            page.keyboard.press("Enter")
            reached.append(text.split("\n")[0].strip())
        if any(text.startswith("What") for text in reached):
            break
    page.locator(".sent-message.returned").first.wait_for()
    assert "model call" in " ".join(reached)


def test_times_are_in_the_zone_of_the_reader(browser: Any, studio: LocalServer) -> None:
    for zone in ("Asia/Tokyo", "America/New_York"):
        with open_page(browser, studio, timezone_id=zone) as opened:
            opened.goto("/conversations/shop")
            local = utc_datetime(START).astimezone(ZoneInfo(zone))
            assert opened.locator(".bubble.user time").first.inner_text() == f"{local:%H:%M:%S}"
            assert opened.locator(".about time").first.inner_text() == f"{local:%Y-%m-%d %H:%M}"
            assert isinstance(
                datetime.fromisoformat(opened.locator(".about time").first.get_attribute("datetime")), datetime
            )


def test_messages_without_a_time_show_none(browser: Any, studio: LocalServer) -> None:
    studio.store.ingest({"externalUserId": "u", "externalConversationId": "bare", "messages": [
        {"role": "user", "content": "Hi"}, {"messageType": "tool_call", "toolName": "t", "input": {"a": 1}, "externalMessageId": "k"},
        {"messageType": "observation", "output": {"output": 2}, "parentExternalMessageId": "k"}, {"role": "assistant", "content": "Ho"},
    ]})  # fmt: skip
    with open_page(browser, studio) as opened:
        opened.goto("/conversations/bare")
        assert opened.locator("#conversation time, svg.bar").count() == 0
        assert " ms" not in opened.locator("#conversation").inner_text()
        assert opened.locator(".turn").count() == 1


def test_going_back_and_forward_shows_the_pages_without_errors(page: Any) -> None:
    page.goto("/")
    page.get_by_role("searchbox").type("reset")
    page.wait_for_url("**q=reset**")
    page.locator("a.row").first.click()
    page.get_by_role("heading", level=1).wait_for()
    page.go_back()
    page.locator("a.row").first.wait_for()
    page.go_back()
    page.locator("a.row").first.wait_for()
    page.go_forward()
    page.get_by_role("button", name="Theme: auto").click()
    page.get_by_role("button", name="Theme: light").wait_for()


def test_unknown_addresses_show_a_page_of_the_studio(browser: Any, studio: LocalServer) -> None:
    context = browser.new_context(base_url=studio.address)
    opened = context.new_page()
    opened.goto(f"/?token={studio.api_key}")
    response = opened.goto("/no/such/page")
    assert response.status == 404
    assert opened.get_by_role("heading", level=1).inner_text() == "Not found"
    opened.get_by_role("link", name="Overview").click()
    opened.get_by_role("heading", level=1, name="Overview").wait_for()
    context.close()


def test_the_page_fits_a_phone_and_uses_the_width_of_a_wide_screen(browser: Any, studio: LocalServer) -> None:
    with open_page(browser, studio, viewport=PHONE) as opened:
        for address in ("/conversations/shop", "/messages/10/input", "/overview?period=1y"):
            opened.goto(address)
            for summary in opened.locator("main details:not(.step):not(.work) > summary:visible").all():
                summary.click()
            opened.keyboard.press("e")
            assert opened.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], address
    with open_page(browser, studio, viewport={"width": 1680, "height": 1000}) as opened:
        opened.goto("/conversations/shop")
        work, answer = (opened.locator(name).first.bounding_box() for name in (".turn .work", ".bubble.assistant"))
        assert work["x"] > answer["x"] + answer["width"]
        assert opened.locator("main").bounding_box()["width"] > 1500


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_accessibility_problem(page: Any, studio: LocalServer, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    for address in ("/conversations/shop", "/messages/10/input"):
        page.goto(address)
        page.keyboard.press("e")
        for summary in page.locator("main details.source > summary, main details.sent > summary").all():
            summary.click()
        page.wait_for_load_state("networkidle")
        page.evaluate(AXE.read_text("utf-8"))
        found = page.evaluate("axe.run()")["violations"]
        assert [(fault["id"], [n["html"][:99] for n in fault["nodes"]]) for fault in found] == [], address
