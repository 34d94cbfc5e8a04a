"""What can be taken over from a client of the user's: measured on the client that we make of it."""

from __future__ import annotations

import ssl
from typing import Any

import greenflash as sdk
import httpx
import pytest

from gati.exporters.greenflash.connection import DEFAULT_URL, make_http_client, resolve_access
from tests.exporters.turns import settings


def made(client: Any) -> httpx.Client:
    return make_http_client(resolve_access(settings(api_key=None, client=client)), 10.0, 4)


def pool(transport: Any) -> Any:
    return transport._pool


@pytest.fixture(params=["sync", "async"])
def kinds(request: pytest.FixtureRequest) -> tuple[Any, Any, Any]:
    if request.param == "sync":
        return sdk.Greenflash, httpx.Client, httpx.HTTPTransport
    return sdk.AsyncGreenflash, httpx.AsyncClient, httpx.AsyncHTTPTransport


def test_without_a_client_the_sdks_own_address_counts():
    assert resolve_access(settings()).base_url == DEFAULT_URL
    assert str(sdk.Greenflash(api_key="gf_x").base_url).rstrip("/") == DEFAULT_URL


def test_redirects_and_timeouts_are_ours():
    client = make_http_client(resolve_access(settings()), 10.0, 4)
    assert client.follow_redirects is False
    assert (client.timeout.read, client.timeout.connect) == (10.0, 5.0)


def test_a_proxy_is_taken_over(kinds: tuple[Any, Any, Any]):
    kind, http, _ = kinds
    theirs = kind(api_key="gf_x", http_client=http(proxy="http://me:pw@proxy.test:3128", trust_env=False))
    transports = list(made(theirs)._mounts.values())
    assert [pool(t)._proxy_url.host for t in transports] == [b"proxy.test"]
    assert dict(pool(transports[0])._proxy_headers)[b"Proxy-Authorization"].startswith(b"Basic ")


def test_certificates_are_taken_over(kinds: tuple[Any, Any, Any]):
    kind, http, transport = kinds
    context = ssl.create_default_context()
    theirs = kind(api_key="gf_x", http_client=http(transport=transport(verify=context)))
    assert pool(made(theirs)._transport)._ssl_context is context


def test_sockets_are_never_shared(kinds: tuple[Any, Any, Any]):
    kind, http, _ = kinds
    theirs = http()
    client = made(kind(api_key="gf_x", http_client=theirs))
    assert type(client._transport) is httpx.HTTPTransport
    assert pool(client._transport) is not pool(theirs._transport)


def test_headers_auth_and_cookies_are_taken_over():
    theirs = httpx.Client(headers={"X-Team": "a", "User-Agent": "theirs"}, auth=("u", "p"), cookies={"k": "v"})
    client = made(sdk.Greenflash(api_key="gf_x", http_client=theirs))
    assert client.headers["x-team"] == "a"
    assert client.headers["user-agent"].startswith("python-httpx")
    assert isinstance(client.auth, httpx.BasicAuth)
    assert client.cookies["k"] == "v"


def test_an_asynchronous_transport_of_the_users_own_cannot_be_had():
    class Own(httpx.AsyncBaseTransport):
        pass

    client = made(sdk.AsyncGreenflash(api_key="gf_x", http_client=httpx.AsyncClient(transport=Own())))
    assert type(client._transport) is httpx.HTTPTransport


def test_what_an_access_shows_holds_no_secret():
    theirs = sdk.Greenflash(api_key="gf_s3cret", default_headers={"X-Token": "s3cret"})
    shown = resolve_access(settings(api_key=None, client=theirs))
    assert "s3cret" not in repr(shown) + shown.account


def test_an_authorization_header_of_the_users_own_stands_for_a_key():
    theirs = sdk.Greenflash(api_key=None, default_headers={"Authorization": "Bearer other"})
    assert resolve_access(settings(api_key=None, client=theirs)).problem is None
