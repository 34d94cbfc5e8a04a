"""The contract is the only list of message types, roles and keys: encoders, store and API schema agree with it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import gati
from gati import contract
from gati.contract import Kind
from gati.exporters.events_encoder import EventsEncoder
from gati.exporters.greenflash.encoder import GreenflashEncoder
from gati.settings import load
from gati.store.store import Store
from tests.pipeline.test_mask import example_turn

API = Path(gati.__file__).parent / "studio" / "api" / "messages.schema.json"


def message_schema() -> dict[str, Any]:
    request = json.loads(API.read_text("utf-8"))["request"]
    properties: dict[str, Any] = request["properties"]["messages"]["items"]["properties"]
    return properties


def test_every_message_type_is_one_that_the_api_accepts() -> None:
    assert set(contract.MESSAGE_TYPES) == set(message_schema()["messageType"]["enum"])


def test_every_role_is_one_that_the_api_accepts() -> None:
    assert set(contract.ROLES) == set(message_schema()["role"]["enum"])
    assert set(contract.ROLES.values()) <= set(contract.MESSAGE_TYPES)


def test_message_types_use_listed_properties_only() -> None:
    used = {name for kind in contract.MESSAGE_TYPES.values() for name in kind.properties}
    assert used <= set(contract.PROPERTIES)


def test_every_property_is_used_and_described() -> None:
    used = {name for kind in contract.MESSAGE_TYPES.values() for name in kind.properties}
    assert set(contract.PROPERTIES) - used == {
        "data",
        "error_type",
        "metadata",
        "parent_id",
        "span_id",
        "tags",
        "trace_id",
    }
    assert all(known.meaning for known in contract.PROPERTIES.values())


def test_the_store_has_a_column_for_each_property_that_names_one(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "store.db")):
        pass
    with closing(sqlite3.connect(tmp_path / "store.db")) as db:
        columns = {row[1] for row in db.execute("PRAGMA table_info(messages)")}
    assert set(contract.columns()) <= columns


@pytest.mark.parametrize("options", [{}, {"capture_content": False}, {"detail": "conversation"}])
def test_the_greenflash_encoder_writes_no_key_that_the_contract_does_not_know(options: dict[str, Any]) -> None:
    requests = GreenflashEncoder(load(local=False, environment="test", **options)).encode([example_turn()])
    messages = [message for request in requests for message in request.body["messages"]]
    assert messages
    assert [path for message in messages for path in contract.unknown_keys(message)] == []


@pytest.mark.parametrize("options", [{}, {"capture_content": False}, {"detail": "conversation"}])
def test_the_events_encoder_writes_no_key_that_the_contract_does_not_know(options: dict[str, Any]) -> None:
    (request, *_) = EventsEncoder(load(local=False, **options)).encode([example_turn()])
    known = {*contract.EVENT_FIELDS, "tool_input", "tool_output", "data"}
    for event in request.body["events"]:
        assert set(event) - known == set()
        assert set(event["data"]) - known == set()


def test_an_unknown_key_is_found_at_each_level() -> None:
    message = {"messageType": "llm", "shape": 1, "properties": {"colour": 1}, "input": {"x": 1}, "output": {"text": ""}}
    assert contract.unknown_keys(message) == ["llm.shape", "llm.properties.colour", "llm.input.x"]
    assert contract.unknown_keys({"messageType": "dance"}) == ["dance"]
    assert contract.unknown_keys({"messageType": "tool_call", "input": {"anything": 1}, "toolName": "t"}) == []


def test_without_content_only_kinds_other_than_text_stay() -> None:
    kept = contract.names_without_text(contract.PROPERTIES)
    assert {"status", "prompt_version", "node", "latency_ms"} <= kept
    assert kept.isdisjoint({"tags", "metadata", "data", "attachments", "parameters"})
    assert all(contract.PROPERTIES[name].kind is not Kind.TEXT for name in kept)
