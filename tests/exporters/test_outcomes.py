from __future__ import annotations

import json
from email.utils import formatdate

import pytest

from gati.exporters import outcomes
from gati.exporters.base import Verdict


def verdict(status: int, said: str = "", items: int = 2) -> Verdict:
    body = json.dumps({"success": False, "error": said}).encode()
    return outcomes.of_status(status, {}, body, items).verdict


@pytest.mark.parametrize("status", [301, 302, 307, 404, 405, 408, 409, 425, 429, 500, 502, 503, 504, 529])
def test_what_may_pass_is_tried_again(status: int):
    assert verdict(status) is Verdict.RETRY


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_refused_key_pauses(status: int):
    assert verdict(status) is Verdict.PAUSE


@pytest.mark.parametrize("status", [400, 413, 422])
def test_one_bad_item_costs_only_itself(status: int):
    assert verdict(status, "Validation error: messages.1.messageType: Invalid", items=2) is Verdict.SPLIT
    assert verdict(status, "Validation error: messages.0.messageType: Invalid", items=1) is Verdict.REJECT


def test_a_bad_argument_of_the_request_is_not_searched_for_in_its_messages():
    outcome = outcomes.of_status(400, {}, b'{"error": "Validation error: productId: Invalid uuid s3cret"}', 100)
    assert outcome.verdict is Verdict.REJECT
    assert outcome.reason == "HTTP 400: productId"


@pytest.mark.parametrize("status", [400, 401, 404, 413, 418, 429, 500])
def test_reasons_never_quote_the_server(status: int):
    outcome = outcomes.of_status(status, {"x": "s3cret"}, b'{"error": "Invalid: s3cret"}', 2)
    assert "s3cret" not in outcome.reason


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "1e9"}, 3600.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Wed, 99 Foo 2026 99:99:99 GMT"}, None),
    ],
)
def test_retry_after_in_each_of_its_forms(headers: dict[str, str], seconds: float | None):
    assert outcomes.retry_after(headers) == seconds


def test_retry_after_as_a_date(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(outcomes.time, "time", lambda: 1_800_000_000.0)
    assert outcomes.retry_after({"retry-after": formatdate(1_800_000_090, usegmt=True)}) == 90.0
    assert outcomes.retry_after({"retry-after": formatdate(1_700_000_000, usegmt=True)}) == 0.0


@pytest.mark.parametrize(
    "body", [b'{"message": "Parent message not found"}', b'{"error": "unknown parentExternalMessageId"}', b"no parent"]
)
def test_a_missing_parent_is_noticed(body: bytes):
    assert outcomes.names_a_parent(400, body)
    assert outcomes.names_a_parent(404, body)
    assert not outcomes.names_a_parent(500, body)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"message": "a", "error": "b"}', "a"),
        (b'{"error": "b"}', "b"),
        (b'{"detail": [{"loc": ["body"]}]}', '[{"loc": ["body"]}]'),
        (b"plain", "plain"),
        (b"[1]", "[1]"),
        (b"\xff", "\ufffd"),
    ],
)
def test_what_a_server_says_is_found(body: bytes, said: str):
    assert outcomes.message(body) == said
