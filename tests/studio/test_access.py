"""The studio answers its owner only: a token in the printed address, then a cookie, or the token as the API key."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import greenflash
import httpx
import pytest

from gati.cli import browser
from gati.store import queries
from gati.studio import access
from gati.studio.access import load_token, token_path
from tests.servers import LocalServer, studio_server
from tests.store.bodies import body, said

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")


@pytest.fixture
def local() -> Iterator[LocalServer]:
    with studio_server() as running:
        running.store.ingest(body("c", said("a", "a private question")))
        yield running


PATHS = ["/", "/prompts", "/overview", "/messages/1", "/openapi.json", "/static/studio.css", "/api/v1/interactions"]


HEADERS = [
    {}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer"}, {"authorization": "Basic abc"},
    {"authorization": "Bearer \u00e9"}, {"cookie": "gati_studio=1; x=\"\\"}, {"accept": "text/html"},
]  # fmt: skip


@pytest.mark.parametrize("headers", HEADERS)
def test_a_request_without_the_token_gets_401(local: LocalServer, headers: dict[str, str]) -> None:
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    for address in [*PATHS, "/?token=", "/?token=wrong", "/?token=wrong&token="]:
        answer = httpx.get(local.address + address, headers=raw)
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        assert "private" not in answer.text


def test_a_message_without_the_token_is_not_stored(local: LocalServer) -> None:
    for address in ("/messages", f"/messages?token={local.api_key}"):
        assert httpx.post(local.url + address, json=body("c", said("b", "forged"))).status_code == 401
    assert len(queries.wire_messages(local.store)) == 1


def test_the_printed_address_sets_a_cookie_and_loses_the_token(local: LocalServer) -> None:
    with httpx.Client(base_url=local.address, follow_redirects=True) as client:
        answer = client.get(f"/prompts?x=1&token={local.api_key}")
        assert (answer.status_code, str(answer.url)) == (200, f"{local.address}/prompts?x=1")
        set_cookie = answer.history[0].headers["set-cookie"].lower()
        assert "httponly" in set_cookie
        assert "samesite=strict" in set_cookie
        assert local.api_key not in set_cookie
        assert client.get("/").status_code == 200
        (name,) = client.cookies
        value = client.cookies[name]
    expiry, _, signature = value.partition(".")
    for forged in (f"{int(expiry) + 1}.{signature}", f"0.{signature}", "", ".", f"{'9' * 5000}.{signature}"):
        assert httpx.get(local.address, headers={"cookie": f"{name}={forged}"}).status_code == 401


def test_an_expired_cookie_is_refused(local: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "_COOKIE_SECONDS", -1)
    answer = httpx.get(f"{local.address}/?token={local.api_key}")
    cookie = answer.headers["set-cookie"].split(";")[0]
    assert httpx.get(local.address, headers={"cookie": cookie}).status_code == 401


def test_the_redirect_stays_on_this_server(local: LocalServer) -> None:
    answer = httpx.get(f"{local.address}//evil.example/?token={local.api_key}")
    assert urlsplit(answer.headers["location"]).netloc == ""


def test_the_token_is_the_api_key_of_the_sdk(local: LocalServer) -> None:
    with greenflash.Greenflash(api_key=local.api_key, base_url=local.url, max_retries=0) as client:
        client.messages.create(
            external_user_id="u", external_conversation_id="sdk", messages=[{"role": "user", "content": "Hello"}]
        )
    with (
        greenflash.Greenflash(api_key="gf_other", base_url=local.url, max_retries=0) as client,
        pytest.raises(greenflash.AuthenticationError),
    ):
        client.messages.create(
            external_user_id="u", external_conversation_id="sdk", messages=[{"role": "user", "content": "Hello"}]
        )
    described = httpx.get(f"{local.address}/openapi.json", headers=local.headers).json()
    assert described["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


@posix
def test_the_token_is_random_private_and_stays_the_same(tmp_path: Path) -> None:
    first = load_token(tmp_path / "a.db")
    assert load_token(tmp_path / "a.db") == first
    assert load_token(tmp_path / "b.db") != first
    assert len(first) >= 40
    assert stat.S_IMODE(token_path(tmp_path / "a.db").stat().st_mode) == 0o600


@posix
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_token_that_others_may_know_is_replaced(tmp_path: Path, mode: int) -> None:
    first = load_token(tmp_path / "a.db")
    token_path(tmp_path / "a.db").chmod(mode)
    assert load_token(tmp_path / "a.db") != first
    assert stat.S_IMODE(token_path(tmp_path / "a.db").stat().st_mode) == 0o600


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_a_token_of_another_user_is_replaced(tmp_path: Path) -> None:
    first = load_token(tmp_path / "a.db")
    os.chown(token_path(tmp_path / "a.db"), 12345, -1)
    assert load_token(tmp_path / "a.db") != first


@posix
@pytest.mark.parametrize("content", ["", "short", "x" * 300, "\x00" * 50])
def test_a_broken_token_file_is_replaced(tmp_path: Path, content: str) -> None:
    token_path(tmp_path / "a.db").write_text(content)
    token_path(tmp_path / "a.db").chmod(0o600)
    assert len(load_token(tmp_path / "a.db")) >= 40


@posix
def test_a_link_in_place_of_the_token_file_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("a" * 43)
    other.chmod(0o600)
    token_path(tmp_path / "a.db").symlink_to(other)
    assert load_token(tmp_path / "a.db") != "a" * 43
    assert other.read_text() == "a" * 43


def test_processes_that_start_together_agree_on_the_token(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: load_token(tmp_path / "a.db"), range(16)))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.db.token"]


def test_the_browser_gets_the_token_without_its_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(browser.webbrowser, "open", opened.append)
    with ExitStack() as stack:
        browser.open_privately("http://127.0.0.1:1/?token=secret", stack)
        page = Path(unquote(urlsplit(opened[0]).path))
        assert "secret" not in opened[0]
        assert "token=secret" in page.read_text("utf-8")
        assert os.name == "nt" or stat.S_IMODE(page.parent.stat().st_mode) == 0o700
    assert not page.exists()
