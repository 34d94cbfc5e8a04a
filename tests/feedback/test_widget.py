"""The thumbs in a real browser, on a page with a strict content security policy."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from gati import observe
from gati.feedback import Feedback
from gati.studio.server import listen, uvicorn_server
from tests.prompts.conftest import PRODUCT
from tests.servers import LocalServer
from tests.studio.browsers import BROWSER_MARKS, CHROMIUM, FLAGS

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytestmark = BROWSER_MARKS

POLICY = "default-src 'none'; script-src 'self'; connect-src 'self'"


@pytest.fixture
def address() -> Iterator[str]:
    feedback = Feedback("a secret of the tests, not short")

    def page(request: Request) -> HTMLResponse:
        token = feedback.token(run_id="run-1")
        text = f'<gati-feedback token="{token}"></gati-feedback><script src="/api/feedback/widget.js"></script>'
        return HTMLResponse(f"<!doctype html><title>t</title>{text}", headers={"content-security-policy": POLICY})

    app = Starlette(routes=[Route("/", page), *feedback.routes("/api/feedback")])
    listener = listen()
    server = uvicorn_server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    server.should_exit = True
    thread.join(10)
    listener.close()


def ratings(server: LocalServer, number: int) -> list[tuple[Any, Any]]:
    deadline = time.monotonic() + 20
    while len(server.bodies("/api/v1/ratings")) < number:
        assert time.monotonic() < deadline
        observe.flush(timeout=20.0)
    return [(body["rating"], body.get("feedback")) for body in server.bodies("/api/v1/ratings")]


def test_a_person_rates_an_answer_and_says_why(greenflash: LocalServer, address: str):
    observe.init(api_key=greenflash.api_key, base_url=greenflash.url, product_id=PRODUCT)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        page.get_by_role("button", name="Good answer").click()
        page.get_by_role("button", name="Bad answer").click()
        page.get_by_role("textbox", name="What was wrong?").fill("Too long")
        page.get_by_role("button", name="Send").click()
        assert ratings(greenflash, 3) == [(1, None), (0, None), (0, "Too long")]
        assert page.get_by_role("button", name="Bad answer").get_attribute("aria-pressed") == "true"
        assert [error for error in errors if "favicon" not in error] == []
        browser.close()
