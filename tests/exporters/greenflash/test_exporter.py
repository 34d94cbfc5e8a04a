"""The exporter with the SDK, over HTTP, against the strict local server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import greenflash as sdk
import httpx
import orjson
import pytest

from gati import events as ev
from gati.exporters.base import Request, Verdict
from gati.exporters.greenflash import exporter as module
from gati.exporters.greenflash.exporter import GreenflashExporter, without_parent_links
from gati.pipeline.codec import pack, unpack_lazily
from gati.settings import Settings
from gati.testing.server import fault_injection as faults
from tests.exporters.turns import ROOT, agent_turn, run_id, settings, tool, turn, user_text
from tests.servers import LocalServer


def options(server: LocalServer, **more: Any) -> Settings:
    return settings(**{"api_key": server.api_key, "base_url": server.url, "timeout": 5.0, **more})


@pytest.fixture
def exporter(greenflash: LocalServer) -> Iterator[GreenflashExporter]:
    made = GreenflashExporter(options(greenflash))
    yield made
    made.close()


def request(exporter: GreenflashExporter, *items: ev.Item) -> Request:
    (made,) = exporter.encode(items or (agent_turn(),))
    return made


def test_turn_arrives_unchanged(greenflash: LocalServer, exporter: GreenflashExporter):
    sent = request(exporter)
    assert exporter.send(sent).verdict is Verdict.OK
    stored = greenflash.messages("c-1")
    assert [m["externalMessageId"] for m in stored] == [m["externalMessageId"] for m in sent.body["messages"]]
    assert stored[-2]["content"] == "The square root of 144 is 12."


class CapturingTransport(httpx.BaseTransport):
    """A transport of the user's own client."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(201, json={"success": True, "conversationId": "c", "messages": []}, request=request)


def test_bytes_are_sent_like_the_arguments_of_messages_create(monkeypatch: pytest.MonkeyPatch):
    transport = CapturingTransport()
    client = sdk.Greenflash(
        api_key="gf_test",
        base_url="http://greenflash.test/api/v1",
        default_headers={"x-own": "1"},
        http_client=httpx.Client(transport=transport),
    )
    exporter = GreenflashExporter(settings(api_key=None, client=client))
    sent = exporter.encode([turn(tool(3, output={"output": "ü \u2028 €"}), messages=[user_text("Grüße")])])[0]
    assert exporter.send(unpack_lazily(pack(sent))).verdict is Verdict.OK
    monkeypatch.setattr(module, "posts_bytes", lambda client: False)  # an SDK whose `post` takes no bytes
    assert exporter.send(unpack_lazily(pack(sent))).verdict is Verdict.OK
    posted, created = transport.requests
    assert (posted.method, posted.url) == (created.method, created.url)
    assert orjson.loads(posted.content) == orjson.loads(created.content)
    assert posted.headers["x-own"] == "1"
    own = ("x-stainless-raw-response", "content-length")
    first, second = ({k: v for k, v in one.headers.items() if k not in own} for one in (posted, created))
    assert first == second
    exporter.close()


def test_resent_request_is_stored_once(greenflash: LocalServer, exporter: GreenflashExporter):
    sent = request(exporter)
    greenflash.faults.add(faults.connection_reset(after_commit=True))
    assert exporter.send(sent).verdict is Verdict.RETRY
    assert exporter.send(sent).verdict is Verdict.OK
    assert len(greenflash.messages("c-1")) == 12


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("users", {"external_user_id": "u-7", "name": "Bob"}),
        ("organizations", {"external_organization_id": "o-1", "name": "ACME"}),
        ("ratings", {"rating": 4, "rating_min": 0, "rating_max": 5, "external_conversation_id": "c-1"}),
        ("events", {"event_type": "upgrade", "value": "149.00", "value_type": "currency", "influence": "positive"}),
    ],
)
def test_each_action_arrives(
    greenflash: LocalServer, exporter: GreenflashExporter, endpoint: Any, body: dict[str, Any]
):
    assert exporter.send(request(exporter)).verdict is Verdict.OK
    assert exporter.send(request(exporter, ev.Action(endpoint, body))).verdict is Verdict.OK
    assert len(greenflash.bodies(f"/api/v1/{endpoint}")) == 1


def test_action_with_invalid_arguments_is_rejected(exporter: GreenflashExporter):
    outcome = exporter.send(request(exporter, ev.Action("ratings", {"stars": 5})))
    assert (outcome.verdict, outcome.reason) == (Verdict.REJECT, "the SDK refuses it: TypeError")


FAULTS: list[tuple[faults.InjectedFault, Verdict, float | None]] = [
    (faults.failing(500), Verdict.RETRY, None),
    (faults.failing(503, headers={"Retry-After": "3"}), Verdict.RETRY, 3.0),
    (faults.failing(408), Verdict.RETRY, None),
    (faults.failing(409), Verdict.RETRY, None),
    (faults.rate_limited("7"), Verdict.RETRY, 7.0),
    (faults.rate_limited("250", header="retry-after-ms"), Verdict.RETRY, 0.25),
    (faults.rate_limited(None), Verdict.RETRY, None),
    (faults.unauthorized(401), Verdict.PAUSE, None),
    (faults.unauthorized(403), Verdict.PAUSE, None),
    (faults.html(200), Verdict.RETRY, None),
    (faults.empty(204), Verdict.RETRY, None),
    (faults.json_value([]), Verdict.RETRY, None),
    (faults.json_value(None), Verdict.RETRY, None),
    (faults.json_value({"success": False}), Verdict.RETRY, None),
    (faults.json_value({"success": True}), Verdict.RETRY, None),
    (faults.redirect(), Verdict.RETRY, None),
    (faults.connection_reset(), Verdict.RETRY, None),
    (faults.too_large(items=3, times=1), Verdict.SPLIT, None),
    (faults.bad_message(ROOT, times=1), Verdict.SPLIT, None),
    (faults.bad_message(ROOT, status=422, times=1), Verdict.SPLIT, None),
]


@pytest.mark.parametrize(
    ("fault", "verdict", "wait"), FAULTS, ids=[f"{n}-{fault.name}" for n, (fault, *_) in enumerate(FAULTS)]
)
def test_verdict_of_each_fault_and_delivery_afterwards(
    greenflash: LocalServer,
    exporter: GreenflashExporter,
    fault: faults.InjectedFault,
    verdict: Verdict,
    wait: float | None,
):
    sent = request(exporter)
    greenflash.faults.add(fault)
    outcome = exporter.send(sent)
    assert (outcome.verdict, outcome.retry_after) == (verdict, wait)
    assert exporter.send(sent).verdict is Verdict.OK
    assert len(greenflash.messages("c-1")) == 12


def test_redirect_is_not_followed(greenflash: LocalServer, exporter: GreenflashExporter):
    greenflash.faults.add(faults.redirect("/api/v1/messages"))
    exporter.send(request(exporter))
    assert greenflash.requests == []


def test_one_attempt_is_one_request(greenflash: LocalServer, exporter: GreenflashExporter):
    greenflash.faults.add(faults.failing(500, times=None))
    exporter.send(request(exporter))
    assert sum(greenflash.faults.hits.values()) == 1


def test_silent_server_times_out(greenflash: LocalServer):
    exporter = GreenflashExporter(options(greenflash, timeout=0.2))
    greenflash.faults.add(faults.black_hole())
    outcome = exporter.send(request(exporter))
    assert (outcome.verdict, outcome.reason) == (Verdict.RETRY, "no answer: ReadTimeout")
    exporter.close()


def test_sampled_request_needs_no_conversation_id(greenflash: LocalServer):
    exporter = GreenflashExporter(options(greenflash, sample_rate=0.5, force_sample=False))
    greenflash.faults.add(faults.json_value({"success": True}))
    assert exporter.send(request(exporter)).verdict is Verdict.OK
    exporter.close()


def test_unknown_parent_is_kept_as_a_property(greenflash: LocalServer, exporter: GreenflashExporter):
    exporter.encode([agent_turn()])  # never sent
    late = ev.Turn(ROOT, ev.Conversation("c-1", "u-7"), events=[tool(9, run_id(4))], partial=True)
    greenflash.faults.add(greenflash.faults.create("unknown_parent"))
    assert exporter.send(request(exporter, late)).verdict is Verdict.OK
    call, result = greenflash.messages("c-1")
    assert "parentExternalMessageId" not in call
    assert call["properties"]["parent_id"] == run_id(4)
    assert result["parentExternalMessageId"] == run_id(9)


def test_all_links_are_removed_if_the_server_accepts_none(greenflash: LocalServer, exporter: GreenflashExporter):
    greenflash.faults.add(faults.no_parents(404))
    assert exporter.send(request(exporter)).verdict is Verdict.OK
    stored = greenflash.messages("c-1")
    assert not [m for m in stored if "parentExternalMessageId" in m]
    assert stored[1]["properties"]["parent_id"] == f"{ROOT}:user"


def test_only_the_link_named_by_the_server_is_removed():
    body = {"messages": [{"externalMessageId": "b", "parentExternalMessageId": "a"}, {"externalMessageId": "c", "parentExternalMessageId": "x"}]}  # fmt: skip
    assert without_parent_links(body, "parent a not found", False)["messages"] == [
        {"externalMessageId": "b", "properties": {"parent_id": "a"}},
        {"externalMessageId": "c", "parentExternalMessageId": "x"},
    ]


@pytest.mark.parametrize("status", [413, 400])
def test_single_message_that_is_too_large_is_truncated(
    greenflash: LocalServer, exporter: GreenflashExporter, status: int
):
    greenflash.faults.add(faults.too_large(size=4000, status=status))
    alone = ev.Turn(ROOT, ev.Conversation("c-1"), messages=[user_text("x" * 60_000)])
    assert exporter.send(request(exporter, alone)).verdict is Verdict.OK
    assert greenflash.messages("c-1")[0]["content"].endswith("60000 bytes in all]")


def test_invalid_message_among_a_hundred_is_rejected_alone(greenflash: LocalServer, exporter: GreenflashExporter):
    bad = run_id(150)
    greenflash.faults.add(faults.bad_message(bad))
    pending = exporter.encode([turn(*[tool(n, at=n) for n in range(100, 148)], tool(150, at=150))])
    rejected = []
    while pending:
        sent = pending.pop(0)
        outcome = exporter.send(sent)
        if outcome.verdict is Verdict.SPLIT:
            pending = [*(exporter.split(sent) or ()), *pending]
        elif outcome.verdict is Verdict.REJECT:
            rejected += [m["externalMessageId"] for m in sent.body["messages"]]
    assert rejected == [bad]
    assert len(greenflash.messages("c-1")) == 101


@pytest.mark.parametrize("key", ["gf_ü", "gf_a b", "gf_a\nb"])
def test_invalid_key_pauses_without_a_request(greenflash: LocalServer, key: str):
    accepted = options(greenflash)
    key_type = type(accepted.api_key)
    # `init` refuses most such keys; a client that the user hands over may have them.
    exporter = GreenflashExporter(accepted.model_copy(update={"api_key": key_type(key)}))
    outcome = exporter.send(request(exporter))
    assert (outcome.verdict, outcome.reason) == (Verdict.PAUSE, "the API key contains invalid characters")
    assert greenflash.requests == []


def test_wrong_key_pauses(greenflash: LocalServer):
    exporter = GreenflashExporter(options(greenflash, api_key="gf_wrong"))
    assert exporter.send(request(exporter)).verdict is Verdict.PAUSE
    exporter.close()


def test_unreachable_server_is_retried():
    exporter = GreenflashExporter(settings(base_url="http://127.0.0.1:9"))
    assert exporter.send(request(exporter)).reason == "no answer: ConnectError"
    exporter.close()


def test_after_close_nothing_is_sent(greenflash: LocalServer, exporter: GreenflashExporter):
    exporter.close()
    assert exporter.send(request(exporter)).verdict is Verdict.RETRY
    assert greenflash.requests == []


def test_unserializable_body_does_not_raise(exporter: GreenflashExporter):
    sent = request(exporter)
    body = sent.body
    body["messages"][0]["output"] = {"x": object()}
    sent = replace(sent, body=body)
    assert exporter.send(sent).verdict is Verdict.SPLIT


def test_forked_child_creates_a_client_and_keeps_the_parents_open(
    greenflash: LocalServer, exporter: GreenflashExporter
):
    sent = request(exporter)
    exporter.send(sent)
    inherited = exporter._sdk_client()
    exporter.after_fork()
    assert exporter.send(sent).verdict is Verdict.OK
    assert exporter._sdk_client() is not inherited
    assert inherited is not None
    assert not inherited.is_closed()
    inherited.close()


def test_threads_share_one_exporter(greenflash: LocalServer, exporter: GreenflashExporter):
    sent = [request(exporter, agent_turn(root=run_id(n), conversation=f"c-{n}")) for n in range(500, 520)]
    outcomes: list[Verdict] = []
    threads = [threading.Thread(target=lambda r=r: outcomes.append(exporter.send(r).verdict)) for r in sent]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [Verdict.OK] * 20
    assert len(greenflash.messages()) == 240


def test_accounts_differ_by_key_and_address_and_reveal_neither():
    def account(**more: Any) -> str:
        return GreenflashExporter(settings(**more)).account

    account_one = account(api_key="gf_one")
    assert account_one == account(api_key=" gf_one ", base_url="https://www.greenflash.ai/api/v1/")
    assert len({account_one, account(api_key="gf_two"), account(api_key="gf_one", base_url="http://x.test")}) == 3
    assert "gf_one" not in account_one
    client = sdk.Greenflash(api_key="gf_one")
    assert GreenflashExporter(settings(api_key=None, client=client)).account == account_one


@pytest.mark.parametrize("kind", [sdk.Greenflash, sdk.AsyncGreenflash])
def test_settings_of_a_users_client_are_copied(greenflash: LocalServer, kind: Any):
    client = kind(api_key=greenflash.api_key, base_url=greenflash.url, default_headers={"X-Team": "a"})
    exporter = GreenflashExporter(settings(api_key=None, client=client))
    close = client.close()
    if close is not None:
        asyncio.run(close)
    assert exporter.send(request(exporter)).verdict is Verdict.OK
    sender = exporter._sdk_client()
    assert sender is not None
    assert sender.default_headers["X-Team"] == "a"
    assert sender.max_retries == 0
    exporter.close()


def test_users_transport_is_used_and_not_closed(greenflash: LocalServer):
    seen: list[httpx.Request] = []

    class Watching(httpx.HTTPTransport):
        closed = False

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            seen.append(request)
            return super().handle_request(request)

        def close(self) -> None:
            self.closed = True
            super().close()

    transport = Watching()
    http = httpx.Client(transport=transport, headers={"X-Team": "a"})
    client = sdk.Greenflash(api_key=greenflash.api_key, base_url=greenflash.url, http_client=http)
    exporter = GreenflashExporter(settings(api_key=None, client=client))
    assert exporter.send(request(exporter)).verdict is Verdict.OK
    exporter.close()
    assert [r.headers["x-team"] for r in seen] == ["a"]
    assert not transport.closed
    http.close()
