from __future__ import annotations

import json
from email.utils import formatdate

import pytest

from gati.exporters import http_outcome
from gati.exporters.base import Verdict


def verdict(status: int, said: str = "", items: int = 2) -> Verdict:
    body = json.dumps({"success": False, "error": said}).encode()
    return http_outcome.from_status(status, {}, body, items).verdict


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
    outcome = http_outcome.from_status(400, {}, b'{"error": "Validation error: productId: Invalid uuid s3cret"}', 100)
    assert outcome.verdict is Verdict.REJECT
    assert outcome.reason == "HTTP 400: productId"


@pytest.mark.parametrize("status", [400, 401, 404, 413, 418, 429, 500])
def test_reasons_never_quote_the_server(status: int):
    outcome = http_outcome.from_status(status, {"x": "s3cret"}, b'{"error": "Invalid: s3cret"}', 2)
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
    assert http_outcome.retry_after(headers) == seconds


def test_retry_after_as_a_date(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http_outcome.time, "time", lambda: 1_800_000_000.0)
    assert http_outcome.retry_after({"retry-after": formatdate(1_800_000_090, usegmt=True)}) == 90.0
    assert http_outcome.retry_after({"retry-after": formatdate(1_700_000_000, usegmt=True)}) == 0.0


@pytest.mark.parametrize(
    "body", [b'{"message": "Parent message not found"}', b'{"error": "unknown parentExternalMessageId"}', b"no parent"]
)
def test_a_missing_parent_is_noticed(body: bytes):
    assert http_outcome.rejects_parent_link(400, body)
    assert http_outcome.rejects_parent_link(404, body)
    assert not http_outcome.rejects_parent_link(500, body)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"message": "a", "error": "b"}', "a"),
        (b'{"error": "b"}', "b"),
        (b'{"detail": [{"loc": ["body"]}]}', '[{"loc": ["body"]}]'),
        (b"plain", "plain"),
        (b"[1]", "[1]"),
        (b"\xff", "\ufffd"),
        (b'{"error": "\\ud800", "at": NaN}', "\ud800"),
    ],
)
def test_what_a_server_says_is_found(body: bytes, said: str):
    assert http_outcome.error_message(body) == said


ASKS = "is the address right?"


@pytest.mark.parametrize(
    ("status", "items", "expected", "reason"),
    [
        (302, 1, Verdict.RETRY, f"HTTP 302: redirected, and redirects are not followed: {ASKS}"),
        (399, 1, Verdict.RETRY, f"HTTP 399: redirected, and redirects are not followed: {ASKS}"),
        (400, 2, Verdict.SPLIT, "HTTP 400: refused"),
        (400, 1, Verdict.REJECT, "HTTP 400: refused"),
        (401, 1, Verdict.PAUSE, "HTTP 401: the key is refused"),
        (404, 1, Verdict.RETRY, f"HTTP 404: {ASKS}"),
        (405, 1, Verdict.RETRY, f"HTTP 405: {ASKS}"),
        (413, 2, Verdict.SPLIT, "HTTP 413: too large"),
        (413, 1, Verdict.REJECT, "HTTP 413: too large"),
        (418, 2, Verdict.REJECT, "HTTP 418: refused"),
        (499, 1, Verdict.REJECT, "HTTP 499: refused"),
        (429, 1, Verdict.RETRY, "HTTP 429"),
        (500, 1, Verdict.RETRY, "HTTP 500"),
    ],
)
def test_each_answer_has_its_verdict_and_its_reason(status: int, items: int, expected: Verdict, reason: str):
    outcome = http_outcome.from_status(status, {}, b"", items)
    assert (outcome.verdict, outcome.reason, outcome.retry_after) == (expected, reason, None)


@pytest.mark.parametrize("status", [401, 429, 503])
def test_a_wait_that_the_server_asks_for_is_handed_on(status: int):
    assert http_outcome.from_status(status, {"retry-after": "7"}, b"", 1).retry_after == 7.0


@pytest.mark.parametrize(
    "name",
    ["productId", "externalUserId", "externalConversationId", "externalOrganizationId", "sampleRate", "forceSample",
     "systemPrompt"],
)  # fmt: skip
def test_any_argument_of_the_request_is_known_by_its_name(name: str):
    assert verdict(422, f"{name}: Required") is Verdict.REJECT
    assert verdict(422, f"messages.3.{name}: Required") is Verdict.SPLIT  # one of its messages
    assert verdict(422, f"the{name}s: Required") is Verdict.SPLIT


def test_a_missing_parent_is_noticed_by_the_status_and_the_words():
    body = b'{"error": "PARENT not found"}'
    assert [status for status in (400, 401, 404, 413, 422, 500) if http_outcome.rejects_parent_link(status, body)] == [
        400, 404, 422,
    ]  # fmt: skip
    assert not http_outcome.rejects_parent_link(400, b'{"error": "not found"}')


@pytest.mark.parametrize(
    "said",
    ["Request too large", "Body is TOO BIG", "message too long", "size of the body", "Payload", "limit exceeded"],
)
def test_a_refusal_for_its_size_is_noticed_by_the_words(said: str):
    body = json.dumps({"error": said}).encode()
    assert [status for status in (400, 404, 413, 422, 500) if http_outcome.rejects_size(status, body)] == [
        400,
        413,
        422,
    ]
    assert not http_outcome.rejects_size(400, b'{"error": "resized"}')


def test_what_a_server_says_is_read_so_far_only():
    assert http_outcome.error_message(b"x" * 20_000) == "x" * 10_000
    assert http_outcome.error_message(b"[" * 100_000) == "[" * 10_000  # deeper than any reader of JSON goes
    assert http_outcome.error_message(b'{"message": "", "error": "b"}') == "b"


def test_a_date_that_no_clock_knows_is_no_wait():
    assert http_outcome.retry_after({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}) == 3600.0
    for year in (99_999, 10**18):
        assert http_outcome.retry_after({"retry-after": f"Fri, 31 Dec {year} 23:59:59 GMT"}) is None
