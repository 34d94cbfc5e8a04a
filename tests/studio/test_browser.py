"""The studio in a real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import LocalServer, studio_server
from tests.store.bodies import body, said, step, turn
from tests.studio.browsers import BROWSER_MARKS

pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytestmark = BROWSER_MARKS
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
PHONE = {"width": 390, "height": 844}


@pytest.fixture
def studio() -> Iterator[LocalServer]:
    """A studio with two conversations and two versions of a prompt."""
    with studio_server() as running:
        for number, manner in enumerate(["kind", "strict"]):
            prompt = {
                "externalPromptId": "tutor", "components": [{"content": f"You are a {manner} tutor. Teach {{{{name}}}}."}],
                "variables": {"name": "Ada"},
            }  # fmt: skip
            messages = turn(f"r{number}", when=number * 5000)
            running.store.ingest(body("maths", *messages, systemPrompt=prompt, properties={"agent_name": "math-tutor"}))
        running.store.ingest(body("soup", said("s", "How do I cook carrot soup?", 100), user="grace"))
        yield running


@pytest.fixture
def page(browser: Any, studio: LocalServer) -> Iterator[Any]:
    """A page whose every error, and every request to elsewhere, fails the test."""
    context = browser.new_context(base_url=studio.address)
    opened = context.new_page()
    opened.set_default_timeout(20_000)
    trouble: list[str] = []
    opened.on("pageerror", lambda error: trouble.append(str(error)))
    opened.on("console", lambda message: trouble.append(message.text) if message.type in ("error", "warning") else None)
    opened.on(
        "request", lambda request: trouble.append(request.url) if not request.url.startswith(studio.address) else None
    )
    opened.on("dialog", lambda dialog: (trouble.append(dialog.message), dialog.dismiss()))
    opened.goto(f"/?token={studio.api_key}")
    yield opened
    context.close()
    assert trouble == []


def open_maths(page: Any) -> None:
    page.goto("/")
    page.get_by_role("link", name="What is the square root of 144?").click()
    page.get_by_role("heading", level=1, name="What is the square root of 144?").wait_for()


def test_a_conversation_can_be_opened_and_its_steps_read(page: Any) -> None:
    open_maths(page)
    assert page.locator(".bubble.assistant").first.inner_text().endswith("The square root of 144 is 12.")
    tool = page.locator("details.step", has=page.locator(".kind.tool_call")).first
    tool.locator("> summary").click()
    assert "144**0.5" in tool.locator(".inside").inner_text()
    assert "12.0" in tool.locator(".inside").inner_text()
    assert tool.locator("svg.bar").get_attribute("aria-label") == "starts after 820 ms, takes 12 ms"


def test_the_system_prompt_of_a_call_shows_its_values_and_what_changed(page: Any) -> None:
    open_maths(page)
    call = page.locator(".turn").nth(1).locator("details.step", has=page.locator(".kind.llm")).first
    call.locator("> summary").click()
    call.locator("details.prompt > summary").click()
    shown = call.locator("details.prompt")
    shown.locator("mark").wait_for()
    assert shown.locator("mark").inner_text() == "Ada"
    assert (shown.locator("del").inner_text(), shown.locator("ins").inner_text()) == ("kind", "strict")


def test_search_filters_the_list_while_typing_and_updates_the_address(page: Any) -> None:
    page.goto("/")
    page.get_by_role("searchbox").type("carr")
    page.locator(".conversations li", has_text="square root").wait_for(state="detached")
    assert page.locator(".conversations mark").inner_text() == "carr"
    assert "q=carr" in page.url
    page.reload()
    assert page.locator(".conversations li").count() == 1


def test_filters_filter_the_list(page: Any) -> None:
    page.goto("/")
    page.get_by_label("Agent").fill("math-tutor")
    page.keyboard.press("Enter")
    page.locator(".conversations li", has_text="carrot").wait_for(state="detached")
    page.get_by_role("link", name="square root").wait_for()
    page.get_by_label("Status").fill("completed")
    page.keyboard.press("Tab")
    page.wait_for_url("**status=completed**")
    assert page.locator(".conversations li").count() == 1


def test_a_filter_completes_while_it_is_typed(page: Any, studio: LocalServer) -> None:
    for number in range(30):
        studio.store.ingest(body(f"p{number}", said("q", "Hello", 200), user=f"person-{number}"))
    studio.store.record_action("users", {"externalUserId": "person-3", "name": "Zoë Quist"})
    page.goto("/")
    page.get_by_label("User").press_sequentially("zoe")
    page.locator("#of-user option[value='person-3']").wait_for(state="attached")
    assert page.locator("#of-user option").count() == 1
    page.get_by_label("User").fill("person-3")
    page.keyboard.press("Enter")
    page.locator(".conversations li", has_text="carrot").wait_for(state="detached")
    assert "Zoë Quist" in page.locator(".conversations li").inner_text()


def test_filters_are_saved_by_name_and_opened_again_with_the_keyboard(page: Any) -> None:
    page.goto("/?q=carrot")
    page.locator(".save-filters > summary").press("Enter")
    page.get_by_label("Name").press_sequentially("Soup")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Delete the saved filters Soup").wait_for()
    page.goto("/")
    page.get_by_role("link", name="Soup", exact=True).press("Enter")
    page.wait_for_url("**/?q=carrot")
    page.get_by_role("button", name="Delete the saved filters Soup").press("Enter")
    page.wait_for_url("**/")
    assert page.get_by_role("link", name="Soup", exact=True).count() == 0


def test_a_hit_opens_the_conversation_at_the_marked_message(page: Any) -> None:
    page.goto("/?q=144**0.5")
    page.locator(".conversations .row").first.click()
    page.locator("details.step.hit[open]").wait_for()
    assert page.evaluate("document.activeElement.closest('details').classList.contains('hit')")
    assert page.evaluate("CSS.highlights.get('hit').size") > 0


def test_a_day_of_a_chart_opens_that_day(page: Any) -> None:
    page.goto("/overview?since=2025-11-18&until=2025-11-22")
    page.locator("details.more > summary").first.press("Enter")
    page.get_by_role("link", name="2025-11-20", exact=True).first.press("Enter")
    page.wait_for_url("**since=2025-11-20&until=2025-11-20")
    page.get_by_role("link", name="gpt-4o", exact=True).click()
    page.wait_for_url("**/?since=2025-11-20&until=2025-11-20&model=gpt-4o")
    assert page.locator(".conversations li").count() == 1


def test_the_page_of_a_user_is_reached_from_the_list_of_users(page: Any, studio: LocalServer) -> None:
    studio.store.record_action("users", {"externalUserId": "grace", "name": "Grace Hopper", "email": "g@example.org"})
    page.goto("/users")
    page.get_by_role("link", name="Grace Hopper").press("Enter")
    page.get_by_role("heading", level=1, name="Grace Hopper").wait_for()
    assert "g@example.org" in page.inner_text("main")
    page.get_by_role("link", name="How do I cook carrot soup?").wait_for()


def test_new_conversations_appear_automatically(page: Any, studio: LocalServer) -> None:
    page.goto("/")
    studio.store.ingest(body("new", said("n", "Is anybody there?", 99_000)))
    page.get_by_role("link", name="Is anybody there?").wait_for()


def test_an_open_conversation_updates_live_and_keeps_opened_steps_open(page: Any, studio: LocalServer) -> None:
    open_maths(page)
    tool = page.locator("details.step", has=page.locator(".kind.tool_call")).first
    tool.locator("> summary").click()
    studio.store.ingest(body("maths", *turn("r9", "And of 81?", "It is 9.", 60_000)))
    page.get_by_text("It is 9.").wait_for()
    assert tool.get_attribute("open") is not None


def test_an_open_system_prompt_stays_open_through_live_updates(page: Any, studio: LocalServer) -> None:
    open_maths(page)
    page.locator("details.step", has=page.locator(".kind.llm")).first.locator("> summary").click()
    page.locator("details.prompt > summary").first.click()
    page.locator(".prompt-text").first.wait_for()
    for number in range(2):
        studio.store.ingest(body("maths", *turn(f"u{number}", f"Update {number}?", when=60_000 + number)))
        page.get_by_text(f"Update {number}?").first.wait_for()
        assert "You are a" in page.locator("details.prompt").first.inner_text()


def test_a_stored_script_never_runs(page: Any, studio: LocalServer) -> None:
    evil = "<script>document.title='owned';alert(1)</script><img src=x onerror=\"document.title='owned'\"><svg onload=alert(1)>"
    prompt = {"externalPromptId": evil, "components": [{"content": evil + "{{v}}"}], "variables": {"v": evil}}
    studio.store.ingest(body(
        evil, said("q", evil, 200_000), step("r", "chain_start", "q", 200_001, properties={"name": evil, "agent_name": evil}),
        step("m", "llm", "r", 200_002, model=evil, input={evil: evil}, output={"x": evil}),
        step("t", "tool_call", "r", 200_003, toolName=evil, input={"a": evil}),
        said("a", evil, 200_004, "final_response"), user=evil, systemPrompt=prompt,
    ))  # fmt: skip
    page.goto("/")
    page.get_by_role("link", name="<script>").first.click()
    page.get_by_role("heading", level=1, name="<script>").wait_for()
    page.keyboard.press("e")
    page.locator("details.prompt > summary").first.click()
    page.locator(".prompt-text").first.wait_for()
    for address in ("/prompts", "/overview?period=1y", "/?q=owned"):
        page.goto(address)
        assert "owned" not in page.title()
    assert page.locator("main script, main img").count() == 0


def test_everything_is_reachable_by_keyboard(page: Any) -> None:
    page.goto("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    page.get_by_role("heading", level=1, name="What is the square root of 144?").wait_for()
    page.keyboard.press("e")
    assert page.locator("details.step:not([open])").count() == 0
    page.keyboard.press("/")
    page.get_by_role("searchbox").wait_for()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "q"


def test_the_theme_follows_the_system_and_can_be_changed(page: Any) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    page.emulate_media(color_scheme="light")
    page.goto("/")
    light = page.evaluate(ground)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(ground)
    assert light != dark
    page.get_by_role("button", name="Theme: auto").click()
    assert page.evaluate(ground) == light
    page.reload()
    assert page.evaluate(ground) == light
    page.get_by_role("button", name="Theme: light").click()
    assert page.evaluate(ground) == dark


def addresses(studio: LocalServer) -> list[str]:
    with studio.store.connections.reading() as db:
        uid = db.execute("SELECT uid FROM conversations").fetchone()[0]
        lineage = db.execute("SELECT uid FROM prompts").fetchone()[0]
    return [
        "/", "/?q=nothing+fits", f"/conversations/{uid}", "/calls/2", "/messages/4", "/prompts", f"/prompts/{lineage}",
        "/overview?period=all", "/overview", "/users", "/users/grace", "/?tag=beta&rating=bad", f"/conversations/{uid}?at=4&q=a",
        "/no-such-page",
    ]  # fmt: skip


def test_pages_fit_the_width_of_a_phone(page: Any, studio: LocalServer) -> None:
    page.set_viewport_size(PHONE)
    for address in addresses(studio)[:-1]:
        page.goto(address)
        page.keyboard.press("e")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], address


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_accessibility_problem_on_any_page(page: Any, studio: LocalServer, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    for address in addresses(studio)[:-1]:
        page.goto(address)
        page.keyboard.press("e")
        # By the driver, not as a script of the page: the page's own rules allow no such script.
        page.evaluate(AXE.read_text("utf-8"))
        found = page.evaluate("axe.run()")["violations"]
        assert [(fault["id"], [n["html"][:200] for n in fault["nodes"]]) for fault in found] == [], address


def test_pages_work_without_javascript(browser: Any, studio: LocalServer) -> None:
    context = browser.new_context(base_url=studio.address, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"/?token={studio.api_key}")
    page.get_by_role("searchbox").fill("calculator")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="square root").click()
    page.locator("details.step > summary").nth(1).click()
    page.locator("details.prompt > summary").first.click()
    page.get_by_role("link", name="Show it").first.click()
    assert "You are a kind tutor" in page.inner_text("main")
    context.close()


def test_a_running_agents_conversation_is_visible(page: Any, studio: LocalServer) -> None:
    from gati import demo, observe

    page.goto("/")
    observe.init(agent_name="wheelhouse", local=studio.store.path)
    demo.ask_questions(demo.create_model(), "live")
    page.get_by_role("link", name="What does it cost to rent two city bikes").click()
    observe.flush(timeout=30.0)
    page.get_by_text("Two hours late would add 16.00").wait_for()
    assert page.locator(".turn").count() == 2
    assert page.locator(".kind.retrieval").count() == 2
