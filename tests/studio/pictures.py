"""Makes pictures of the studio's pages in Chromium: `python -m tests.studio.pictures`.

Writes the pictures of `README.md` and `docs/studio.md` to `docs/images`. With `--pages FOLDER`, writes pictures of every
page to a folder, in light and dark, on a phone and on a wide screen, to be looked at after a change of the pages.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx

from gati.store import marks, queries
from tests.servers import LocalServer, studio_server
from tests.studio import samples
from tests.studio.browsers import CHROMIUM, FLAGS

IMAGES = Path(__file__).parents[2] / "docs" / "images"
SCREENS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
    "wide": {"viewport": {"width": 2200, "height": 1200}, "color_scheme": "light"},
}
"""Name → options of a browser's context."""


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(prog="python -m tests.studio.pictures", description=__doc__)
    parser.add_argument("--pages", type=Path, metavar="FOLDER", help="write pictures of every page to this folder")
    folder = parser.parse_args().pages
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver, studio_server() as studio:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        _show_every_page(browser, studio, folder) if folder else _show_documented_pages(browser, studio)
        browser.close()


def send(studio: LocalServer, requests: Iterable[samples.Request]) -> None:
    """Send requests to a studio as any client does."""
    with httpx.Client(base_url=studio.address, headers=studio.headers, timeout=60) as client:
        for path, body in requests:
            response = client.post(path, json=body)
            assert response.is_success, (path, response.text)


def mark(studio: LocalServer, conversation: str, *tags: str, verdict: str = "good", note: str = "") -> None:
    """Mark a conversation as two readers do."""
    found = queries.find_conversation(studio.store, conversation)
    assert found is not None
    marks.set_verdict(studio.store, found.id, verdict, "Grace")
    marks.rate(studio.store, found.id, 4 if verdict == "good" else 2, "Ada")
    for tag in tags:
        marks.add_tag(studio.store, found.id, tag, "Grace")
    if note:
        marks.write_note(studio.store, found.id, note, "Ada", marks.new_key())


def _open_context(browser: Any, studio: LocalServer, **options: Any) -> Any:
    context = browser.new_context(base_url=studio.address, **options)
    context.new_page().goto(f"/?token={studio.api_key}")
    return context


def _show_documented_pages(browser: Any, studio: LocalServer) -> None:
    from gati import demo, observe

    send(studio, samples.week_of_a_shop(time.time_ns() // 1000))
    observe.init(agent_name="wheelhouse", local=studio.store.path)
    demo.ask_questions(demo.create_model(), "bikes-for-three-days")
    observe.flush(timeout=30.0)
    mark(studio, "bikes-for-three-days", "prices", note="Right, but the customer asked for the price of a lock, too.")
    for name, address, theme in (
        ("conversation", "/conversations/bikes-for-three-days", "light"),
        ("overview", "/overview", "dark"),
    ):
        context = _open_context(browser, studio, **SCREENS[theme])
        page = context.pages[0]
        page.goto(address)
        page.wait_for_load_state("networkidle")
        page.screenshot(path=IMAGES / f"studio-{name}.png")
        context.close()


def addresses(studio: LocalServer) -> dict[str, str]:
    """Return the address of every page by name, for a store with the samples."""
    with studio.store.connections.reading() as db:
        call = db.execute("SELECT id FROM messages WHERE external_id = 'run-rich0-m2'").fetchone()[0]
        prompt = db.execute("SELECT uid FROM prompts WHERE name = 'shop-assistant'").fetchone()[0]
    conversations = ("rich", "failed", "deep", "bare", "waits", "japanese", "arabic", "long-word", "emoji")
    return {
        "list": "/", "search": "/?q=city+bikes&agent=support", "filters": "/?sort=cost&tag=vip&errors=no&mark=bad&period=30d",
        "nothing": "/?q=nothing+fits", "overview": "/overview", "overview-day": "/overview?period=24h",
        "overview-all": "/overview?period=all", "overview-empty": "/overview?since=2020-01-01&until=2020-01-02",
        "users": "/users", "user": "/users/ada", "user-long": "/users/user-with-a-long-id-" + "x" * 60,
        "prompts": "/prompts", "prompt": f"/prompts/{prompt}", "message": f"/messages/{call}", "input": f"/messages/{call}/input",
        "call": "/calls/1", "missing": "/no-such-page", "delete-conversation": "/delete/conversation/rich",
        "delete-user": "/delete/user/ada", "delete-before": "/delete/before",
        **{f"conversation-{name}": f"/conversations/{name}" for name in conversations},
        "conversation-events": "/conversations/run-of-a-gati-client", "hit": f"/conversations/rich?at={call}&q=bikes",
        "marks": "/conversations/rich/marks",
    }  # fmt: skip


def _show_every_page(browser: Any, studio: LocalServer, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    now = time.time_ns() // 1000
    send(studio, (*samples.week_of_a_shop(now, 60), *samples.every_kind(now)))
    mark(
        studio,
        "rich",
        "needs a human",
        "ü" * 50,
        verdict="bad",
        note="The table is right.\nThe code is not needed. " * 5,
    )
    for screen, options in SCREENS.items():
        context = _open_context(browser, studio, **options)
        page = context.pages[0]
        for name, address in addresses(studio).items():
            page.goto(address)
            page.screenshot(path=folder / f"{name}-{screen}.png", full_page=True)
        context.close()


if __name__ == "__main__":
    main()
