"""The pages of prompts: managed and recovered ones together, with versions, their sums, and activation."""

from __future__ import annotations

import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from gati.store import prompt_records
from gati.store.store import Store
from tests.servers import studio_client
from tests.store.bodies import body, said, step

PRODUCT = "0b9f1c5e-7a44-4c63-9f0e-5f2b1f7c3a10"


@pytest.fixture
def store(any_store: Store) -> Store:
    return any_store


@pytest.fixture
def pages(store: Store) -> TestClient:
    return studio_client(store)


def create(store: Store, text: str) -> str:
    components = [{"content": text}]
    created = prompt_records.create_prompt(
        store, {"name": "Support", "externalPromptId": "support/agent", "role": "agent", "components": components}
    )
    version: str = created["versionId"]
    return version


def call(store: Store, conversation: str, prompt: Any, cost: float | None = 0.5) -> None:
    properties = {"tokens_in": 10, "tokens_out": 5, "cost_usd": cost, "status": "completed"}
    messages = [
        said(f"{conversation}:q", "x"),
        step(f"{conversation}:m", "llm", f"{conversation}:q", 1, properties=properties),
    ]
    store.ingest(body(conversation, *messages, systemPrompt=prompt))


def page_text(pages: TestClient, address: str) -> str:
    answer = pages.get(address)
    assert answer.status_code == 200
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text))


def prompt_address(pages: TestClient, name: str) -> str:
    found = re.search(rf'href="(/prompts/[^"]+)">{name}<', pages.get("/prompts").text)
    assert found is not None
    return found[1]


def test_managed_and_recovered_prompts_are_in_one_list(pages: TestClient, store: Store):
    create(store, "You help {{who}}.")
    call(store, "c", {"externalPromptId": "tutor", "content": "Teach."})
    text = page_text(pages, "/prompts")
    assert re.search(r"support/agent managed 1 – 0 –", text)
    assert re.search(r"tutor recovered 1 – 1 ", text)


def test_a_version_has_the_sums_of_its_calls(pages: TestClient, store: Store):
    create(store, "You help {{who}}.")
    for conversation in ("a", "b"):
        call(store, conversation, {"externalPromptId": "support/agent", "variables": {"who": conversation}})
    text = page_text(pages, prompt_address(pages, "support/agent"))
    assert "2 model calls" in text
    assert "2 conversations" in text
    assert "20 tokens in, 10 out" in text
    assert "$1" in text
    call(store, "d", {"externalPromptId": "support/agent"}, cost=None)
    assert "≥" in page_text(pages, prompt_address(pages, "support/agent"))


def test_a_text_from_messages_that_a_version_has_creates_no_version(pages: TestClient, store: Store):
    create(store, "You help {{who}}.")
    components = [{"content": "You help {{who}}.", "type": "system"}]
    call(store, "c", {"externalPromptId": "support/agent", "components": components, "variables": {"who": "a"}})
    assert "support/agent managed 1 – 1 " in page_text(pages, "/prompts")


def test_a_person_activates_a_version(pages: TestClient, store: Store):
    create(store, "First.")
    create(store, "Second.")
    address = prompt_address(pages, "support/agent")
    form = re.search(r'name="version" value="([^"]+)"', pages.get(f"{address}?version=2").text)
    assert form is not None
    answer = pages.post(f"{address}/activate", data={"version": form[1], "number": "2"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{address}?version=2")
    text = page_text(pages, f"{address}?version=2")
    assert "Version 2 active" in text
    assert "Activate version" not in text
    assert "Activate version 1" in page_text(pages, f"{address}?version=1")
    found = prompt_records.read_prompt(store, "support/agent")
    assert found is not None
    assert found["composedPrompt"] == "Second."


@pytest.mark.parametrize("fields", [{}, {"version": "missing"}, {"number": "1"}])
def test_an_unknown_version_is_not_activated(pages: TestClient, store: Store, fields: dict[str, str]):
    create(store, "First.")
    assert pages.post(f"{prompt_address(pages, 'support/agent')}/activate", data=fields).status_code == 404


def test_another_sites_form_cannot_activate_a_version(pages: TestClient, store: Store):
    version = create(store, "First.")
    address = prompt_address(pages, "support/agent")
    answer = pages.post(f"{address}/activate", data={"version": version}, headers={"origin": "http://evil.example"})
    assert answer.status_code == 403
    assert prompt_records.list_records(store, active_only=True) == []


def test_the_form_needs_the_token(pages: TestClient, store: Store):
    version = create(store, "First.")
    pages.headers.pop("authorization")
    assert pages.post("/prompts/x/activate", data={"version": version}).status_code == 401
