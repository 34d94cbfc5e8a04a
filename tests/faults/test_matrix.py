"""Every kind of fault over real HTTP: afterwards the server has every message exactly once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gati import observe
from gati.testing.server import fault_injection as faults
from gati.testing.server.fault_injection import InjectedFault
from tests.faults.chat_driver import ChatDriver
from tests.faults.conftest import Init
from tests.servers import LocalServer, greenflash_server

PASSING: dict[str, list[InjectedFault]] = {
    "reset before the commit": [faults.connection_reset(times=3)],
    "reset after the commit": [faults.connection_reset(after_commit=True, times=3)],
    "timeout before the commit": [faults.black_hole(times=2)],
    "timeout after the commit": [faults.black_hole(after_commit=True, times=2)],
    "408": [faults.failing(408, times=3)],
    "409": [faults.failing(409, times=3)],
    "425": [faults.failing(425, times=3)],
    "429 in seconds": [faults.rate_limited("1", times=2)],
    "429 with zero seconds": [faults.rate_limited("0", times=2)],
    "429 with a fraction": [faults.rate_limited("0.05", times=2)],
    "429 with a date": [faults.rate_limited(faults.http_date(1), times=2)],
    "429 with a past date": [faults.rate_limited(faults.http_date(-1000), times=2)],
    "429 in milliseconds": [faults.rate_limited("50", header="retry-after-ms", times=2)],
    "429 with an invalid value": [faults.rate_limited("soon", times=2)],
    "429 with an endless wait": [faults.rate_limited("1e400", times=1)],
    "429 without Retry-After": [faults.rate_limited(None, times=2)],
    "500": [faults.failing(500, times=5)],
    "502 in HTML": [faults.html(502, times=3)],
    "503": [faults.failing(503, times=5)],
    "HTML with 200": [faults.html(times=3)],
    "empty 204": [faults.empty(times=3)],
    "empty 200": [faults.empty(200, times=3)],
    "null with 200": [faults.json_value(None, times=3)],
    "a list with 200": [faults.json_value([], times=3)],
    "success false with 200": [faults.json_value({"success": False}, times=3)],
    "a list of some messages": [faults.partial_answer(1, times=2)],
    "an empty list": [faults.partial_answer(0, times=2)],
    "a list without ids": [faults.partial_answer(1, ids=False, times=2)],
    "an unknown status": [faults.partial_answer(None, status="queued", times=2)],
    "an unknown status without ids": [faults.partial_answer(1, ids=False, status="failed", times=2)],
    "400 in HTML": [faults.html(400, times=3)],
    "403 in HTML": [faults.html(403, times=3)],
    "404 in HTML": [faults.html(404, times=3)],
    "413 in HTML": [faults.html(413, times=1)],
    "451 in HTML": [faults.html(451, times=3)],
    "redirect": [faults.redirect(times=3)],
    "permanent redirect": [faults.redirect(status=308, times=3)],
    "trickling headers": [faults.trickling("headers", 0.05)],
    "trickling body": [faults.trickling("body", 0.05, times=2)],
    "trickling chunks": [faults.trickling("chunks", 0.05)],
    "endless body": [faults.endless_body(times=2)],
    "endless 100": [faults.endless_informational()],
    "endless 103": [faults.endless_informational(103)],
    "gzip bomb": [faults.gzip_bomb(64 * 1024**2)],
    "401 for a while": [faults.unauthorized(401, times=2)],
    "403 for a while": [faults.unauthorized(403, times=2)],
    "413 above 3 messages": [faults.too_large(items=3)],
    "413 above 2 kB": [faults.too_large(size=2_000)],
    "400 for a too large request": [faults.too_large(items=3, status=400)],
    "parents not stored yet": [],
    "several faults": [
        faults.failing(503, times=2), faults.connection_reset(times=2), faults.html(times=1), faults.connection_reset(after_commit=True),
        faults.unauthorized(401), faults.rate_limited("0", times=2), faults.failing(408), faults.empty(),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", PASSING)
def test_after_a_fault_every_message_was_delivered_exactly_once(name: str, init: Init, greenflash: LocalServer) -> None:
    init(greenflash)
    greenflash.faults.add(*PASSING[name])
    if name.startswith("parents"):
        greenflash.faults.add(greenflash.faults.create("unknown_parent"))
    chat = ChatDriver()
    chat.turns(conversations=3, each=2)
    while observe.flush(timeout=20.0).spooled:
        assert observe.stats().balanced
    chat.check_delivered(greenflash)
    stats = observe.stats()
    assert stats.recorded == stats.delivered == len(greenflash.messages())
    assert stats.turns == chat.total


def test_messages_are_sent_without_parents_if_the_server_rejects_parents(init: Init, greenflash: LocalServer) -> None:
    init(greenflash)
    greenflash.faults.add(faults.no_parents())
    chat = ChatDriver()
    chat.turns(conversations=2, each=2)
    assert observe.flush(timeout=20.0)
    chat.check_delivered(greenflash)


def test_one_rejected_message_does_not_hold_up_the_others(init: Init, greenflash: LocalServer, tmp_path: Path) -> None:
    init(greenflash, flush_interval=0.5)
    chat = ChatDriver()
    chat.turn("c0", "before")
    assert observe.flush(timeout=20.0)
    whole = len(greenflash.messages())
    answer_ids: list[str] = []

    def contains_bad_message(body: dict[str, object], _: int) -> bool:
        # The first answer is rejected in every request.
        messages = body.get("messages")
        ids = [m["externalMessageId"] for m in messages] if isinstance(messages, list) else []
        answer_ids.extend(i for i in ids if i.endswith(":answer"))
        return answer_ids[0] in ids if answer_ids else False

    greenflash.faults.add(faults.bad_message("", applies=contains_bad_message))
    chat.turns(conversations=1, each=9)
    result = observe.flush(timeout=20.0)
    assert (result.rejected, result.spooled, result.delivered) == (1, 0, 9 * whole - 1)
    chat.check_delivered(greenflash, missing=1)
    (kept,) = (tmp_path / "spool").glob("*/rejected/*.json")
    value = json.loads(kept.read_text())
    assert "400" in value["reason"]
    assert [m["externalMessageId"] for m in value["request"]["body"]["messages"]] == [answer_ids[0]]


def test_a_message_that_the_answer_never_lists_is_set_aside_after_three_attempts(
    init: Init, greenflash: LocalServer, tmp_path: Path
) -> None:
    init(greenflash)

    def answer(body: dict[str, Any]) -> bytes:
        entries = [
            {"externalMessageId": m["externalMessageId"], "status": "odd" if "content" in m else "created"}
            for m in body["messages"]
            if m["messageType"] != "user_message"
        ]
        return json.dumps({"success": True, "conversationId": "c", "messages": entries or [{}]}).encode()

    greenflash.faults.add(InjectedFault("partial", 201, answer=answer, times=None))
    ChatDriver().turn("c0", "word")
    result = observe.flush(timeout=20.0)
    assert (result.rejected, result.spooled) == (2, 0)
    assert result.delivered == observe.stats().recorded - 2
    assert greenflash.faults.hits["partial"] == 3
    (kept,) = (tmp_path / "spool").glob("*/rejected/*.json")
    messages = json.loads(kept.read_text())["request"]["body"]["messages"]
    assert [message["messageType"] for message in messages] == ["user_message", "final_response"]


def test_a_message_that_a_firewall_blocks_holds_up_its_conversation_only(init: Init, greenflash: LocalServer) -> None:
    init(greenflash)
    attack = faults.html(403, times=None, applies=lambda body, _: "DROP TABLE" in json.dumps(body))
    greenflash.faults.add(attack)
    chat = ChatDriver()
    chat.turn("c0", "DROP TABLE users")
    while not greenflash.faults.hits["html"]:
        observe.flush(timeout=0.2)
    for number in range(100):
        chat.turn(f"c{number + 1}", "word")
        observe.flush(timeout=0.2)
        if observe.stats().rejected:
            break
    stats = observe.stats()
    assert observe.flush(timeout=20.0).spooled == 0
    assert greenflash.faults.hits["html"] >= 20
    assert stats.rejected
    assert not stats.paused
    del chat.texts_by_conversation["c0"]
    chat.check_delivered(greenflash)


def test_everything_is_delivered_after_an_outage(init: Init, tmp_path: Path) -> None:
    chat = ChatDriver()
    with greenflash_server(path=tmp_path / "store.db") as server:
        port = int(server.address.rsplit(":", 1)[1])
        init(server)
        chat.turns(conversations=3, each=1, word="before")
        assert observe.flush(timeout=20.0)
    chat.turns(conversations=3, each=2, word="meanwhile")
    result = observe.flush(timeout=0.5)
    assert result.timed_out
    assert result.spooled > 0
    with greenflash_server(path=tmp_path / "store.db", port=port) as server:
        chat.turns(conversations=3, each=1, word="after")
        assert observe.flush(timeout=20.0)
        chat.check_delivered(server)


def test_a_rejected_key_pauses_delivery_until_it_is_accepted(
    init: Init, greenflash: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    greenflash.faults.add(faults.unauthorized(401, times=None))
    init(greenflash)
    chat = ChatDriver()
    chat.turns(conversations=2, each=2)
    result = observe.flush(timeout=20.0)
    assert result.paused == ("greenflash",)
    assert result.spooled == observe.stats().recorded
    assert not result.timed_out
    greenflash.faults.clear()
    assert observe.flush(timeout=20.0)
    chat.check_delivered(greenflash)
    assert sum("refuses the key" in line for line in caplog.messages) == 1


def test_messages_spooled_for_one_key_are_not_sent_with_another(
    init: Init, greenflash: LocalServer, tmp_path: Path
) -> None:
    greenflash.faults.add(faults.failing(503, times=None))
    init(greenflash)
    chat = ChatDriver()
    chat.turns(conversations=1, each=1)
    observe.shutdown(timeout=2.0)  # time to write the spool on a slow machine
    greenflash.faults.clear()
    with greenflash_server(api_keys=["gf_other"]) as other:
        init(other, api_key="gf_other")
        assert observe.flush(timeout=20.0)
        assert observe.stats().recovered == 0
        assert other.messages() == []
    init(greenflash)
    assert observe.flush(timeout=20.0).delivered > 0
    chat.check_delivered(greenflash)


def test_a_rating_is_sent_once(init: Init, greenflash: LocalServer, tmp_path: Path) -> None:
    init(greenflash)
    chat = ChatDriver()
    chat.turn("c0", "word")
    assert observe.flush(timeout=20.0)
    greenflash.faults.add(faults.failing(503, times=3))
    observe.log_rating(rating=1.0, conversation_id="c0")
    assert observe.flush(timeout=20.0)
    assert len(greenflash.bodies("/api/v1/ratings")) == 1
    observe.shutdown()
    init(greenflash)
    assert observe.flush(timeout=20.0)
    assert len(greenflash.bodies("/api/v1/ratings")) == 1
