"""Settings copied from a user's client, checked on the resulting HTTP client."""

from __future__ import annotations

import ssl
from typing import Any

import greenflash as sdk
import httpx
import pytest

from gati.exporters.greenflash.connection import DEFAULT_URL, make_http_client, resolve_access
from tests.exporters.turns import settings


def client_like(client: Any) -> httpx.Client:
    return make_http_client(resolve_access(settings(api_key=None, client=client)), 10.0, 4)


def pool(transport: Any) -> Any:
    return transport._pool


@pytest.fixture(params=["sync", "async"])
def kinds(request: pytest.FixtureRequest) -> tuple[Any, Any, Any]:
    if request.param == "sync":
        return sdk.Greenflash, httpx.Client, httpx.HTTPTransport
    return sdk.AsyncGreenflash, httpx.AsyncClient, httpx.AsyncHTTPTransport


def test_default_address_is_the_sdks():
    assert resolve_access(settings()).base_url == DEFAULT_URL
    assert str(sdk.Greenflash(api_key="gf_x").base_url).rstrip("/") == DEFAULT_URL


def test_redirects_are_not_followed_and_timeouts_are_gatis():
    client = make_http_client(resolve_access(settings()), 10.0, 4)
    assert client.follow_redirects is False
    assert (client.timeout.read, client.timeout.connect) == (10.0, 5.0)


def test_proxy_is_copied(kinds: tuple[Any, Any, Any]):
    kind, http, _ = kinds
    user_client = kind(api_key="gf_x", http_client=http(proxy="http://me:pw@proxy.test:3128", trust_env=False))
    transports = list(client_like(user_client)._mounts.values())
    assert [pool(t)._proxy_url.host for t in transports] == [b"proxy.test"]
    assert dict(pool(transports[0])._proxy_headers)[b"Proxy-Authorization"].startswith(b"Basic ")


def test_certificates_are_copied(kinds: tuple[Any, Any, Any]):
    kind, http, transport = kinds
    context = ssl.create_default_context()
    user_client = kind(api_key="gf_x", http_client=http(transport=transport(verify=context)))
    assert pool(client_like(user_client)._transport)._ssl_context is context


def test_sockets_are_never_shared(kinds: tuple[Any, Any, Any]):
    kind, http, _ = kinds
    user_client = http()
    client = client_like(kind(api_key="gf_x", http_client=user_client))
    assert type(client._transport) is httpx.HTTPTransport
    assert pool(client._transport) is not pool(user_client._transport)


def test_headers_auth_and_cookies_are_copied():
    user_client = httpx.Client(
        headers={"X-Team": "a", "User-Agent": "user_client"}, auth=("u", "p"), cookies={"k": "v"}
    )
    client = client_like(sdk.Greenflash(api_key="gf_x", http_client=user_client))
    assert client.headers["x-team"] == "a"
    assert client.headers["user-agent"].startswith("python-httpx")
    assert isinstance(client.auth, httpx.BasicAuth)
    assert client.cookies["k"] == "v"


def test_user_defined_async_transport_is_not_used():
    class Own(httpx.AsyncBaseTransport):
        pass

    client = client_like(sdk.AsyncGreenflash(api_key="gf_x", http_client=httpx.AsyncClient(transport=Own())))
    assert type(client._transport) is httpx.HTTPTransport


def test_repr_and_account_of_access_reveal_no_secret():
    user_client = sdk.Greenflash(api_key="gf_s3cret", default_headers={"X-Token": "s3cret"})
    access = resolve_access(settings(api_key=None, client=user_client))
    assert "s3cret" not in repr(access) + access.account


def test_authorization_header_replaces_the_key():
    user_client = sdk.Greenflash(api_key=None, default_headers={"Authorization": "Bearer other"})
    assert resolve_access(settings(api_key=None, client=user_client)).problem is None
