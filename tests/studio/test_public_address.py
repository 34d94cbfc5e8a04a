"""The studio behind a reverse proxy: under a name of its own, with TLS, and below a path."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from gati.store import marks, queries
from gati.store.store import Store
from gati.studio.public_address import PublicAddress, parse_public_address
from gati.studio.server import create_studio_app
from tests.servers import STUDIO_TOKEN, LocalServer, studio_server
from tests.store.bodies import body, said, turn
from tests.studio.browsers import CHROMIUM, FLAGS
from tests.studio.proxies import reverse_proxy

ADDRESS = "https://studio.example.org"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "store.db")
    made.ingest(body("c", *turn("r")))
    yield made
    made.close()


def client(store: Store, address: str = ADDRESS, host: str = "127.0.0.1:4527") -> TestClient:
    app = create_studio_app(store, STUDIO_TOKEN, public=parse_public_address(address))
    return TestClient(app, base_url=f"http://{host}", follow_redirects=False)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("https://Studio.Example.org/", PublicAddress("https://studio.example.org", "")),
        ("https://example.org:443/gati/", PublicAddress("https://example.org", "/gati")),
        ("http://10.0.0.5:8080/tools/gati", PublicAddress("http://10.0.0.5:8080", "/tools/gati")),
        ("http://[::1]:80", PublicAddress("http://[::1]", "")),
    ],
)
def test_an_address_is_parsed(text: str, parsed: PublicAddress) -> None:
    assert parse_public_address(text) == parsed


WRONG = [
    "studio.example.org", "ftp://example.org", "https://", "https://a@example.org", "https://example.org/?x=1",
    'https://example.org/"><script>', "https://example.org/a b", "https://example.org//x",
]  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no address"):
        parse_public_address(text)


@pytest.mark.parametrize("host", ["127.0.0.1:4527", "studio.example.org"])
def test_forms_work_whether_or_not_the_proxy_passes_the_host_on(store: Store, host: str) -> None:
    """A proxy with TLS: the browser says https, the studio is reached by http."""
    studio = client(store, host=host)
    answer = studio.get(f"/?token={STUDIO_TOKEN}")
    assert {"secure", "samesite=lax", "path=/"} <= {
        part.strip().lower() for part in answer.headers["set-cookie"].split(";")
    }
    cookie = answer.headers["set-cookie"].partition(";")[0]
    found = queries.find_conversation(store, "c")
    assert found is not None
    for origin, status in ((ADDRESS, 303), ("https://evil.example", 403), ("null", 403), ("https://example.org", 403)):
        headers = {"cookie": cookie, "origin": origin}
        answer = studio.post(
            f"/conversations/{found.uid}/marks", data={"do": "verdict", "value": "good"}, headers=headers
        )
        assert answer.status_code == status
    studio.headers["authorization"] = f"Bearer {STUDIO_TOKEN}"
    assert studio.get("/", headers={"host": "evil.example"}).status_code == 403


def test_a_forwarded_port_may_have_another_number_and_a_proxy_may_ask_for_a_password(store: Store) -> None:
    """The tunnel of ssh or kubectl changes the port only. Basic authentication is the proxy's."""
    studio = TestClient(
        create_studio_app(store, STUDIO_TOKEN), base_url="http://127.0.0.1:9000", follow_redirects=False
    )
    cookie = studio.get(f"/?token={STUDIO_TOKEN}").headers["set-cookie"].partition(";")[0]
    headers = {"cookie": cookie, "authorization": "Basic YTpi", "origin": "http://127.0.0.1:9000"}
    assert studio.get("/", headers=headers).status_code == 200
    assert studio.post("/filters", headers=headers, data={"name": "x", "query": "q=1"}).status_code == 303
    headers["origin"] = "http://127.0.0.1:4527"
    assert studio.post("/filters", headers=headers, data={"name": "x", "query": "q=1"}).status_code == 403


def test_a_link_in_a_page_of_another_site_opens_a_page_and_does_nothing_else(store: Store) -> None:
    followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    studio = client(store)
    studio.headers["authorization"] = f"Bearer {STUDIO_TOKEN}"
    assert studio.get("/", headers=followed).status_code == 200
    assert studio.post("/filters", headers=followed, data={"name": "x"}).status_code == 403
    for changed in ({"sec-fetch-dest": "iframe"}, {"sec-fetch-mode": "no-cors"}):
        assert studio.get("/", headers={**followed, **changed}).status_code == 403
    local = TestClient(create_studio_app(store, STUDIO_TOKEN), base_url="http://127.0.0.1")
    local.headers["authorization"] = f"Bearer {STUDIO_TOKEN}"
    assert local.get("/", headers=followed).status_code == 403


def test_texts_that_look_like_links_are_not_changed_below_a_path(store: Store) -> None:
    text = 'Write `<a href="/x">` and ** src="/y" **, then:\n\n```html\n<img src="/z" href="/q">\n```\n'
    store.ingest(body("c", said("m", text, 9000)))
    found = queries.find_conversation(store, "c")
    assert found is not None
    pages = []
    for address in (ADDRESS, f"{ADDRESS}/gati"):
        studio = client(store, address)
        studio.headers["authorization"] = f"Bearer {STUDIO_TOKEN}"
        pages.append(studio.get(f"/conversations/{found.uid}").text)
    plain, below = (re.sub(r'(note_key|name="key" value)="?[0-9a-f]{32}', "", page) for page in pages)
    assert re.sub(r"<[^>]*>", "", below) == re.sub(r"<[^>]*>", "", plain)
    assert below != plain
    assert "/gati/static/studio.css" in below


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])


@contextmanager
def proxied_studio(path: str, *, removes_path: bool, keeps_host: bool) -> Iterator[tuple[str, LocalServer]]:
    """Run a studio and a proxy in front of it; yield the address of the proxy."""
    port = free_port()
    with studio_server(parse_public_address(f"http://127.0.0.1:{port}{path}")) as studio:
        studio.store.ingest(body("maths", *turn("r")))
        studio.store.ingest(body("soup", said("s", "How do I cook carrot soup?", 100), user="grace"))
        options = {"removes_path": removes_path, "keeps_host": keeps_host}
        with reverse_proxy(studio.address, path, listener_port=port, **options) as address:
            yield address, studio


PROXIES = [("/gati", True, False), ("/tools/gati", False, True)]


@pytest.mark.parametrize(("path", "removes_path", "keeps_host"), PROXIES)
def test_every_link_of_every_page_leads_through_the_proxy(path: str, removes_path: bool, keeps_host: bool) -> None:
    with (
        proxied_studio(path, removes_path=removes_path, keeps_host=keeps_host) as (address, studio),
        httpx.Client(base_url=address.removesuffix(path)) as reader,
    ):
        answer = reader.get(f"{path}/?token={studio.api_key}")
        assert answer.headers["location"] == f"{path}/"
        assert f"path={path or '/'}" in answer.headers["set-cookie"].lower()
        waiting, seen = {f"{path}/"}, set[str]()
        while waiting:
            target = waiting.pop()
            seen.add(target)
            answer = reader.get(target, follow_redirects=True)
            assert answer.status_code == 200, target
            if not answer.headers["content-type"].startswith("text/html") or "export" in target:
                continue
            links = re.findall(r'\b(?:href|src|action|hx-get)="([^"#]+)', answer.text)
            assert [link for link in links if not link.startswith(f"{path}/")] == []
            pages = {link.replace("&amp;", "&").partition("?")[0] for link in links if "/filters" not in link}
            waiting |= {page for page in pages if page not in seen and not page.endswith(".woff")}
        assert len(seen) > 15
        sent = reader.post(f"{path}/api/v1/messages", json=body("new", said("n", "Hi")), headers=studio.headers)
        assert sent.status_code == 201


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian's package chromium)")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_reader_works_behind_a_proxy() -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    trouble: list[str] = []
    with (
        proxied_studio("/gati", removes_path=True, keeps_host=False) as (address, studio),
        playwright.sync_playwright() as driver,
    ):
        browser: Any = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("response", lambda r: trouble.append(f"{r.status} {r.url}") if r.status >= 400 else None)
        page.on("request", lambda r: None if r.url.startswith(f"{address}/") else trouble.append(r.url))
        page.goto(f"{address}/?token={studio.api_key}")
        page.get_by_role("searchbox").type("carr")
        page.locator(".conversations li", has_text="square root").wait_for(state="detached")
        assert page.url.startswith(f"{address}/?q=carr")
        page.locator("a.row").first.focus()
        page.keyboard.press("g")
        page.get_by_text("marked good").wait_for()
        page.get_by_label("User").type("grace")
        page.locator("#of-user option[value=grace]").wait_for(state="attached")
        page.get_by_text("Save", exact=True).click()
        page.get_by_label("Name").fill("carrots")
        page.get_by_role("button", name="Save filters").click()
        page.get_by_role("link", name="carrots").wait_for()
        page.locator("a.row").first.click()
        page.locator("#mark-bad").wait_for()
        page.keyboard.press("b")
        page.locator("#mark-bad[aria-pressed=true]").wait_for()
        found = queries.find_conversation(studio.store, "soup")
        assert found is not None
        verdict = marks.marks_of(studio.store, found.id).verdict
        assert verdict is not None
        assert verdict.value == "bad"
        page.keyboard.press("/")
        page.get_by_role("searchbox").wait_for()
        browser.close()
    assert trouble == []
