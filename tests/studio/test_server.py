"""Access to the server: loopback only, no other sites, bounded bodies."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from gati.studio import server
from tests.servers import LocalServer, studio_server
from tests.store.bodies import body, said


@pytest.fixture(scope="module")
def local() -> Any:
    with studio_server() as running:
        yield running


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
    ],
)
def test_requests_from_other_sites_are_rejected(local: LocalServer, headers: dict[str, str]) -> None:
    assert local.post(body("c", said("a", "x")), headers=headers).status_code == 403


def test_a_body_over_the_limit_is_rejected_without_reading_it(local: LocalServer) -> None:
    def endless() -> Any:
        for _ in range(30):
            yield b"x" * 1024**2

    for content in (b"x" * (21 * 1024**2), endless()):
        assert httpx.post(local.url + "/messages", content=content, headers=local.headers).status_code == 413


@pytest.mark.parametrize("host", ["0.0.0.0", "example.org", "192.168.0.1"])
def test_only_loopback_addresses_can_be_served(host: str) -> None:
    with pytest.raises(ValueError, match="only this machine"):
        server.listen(host)
    if host == "0.0.0.0":
        server.listen(host, any_host=True).close()


def test_the_studio_has_no_fault_injection(local: LocalServer) -> None:
    assert httpx.post(f"{local.address}/__faults__", json={"kind": "html"}, headers=local.headers).status_code == 404
