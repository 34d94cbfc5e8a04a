"""The names of the SDK and of httpx that are not public: they are there, and gati delivers without them."""

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

GIVEN: Any = {"default_headers": {"X-Team": "a"}, "default_query": {"q": "1"}}
GONE = "is gone; what is lost stands in gati/exporters/greenflash/_compat.py"


@pytest.mark.parametrize("kind", [Greenflash, AsyncGreenflash])
def test_the_sdk_client_still_holds_what_it_was_given(kind: Any) -> None:
    theirs = kind(api_key="k", **GIVEN)
    assert _compat.default_headers(theirs) == {"X-Team": "a"}, GONE
    assert _compat.default_query(theirs) == {"q": "1"}, GONE
    assert isinstance(_compat.inner_http_client(theirs), (httpx.Client, httpx.AsyncClient)), GONE


def test_an_httpx_client_still_holds_how_it_connects() -> None:
    context = ssl.create_default_context()
    plain = httpx.HTTPTransport(verify=context, uds="/run/proxy.sock")
    proxied = httpx.HTTPTransport(proxy=httpx.Proxy("http://p.example:8080", headers={"X-Proxy": "b"}))
    with httpx.Client(transport=plain, mounts={"https://": proxied}) as http:
        assert _compat.transport(http) is plain, GONE
        assert _compat.mounts(http) == {"https://": proxied}, GONE
    assert _compat.transport_settings(plain).ssl_context is context, GONE
    assert _compat.transport_settings(plain).uds == "/run/proxy.sock", GONE
    told = _compat.transport_settings(proxied)
    assert (told.proxy_url.host, told.proxy_url.port) == (b"p.example", 8080), GONE
    assert (b"X-Proxy", b"b") in told.proxy_headers, GONE


def test_a_proxys_password_is_still_where_it_was() -> None:
    told = _compat.transport_settings(httpx.HTTPTransport(proxy=httpx.Proxy("http://u:p@p.example:8080")))
    assert told.proxy_auth or any(name.lower() == b"proxy-authorization" for name, _ in told.proxy_headers), GONE


@pytest.mark.parametrize("name", _compat.LOGGERS)
def test_the_sdk_still_logs_under_these_names(name: str) -> None:
    assert isinstance(logging.root.manager.loggerDict.get(name), logging.Logger), GONE


def test_without_any_of_these_names_gati_delivers(greenflash: LocalServer) -> None:
    opaque = Greenflash(api_key=greenflash.api_key, base_url=greenflash.url, **GIVEN)
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
