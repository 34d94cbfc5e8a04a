from __future__ import annotations

import json
from email.utils import formatdate

import pytest

from gati.exporters import http_outcome
from gati.exporters.base import Verdict


def verdict(status: int, error: str = "", items: int = 2) -> Verdict:
    body = json.dumps({"success": False, "error": error}).encode()
    return http_outcome.from_status(status, {}, body, items).verdict


@pytest.mark.parametrize("status", [301, 302, 307, 404, 405, 408, 409, 425, 429, 500, 502, 503, 504, 529])
def test_temporary_errors_are_retried(status: int):
    assert verdict(status) is Verdict.RETRY


@pytest.mark.parametrize("status", [401, 402, 403])
def test_refused_key_pauses(status: int):
    assert verdict(status) is Verdict.PAUSE


@pytest.mark.parametrize(("status", "error", "is_refused"), [
    (401, "", True), (402, "", False), (403, "", False), (400, "Validation error", False), (500, "", False),
])  # fmt: skip
def test_only_a_401_refuses_the_key(status: int, error: str, is_refused: bool):
    body = json.dumps({"success": False, "error": error}).encode()
    assert http_outcome.from_status(status, {}, body, 2).key_refused is is_refused


@pytest.mark.parametrize("status", [400, 413, 422])
def test_invalid_item_splits_and_is_rejected_alone(status: int):
    assert verdict(status, "Validation error: messages.1.messageType: Invalid", items=2) is Verdict.SPLIT
    assert verdict(status, "Validation error: messages.0.messageType: Invalid", items=1) is Verdict.REJECT


def test_invalid_argument_rejects_the_request_without_splitting():
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
def test_retry_after_formats(headers: dict[str, str], seconds: float | None):
    assert http_outcome.retry_after(headers) == seconds


def test_retry_after_as_a_date(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http_outcome.time, "time", lambda: 1_800_000_000.0)
    assert http_outcome.retry_after({"retry-after": formatdate(1_800_000_090, usegmt=True)}) == 90.0
    assert http_outcome.retry_after({"retry-after": formatdate(1_700_000_000, usegmt=True)}) == 0.0


@pytest.mark.parametrize(
    "body", [b'{"message": "Parent message not found"}', b'{"error": "unknown parentExternalMessageId"}']
)
def test_missing_parent_is_recognized(body: bytes):
    assert http_outcome.rejects_parent_link(400, body)
    assert http_outcome.rejects_parent_link(404, body)
    assert not http_outcome.rejects_parent_link(500, body)


@pytest.mark.parametrize("body", [b'{"error": "Prompt not found"}', b'{"message": "Missing variables: who"}'])
def test_a_rejected_prompt_is_recognized(body: bytes):
    assert [status for status in range(400, 520) if http_outcome.rejects_prompt(status, body)] == [400, 404, 422]
    assert not http_outcome.rejects_prompt(404, body[1:])
    assert not http_outcome.rejects_prompt(400, b'{"error": "Parent message not found"}')


@pytest.mark.parametrize(
    ("body", "error"),
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
def test_error_message_is_extracted(body: bytes, error: str):
    assert http_outcome.error_message(body) == error


ASKS = "is the address right?"


@pytest.mark.parametrize(
    ("status", "items", "expected", "reason"),
    [
        (302, 1, Verdict.RETRY, f"HTTP 302: redirected, and redirects are not followed: {ASKS}"),
        (399, 1, Verdict.RETRY, f"HTTP 399: redirected, and redirects are not followed: {ASKS}"),
        (400, 2, Verdict.SPLIT, "HTTP 400: refused"),
        (400, 1, Verdict.REJECT, "HTTP 400: refused"),
        (401, 1, Verdict.PAUSE, "HTTP 401: the key is refused"),
        (403, 1, Verdict.PAUSE, "HTTP 403: the key is refused"),
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
def test_verdict_and_reason_by_status(status: int, items: int, expected: Verdict, reason: str):
    outcome = http_outcome.from_status(status, {}, b'{"success": false}', items)
    assert (outcome.verdict, outcome.reason, outcome.retry_after) == (expected, reason, None)


FOREIGN = [
    b"",
    b"<html>Request blocked</html>",
    b"no parent, too large",
    b"[]",
    b"null",
    b"{}",
    b'{"status": "blocked"}',
]
"""Bodies that the API does not send."""


@pytest.mark.parametrize("body", FOREIGN)
@pytest.mark.parametrize("status", [400, 402, 403, 407, 410, 411, 413, 414, 418, 421, 422, 431, 451, 499])
def test_only_the_api_refuses_a_message_or_the_key(status: int, body: bytes):
    alone = http_outcome.from_status(status, {}, body, 1)
    assert (alone.verdict, alone.reason) == (Verdict.RETRY, f"HTTP {status}: not an answer of the API")
    assert http_outcome.from_status(status, {}, body, 2).verdict is (Verdict.SPLIT if status == 413 else Verdict.RETRY)
    assert not http_outcome.rejects_parent_link(status, body)
    assert http_outcome.rejects_size(status, body) == (status == 413)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", Verdict.PAUSE),
        (b'{"message": "Invalid API key"}', Verdict.PAUSE),
        (b"Invalid API key", Verdict.PAUSE),
        (b"Authentication required. Please provide a valid API key.\n", Verdict.PAUSE),
        (b"", Verdict.RETRY),
        (b"<html>Please log in</html>", Verdict.RETRY),
    ],
)
def test_a_refused_key_is_recognized_by_the_apis_body(body: bytes, expected: Verdict):
    assert http_outcome.from_status(401, {}, body, 1).verdict is expected


@pytest.mark.parametrize("status", [302, 400, 401, 404, 413, 418, 429, 503])
def test_retry_after_is_part_of_the_outcome(status: int):
    for body in (b"", b'{"error": "x"}'):
        assert http_outcome.from_status(status, {"retry-after": "7"}, body, 1).retry_after == 7.0


@pytest.mark.parametrize(
    "name",
    ["productId", "externalUserId", "externalConversationId", "externalOrganizationId", "sampleRate", "forceSample",
     "systemPrompt"],
)  # fmt: skip
def test_request_arguments_are_recognized_by_name(name: str):
    assert verdict(422, f"{name}: Required") is Verdict.REJECT
    assert verdict(422, f"messages.3.{name}: Required") is Verdict.SPLIT  # one of its messages
    assert verdict(422, f"the{name}s: Required") is Verdict.SPLIT


def test_missing_parent_requires_status_and_wording():
    body = b'{"error": "PARENT not found"}'
    assert [status for status in (400, 401, 404, 413, 422, 500) if http_outcome.rejects_parent_link(status, body)] == [
        400, 404, 422,
    ]  # fmt: skip
    assert not http_outcome.rejects_parent_link(400, b'{"error": "not found"}')


@pytest.mark.parametrize(
    "error",
    ["Request too large", "Body is TOO BIG", "message too long", "size of the body", "Payload", "limit exceeded"],
)
def test_size_errors_are_recognized_by_wording(error: str):
    body = json.dumps({"error": error}).encode()
    assert [status for status in (400, 404, 413, 422, 500) if http_outcome.rejects_size(status, body)] == [
        400,
        413,
        422,
    ]
    assert not http_outcome.rejects_size(400, b'{"error": "resized"}')


def test_error_message_is_truncated():
    assert http_outcome.error_message(b"x" * 20_000) == "x" * 10_000
    assert http_outcome.error_message(b"[" * 100_000) == "[" * 10_000  # too deep for any JSON parser
    assert http_outcome.error_message(b'{"message": "", "error": "b"}') == "b"


def test_impossible_retry_after_date_is_ignored():
    assert http_outcome.retry_after({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}) == 3600.0
    for year in (99_999, 10**18):
        assert http_outcome.retry_after({"retry-after": f"Fri, 31 Dec {year} 23:59:59 GMT"}) is None
