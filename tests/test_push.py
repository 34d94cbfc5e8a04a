"""`gati push` sends a local store to Greenflash through the real SDK, each item once despite interruptions."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gati import push, push_requests
from gati.exporters.base import DELIVERED, Outcome, Request, Verdict
from gati.exporters.greenflash.exporter import GreenflashExporter
from gati.pipeline.retry import Policy
from gati.settings import load
from gati.store import marks, queries
from gati.store.store import Store
from gati.testing.server import fault_injection as faults
from tests.servers import LocalServer, greenflash_server
from tests.store.bodies import body, said, turn

PRODUCT = "11111111-1111-4111-8111-111111111111"
QUICK = Policy(first=0.01, cap=0.05, retry_after_cap=0.1, probe=0.05)


def rating(number: int) -> dict[str, Any]:
    return {"productId": PRODUCT, "rating": number, "ratingMin": 0, "ratingMax": 9, "externalConversationId": "c1"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "local.db")
    prompt = {"externalPromptId": "p", "components": [{"content": "Hi {{x}}"}], "variables": {"x": "1"}}
    for number in range(5):
        made.ingest(body(f"c{number}", *turn(f"r{number}"), systemPrompt=prompt, properties={"agent_name": "a"}))
    made.ingest(body("c1", said("late", "And then?", 9000), sampleRate=0.5))
    made.ingest(body("other", {"role": "user", "content": "from another client"}))
    made.record_action("users", {"externalUserId": "u-1", "name": "Ada"})
    made.record_action("ratings", rating(1))
    made.record_action("events", {"productId": PRODUCT, "eventType": "upgrade", "value": "1"})
    yield made
    made.close()


@pytest.fixture
def local() -> Iterator[LocalServer]:
    with greenflash_server() as running:
        yield running


@pytest.fixture
def exporter(local: LocalServer) -> Iterator[GreenflashExporter]:
    made = GreenflashExporter(load(api_key=local.api_key, base_url=local.url, timeout=2.0))
    yield made
    made.close()


def comparable(messages: list[dict[str, Any]]) -> list[Any]:
    """Return messages, sorted by conversation, without the values that each store assigns itself."""
    own = ("messageId", "createdAt", "externalMessageId")
    messages = sorted(messages, key=lambda message: str(message["conversation"]))
    return [{key: value for key, value in message.items() if key not in own} for message in messages]


def stored(store: Store) -> list[Any]:
    from gati.store import queries

    return comparable(list(queries.wire_messages(store)))


def received(local: LocalServer) -> list[Any]:
    return comparable(local.messages())


class Destination:
    """An exporter that records requests and answers with `answer`."""

    name, account, durable = "greenflash", "test", False

    def __init__(self, answer: Callable[[Request], Outcome] = lambda request: DELIVERED) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self._lock = threading.Lock()

    def encode(self, items: Any) -> list[Request]:
        return []

    def send(self, request: Request) -> Outcome:
        with self._lock:
            self.requests.append(request)
        return self.answer(request)

    def split(self, request: Request) -> tuple[Request, Request] | None:
        return None

    def after_fork(self) -> None: ...

    def close(self) -> None: ...

    def sent(self, endpoint: str) -> list[Request]:
        return [request for request in self.requests if request.endpoint == endpoint]


def positions(store: Store) -> dict[str, int]:
    with store.connections.reading() as db:
        return dict(map(tuple, db.execute("SELECT kind, position FROM pushes")))


def test_push_sends_everything_and_a_second_push_nothing(
    store: Store, local: LocalServer, exporter: GreenflashExporter
) -> None:
    progress: list[tuple[int, int]] = []
    result = push.push_store(store, exporter, on_progress=lambda done, total: progress.append((done, total)))
    assert (result.stopped, result.left, sum(result.rejected.values())) == ("", 0, 0)
    assert received(local) == stored(store)
    assert progress[-1] == (result.delivered, result.delivered)
    assert progress == sorted(progress)
    assert result.delivered == len(stored(store)) + 3
    assert local.unknown_keys == []
    assert push.push_store(store, exporter).delivered == 0


def test_a_rating_of_the_studio_is_sent_once(store: Store, local: LocalServer, exporter: GreenflashExporter) -> None:
    conversation = queries.find_conversation(store, "c2")
    assert conversation is not None
    marks.rate(store, conversation.id, 2, "Ada")
    marks.rate(store, conversation.id, 4, "Ada")
    marks.add_tag(store, conversation.id, "beta", "Ada")
    for _ in range(2):
        assert sum(push.push_store(store, exporter, product_id=PRODUCT).rejected.values()) == 0
    rated = local.bodies("/api/v1/ratings")
    assert [(body["externalConversationId"], body["rating"]) for body in rated] == [("c1", 1), ("c2", 4)]
    assert (local.unknown_keys, rated[1]["productId"], len(rated[1]["ratedAt"])) == ([], PRODUCT, 24)


def test_updated_user_is_sent_again(store: Store, local: LocalServer, exporter: GreenflashExporter) -> None:
    push.push_store(store, exporter)
    store.record_action("users", {"externalUserId": "u-1", "email": "ada@example.org"})
    assert push.push_store(store, exporter).delivered == 1
    assert local.bodies("/api/v1/users")[-1]["email"] == "ada@example.org"


def test_interrupted_push_continues_without_duplicates(
    store: Store, local: LocalServer, exporter: GreenflashExporter
) -> None:
    class Interrupt(Exception):
        pass

    def interrupt(done: int, total: int) -> None:
        if done > 20:
            raise Interrupt

    with pytest.raises(Interrupt):
        push.push_store(store, exporter, on_progress=interrupt)
    assert push.push_store(store, exporter).stopped == ""
    assert received(local) == stored(store)


@pytest.mark.parametrize(
    "fault", [faults.failing(503), faults.connection_reset(after_commit=True), faults.rate_limited("0"), faults.html()]
)
def test_failed_request_is_retried(
    store: Store, local: LocalServer, exporter: GreenflashExporter, fault: faults.InjectedFault
) -> None:
    fault.path, fault.times = "/api/v1/messages", 2
    local.faults.add(fault)
    assert push.push_store(store, exporter, policy=QUICK).stopped == ""
    assert received(local) == stored(store)


def test_push_stops_when_the_server_stays_unavailable_and_can_be_resumed(
    store: Store, local: LocalServer, exporter: GreenflashExporter
) -> None:
    local.faults.add(faults.failing(503, times=None))
    result = push.push_store(store, exporter, attempts=3, policy=QUICK)
    assert result.stopped == "HTTP 503"
    assert (result.delivered, result.left) == (0, push.pending(store, exporter))
    local.faults.clear()
    assert push.push_store(store, exporter).left == 0
    assert received(local) == stored(store)


def test_attempts_count_failures_in_a_row(store: Store) -> None:
    destination = Destination(lambda request: Outcome(Verdict.RETRY, "down"))
    assert push.push_store(store, destination, attempts=5, policy=QUICK).stopped == "down"
    assert len(destination.requests) == 5


def test_push_stops_at_once_when_the_key_is_refused(store: Store, local: LocalServer) -> None:
    exporter = GreenflashExporter(load(api_key="gf_wrong", base_url=local.url))
    result = push.push_store(store, exporter)
    assert result.stopped == "HTTP 401: the key is refused"
    assert (result.delivered, result.left) == (0, push.pending(store, exporter))
    exporter.close()


def test_rejected_message_does_not_block_others(store: Store, local: LocalServer, exporter: GreenflashExporter) -> None:
    local.faults.add(faults.bad_message("r2-t1"))
    result = push.push_store(store, exporter)
    assert (result.stopped, result.left, sum(result.rejected.values())) == ("", 0, 1)
    assert len(received(local)) == len(stored(store)) - 1


def test_single_message_that_must_be_split_is_rejected(store: Store) -> None:
    destination = Destination(lambda request: Outcome(Verdict.SPLIT, "too large"))
    result = push.push_store(store, destination)
    assert (result.delivered, set(result.rejected), result.left) == (0, {"too large"}, 0)


def test_product_is_added_to_conversations_without_one(
    store: Store, local: LocalServer, exporter: GreenflashExporter
) -> None:
    push.push_store(store, exporter, product_id=PRODUCT)
    assert {body["productId"] for body in local.bodies()} == {PRODUCT}


def test_users_go_before_messages_and_ratings_after_them(store: Store) -> None:
    destination = Destination()
    push.push_store(store, destination)
    endpoints = [request.endpoint for request in destination.requests]
    assert (endpoints[0], endpoints[-2:]) == ("users", ["ratings", "events"])


def test_position_is_saved_up_to_the_first_undelivered_message(store: Store) -> None:
    with store.connections.reading() as db:
        (first,) = db.execute(
            "SELECT min(m.id) FROM messages m JOIN conversations c ON c.id = m.conversation WHERE c.external_id = 'c2'"
        ).fetchone()
    down = Outcome(Verdict.RETRY, "down")
    destination = Destination(
        lambda request: down if request.body.get("external_conversation_id") == "c2" else DELIVERED
    )
    assert push.push_store(store, destination, attempts=4, policy=QUICK).stopped == "down"
    assert positions(store)["messages"] == first - 1
    destination.answer = lambda request: DELIVERED
    result = push.push_store(store, destination)
    assert result.left == 0
    sent = [
        message["externalMessageId"] for request in destination.sent("messages") for message in request.body["messages"]
    ]
    assert len(set(sent)) == len(stored(store))


def test_rating_position_is_saved_before_the_next_rating_is_sent(store: Store) -> None:
    for number in range(2, 6):
        store.record_action("ratings", rating(number))
    saved: list[int] = []

    def answer(request: Request) -> Outcome:
        if request.endpoint == "ratings":
            saved.append(positions(store).get("ratings", 0))
        return DELIVERED

    push.push_store(store, Destination(answer))
    assert len(set(saved)) == len(saved) == 5
    assert saved == sorted(saved)


@pytest.mark.parametrize("interrupted", [1, 2, 4])
def test_interrupted_push_never_repeats_a_rating(store: Store, interrupted: int) -> None:
    for number in range(2, 6):
        store.record_action("ratings", rating(number))
    destination = Destination()

    def interrupt(done: int, total: int) -> None:
        if len(destination.sent("ratings")) >= interrupted:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        push.push_store(store, destination, on_progress=interrupt)
    push.push_store(store, destination)
    assert [request.body["rating"] for request in destination.sent("ratings")] == [1, 2, 3, 4, 5]


def test_rating_under_way_at_an_interruption_is_not_repeated(store: Store) -> None:
    store.record_action("ratings", rating(2))
    asked, answered = threading.Event(), threading.Event()

    def answer(request: Request) -> Outcome:
        if request.body.get("rating") == 2:
            asked.set()
            assert answered.wait(10)
        return DELIVERED

    def interrupt(done: int, total: int) -> None:
        if done == total - 2 and asked.wait(10):  # all but the second rating and the product event
            threading.Timer(0.2, answered.set).start()
            raise KeyboardInterrupt

    destination = Destination(answer)
    with pytest.raises(KeyboardInterrupt):
        push.push_store(store, destination, on_progress=interrupt)
    push.push_store(store, destination)
    assert [request.body["rating"] for request in destination.sent("ratings")] == [1, 2]


def test_position_that_cannot_be_saved_stops_the_push(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.record_action("ratings", rating(2))

    def fail(db: sqlite3.Connection, account: str, kind: str, position: int) -> None:
        if kind == "ratings":
            raise sqlite3.OperationalError("disk full")
        push_requests.save_position(db, account, kind, position)

    monkeypatch.setattr(push, "save_position", fail)
    destination = Destination()
    with pytest.raises(sqlite3.OperationalError, match="disk full"):
        push.push_store(store, destination)
    assert len(destination.sent("ratings")) == 1


def test_exception_of_an_exporter_stops_the_push(store: Store) -> None:
    def fail(request: Request) -> Outcome:
        raise RuntimeError("broken exporter")

    with pytest.raises(RuntimeError, match="broken exporter"):
        push.push_store(store, Destination(fail))


def test_windows_cover_everything_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_requests, "_WINDOW_MESSAGES", 7)
    monkeypatch.setattr(push, "_MAX_QUEUED_BYTES", 1)
    destination = Destination()
    result = push.push_store(store, destination)
    sent = [
        message["externalMessageId"] for request in destination.sent("messages") for message in request.body["messages"]
    ]
    assert len(sent) == len(set(sent)) == len(stored(store))
    assert (result.delivered, result.left) == (len(sent) + 3, 0)


def test_users_updated_in_the_same_millisecond_are_all_sent(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_requests, "_WINDOW_ACTIONS", 2)
    for number in range(5):
        store.record_action("users", {"externalUserId": f"same-{number}"})
    with store.connections.writing() as db:
        db.execute("UPDATE actions SET updated_at = 1 WHERE endpoint = 'users'")
    destination = Destination()
    push.push_store(store, destination)
    assert len(destination.sent("users")) == 6


def test_messages_of_one_call_share_a_request_within_the_limits(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_requests, "_MAX_MESSAGES", 2)
    destination = Destination()
    push.push_store(store, destination)
    sizes = {request.items for request in destination.sent("messages")}
    assert sizes == {1, 2}


def test_conversations_are_sent_in_order_over_several_connections(store: Store) -> None:
    destination = Destination()
    push.push_store(store, destination, connections=4)
    for uid in {request.ordering_key for request in destination.sent("messages")}:
        ids = [int(request.turn_id) for request in destination.sent("messages") if request.ordering_key == uid]
        assert ids == sorted(ids)
