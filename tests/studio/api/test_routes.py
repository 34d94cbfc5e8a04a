"""The API over real HTTP, with Greenflash's SDK where possible."""

from __future__ import annotations

from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import greenflash
import httpx
import pytest

from gati.store.store import Store
from tests.servers import LocalServer, greenflash_server, studio_client
from tests.store.bodies import body, said, turn


@pytest.fixture(scope="module")
def local() -> Any:
    with greenflash_server() as running:
        yield running


def sdk(local: LocalServer, **more: Any) -> greenflash.Greenflash:
    return greenflash.Greenflash(api_key=local.api_key, base_url=local.url, max_retries=0, **more)


reads = pytest.mark.skipif(find_spec("greenflash.resources.products") is None, reason="this SDK reads nothing back")


@reads
def test_the_sdk_reads_back_what_it_created(local: LocalServer) -> None:
    with sdk(local) as client:
        created = client.messages.create(
            external_user_id="u", external_conversation_id="sdk",
            messages=[
                {"role": "user", "content": "Hello"},
                {"message_type": "final_response", "content": "Hi", "external_message_id": "a"},
            ],
            system_prompt={"external_prompt_id": "p", "components": [{"content": "Hi {{x}}"}], "variables": {"x": "1"}},
        )  # fmt: skip
        found = client.interactions.get(created.conversation_id)
        listed = client.interactions.list()
        products = client.products.list()
    assert created.success
    assert [message.status for message in created.messages] == ["created", "created"]
    assert len(created.system_prompt_component_ids) == 1
    assert [(message.role, message.content) for message in found.messages] == [
        ("user", "Hello"),
        ("final_response", "Hi"),
    ]
    assert created.conversation_id in [interaction.id for interaction in listed]
    assert products


@reads
def test_the_sdk_creates_users_organizations_ratings_and_events(local: LocalServer) -> None:
    with sdk(local) as client:
        product = client.products.list()[0].id
        client.messages.create(
            external_user_id="u", external_conversation_id="r", messages=[{"role": "user", "content": "x"}]
        )
        user = client.users.create(external_user_id="u-9", name="Ada")
        again = client.users.create(external_user_id="u-9", email="ada@example.org")
        changed = client.users.update(user.participant.id, phone="1")
        organization = client.organizations.create(external_organization_id="o", name="Org")
        event = client.events.create(event_type="upgrade", product_id=product, value="1", insert_id="i")
        repeated = client.events.create(event_type="upgrade", product_id=product, value="1", insert_id="i")
        rating = client.ratings.log(
            product_id=product, rating=5, rating_min=0, rating_max=5, external_conversation_id="r"
        )
        assert "u-9" in [participant.external_id for participant in client.users.list()]
    assert (again.participant.id, again.participant.name) == (user.participant.id, "Ada")
    assert changed.participant.phone == "1"
    assert (
        httpx.put(f"{local.url}/users/{user.participant.id}", content=b"[]", headers=local.headers).status_code == 400
    )
    assert httpx.put(f"{local.url}/users/nobody", json={}, headers=local.headers).status_code == 404
    assert organization.organization.name == "Org"
    assert event.event_id == repeated.event_id
    assert rating.success


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({}, "Authentication required"),
        ({"authorization": "Basic abc"}, "Invalid authorization header"),
        ({"authorization": "Bearer wrong"}, "Invalid API key"),
    ],
)
def test_requests_without_a_valid_key_are_rejected_with_a_reason(local: LocalServer, headers: Any, text: str) -> None:
    response = httpx.post(local.url + "/messages", json={}, headers=headers)
    assert response.status_code == 401
    assert response.json()["message"].startswith(text)


def test_a_valid_request_returns_201(local: LocalServer) -> None:
    response = local.post(body("created", *turn("r")))
    assert response.status_code == 201
    assert response.json()["success"] is True


def test_a_validation_error_names_the_path(local: LocalServer) -> None:
    response = local.post(body("c", {"messageType": "tool_call"}))
    assert response.status_code == 400
    assert response.json()["error"].startswith("Validation error: messages.0")
    assert response.json()["message"] == response.json()["error"]
    assert response.json()["success"] is False


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"[" * 100_000, b'{"a": NaN}', b'{"a": 1e999}', b'{"a": "\\ud800"}', b"\xff", b"[]", b"null"]
)
def test_a_body_that_is_not_a_json_object_returns_400(local: LocalServer, payload: bytes) -> None:
    for path in ("/messages", "/users", "/ratings"):
        assert local.post(payload, path).status_code == 400


def test_an_unknown_conversation_id_returns_404(local: LocalServer) -> None:
    payload = body("c", said("a", "x"), conversationId="33333333-3333-4333-8333-333333333333")
    response = local.post(payload)
    assert (response.status_code, response.json()["error"]) == (404, "Conversation not found")


def test_a_request_larger_than_the_store_returns_413(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "s.db", max_bytes=1024**2)) as store:
        client = studio_client(store)
        response = client.post("/api/v1/messages", json=body("c", said("a", "x" * 2 * 1024**2)))
        assert response.status_code == 413
        assert client.get("/openapi.json").json()["openapi"].startswith("3.")
