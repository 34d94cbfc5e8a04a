"""Private names of the SDK and of httpx: they exist, and gati delivers without them."""

from __future__ import annotations

import logging
import ssl
from typing import Any

import httpx
import pytest
from greenflash import AsyncGreenflash, Greenflash

from gati import observe
from gati.exporters.greenflash import _compat
from gati.testing import ScriptedChatModel
from tests.servers import LocalServer

OPTIONS: Any = {"default_headers": {"X-Team": "a"}, "default_query": {"q": "1"}}
GONE = "is gone; gati/exporters/greenflash/_compat.py names the lost feature"


@pytest.mark.parametrize("kind", [Greenflash, AsyncGreenflash])
def test_sdk_client_keeps_its_options(kind: Any) -> None:
    client = kind(api_key="k", **OPTIONS)
    assert _compat.default_headers(client) == {"X-Team": "a"}, GONE
    assert _compat.default_query(client) == {"q": "1"}, GONE
    assert isinstance(_compat.inner_http_client(client), (httpx.Client, httpx.AsyncClient)), GONE


def test_httpx_client_keeps_its_connection_settings() -> None:
    context = ssl.create_default_context()
    plain = httpx.HTTPTransport(verify=context, uds="/run/proxy.sock")
    proxied = httpx.HTTPTransport(proxy=httpx.Proxy("http://p.example:8080", headers={"X-Proxy": "b"}))
    with httpx.Client(transport=plain, mounts={"https://": proxied}) as http:
        assert _compat.transport(http) is plain, GONE
        assert _compat.mounts(http) == {"https://": proxied}, GONE
    assert _compat.transport_settings(plain).ssl_context is context, GONE
    assert _compat.transport_settings(plain).uds == "/run/proxy.sock", GONE
    settings = _compat.transport_settings(proxied)
    assert (settings.proxy_url.host, settings.proxy_url.port) == (b"p.example", 8080), GONE
    assert (b"X-Proxy", b"b") in settings.proxy_headers, GONE


def test_proxy_credentials_are_found() -> None:
    settings = _compat.transport_settings(httpx.HTTPTransport(proxy=httpx.Proxy("http://u:p@p.example:8080")))
    assert settings.proxy_auth or any(name.lower() == b"proxy-authorization" for name, _ in settings.proxy_headers), (
        GONE
    )


@pytest.mark.parametrize("name", _compat.LOGGERS)
def test_sdk_loggers_exist(name: str) -> None:
    assert isinstance(logging.root.manager.loggerDict.get(name), logging.Logger), GONE


def test_gati_delivers_without_private_names(greenflash: LocalServer) -> None:
    opaque = Greenflash(api_key=greenflash.api_key, base_url=greenflash.url, **OPTIONS)
    opaque._client.close()
    for name in ("_client", "_custom_headers", "_custom_query"):
        delattr(opaque, name)
    assert _compat.inner_http_client(opaque) is _compat.transport(opaque) is None
    assert _compat.mounts(opaque) == _compat.default_headers(opaque) == _compat.default_query(opaque) == {}
    assert _compat.transport_settings(opaque) == (None, None, None, [], None, None)
    observe.init(agent_name="tutor", client=opaque)
    ScriptedChatModel(replies=["4"]).invoke("What is 2 + 2?")
    observe.flush()
    assert [m["content"] for m in greenflash.messages() if "content" in m] == ["What is 2 + 2?", "4"]
