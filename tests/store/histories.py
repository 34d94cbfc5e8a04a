"""Random histories of a store, and everything that pages are made of, to compare stores after a deletion."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import strategies as st

from gati.store import deletion, labels, people, search, words
from gati.store.deletion import Target
from gati.store.store import Store
from tests.store.bodies import START, body, said, step

WORDS = ("alpha", "bravo", "東京都", "straße", "charlie")


class Request(NamedTuple):
    """A request to the store: the body of messages, or of an action."""

    endpoint: str
    body: dict[str, Any]
    began: int

    def send(self, store: Store) -> None:
        if self.endpoint == "messages":
            store.ingest(self.body)
        else:
            store.record_action(self.endpoint, self.body)


@st.composite
def turns(draw: st.DrawFn, conversation: int, user: str) -> Request:
    hour = draw(st.integers(0, 40))
    run = f"c{conversation}-r{draw(st.integers(0, 10**6))}-{hour}"  # a message that is sent again keeps its time
    when = hour * 400_000
    word, agent = draw(st.sampled_from(WORDS)), "ab"[conversation % 2]
    failed = draw(st.booleans())
    numbers = {"tokens_in": draw(st.none() | st.integers(0, 50)), "cost_usd": draw(st.none() | st.just(0.1))}
    properties: dict[str, Any] = {key: value for key, value in numbers.items() if value is not None}
    status = "error" if failed else "completed"
    messages = [
        said(f"{run}:user", f"{word} question", when),
        step(run, "chain_start", f"{run}:user", when + 1, properties={"agent_name": agent, "tags": [word]}),
        step(
            f"{run}-m", "llm", run, when + 2, model=draw(st.sampled_from(["m1", "m2"])),
            properties={**properties, "status": status, "latency_ms": 5.0, "agent_name": agent},
        ),
        step(f"{run}-t", "tool_call", run, when + 3, toolName="search", input={"q": word}),
        step(f"{run}-t:r", "tool_error" if failed else "observation", f"{run}-t", when + 9, output={"o": 1}),
        step(f"{run}:answer", "final_response", run, when + 10, content=f"{word} answer"),
        step(f"{run}:end", "chain_end", run, when + 11, output={"status": status}, properties={"latency_ms": 10.0, "agent_name": agent}),
    ]  # fmt: skip
    prompt = draw(st.sampled_from([None, "Be kind.", "Be short.", {"content": "Hi {{n}}", "variables": {"n": word}}]))
    more = {} if prompt is None else {"systemPrompt": prompt}
    if draw(st.booleans()):
        more["externalOrganizationId"] = draw(st.sampled_from(["o-1", "o-2"]))
    properties = {"plan": draw(st.sampled_from(["free", "paid"])), "agent_name": agent}
    return Request("messages", body(f"c-{conversation}", *messages, user=user, properties=properties, **more), when)


@st.composite
def histories(draw: st.DrawFn) -> list[Request]:
    """Conversations of two users, each with turns in the order of arrival, and ratings and names after them."""
    requests: list[Request] = []
    for conversation in range(draw(st.integers(2, 4))):
        user = draw(st.sampled_from(["u-1", "u-2"]))
        requests += draw(st.lists(turns(conversation, user), min_size=1, max_size=3))
    requests = draw(st.permutations(requests))
    for request in draw(st.lists(st.sampled_from(requests), max_size=3, unique_by=id)):
        rating = {
            "externalConversationId": request.body["externalConversationId"], "rating": draw(st.integers(1, 5)),
            "ratingMin": 1, "ratingMax": 5, "feedback": "feedback " + draw(st.sampled_from(WORDS)),
            "ratedAt": request.body["messages"][-1]["createdAt"],
        }  # fmt: skip
        requests = [*requests, Request("ratings", rating, request.began)]
    names = [Request("users", {"externalUserId": user, "name": f"Name {user}"}, 10**12) for user in ("u-1", "u-2")]
    return [*requests, *names]


USED = "SELECT version FROM calls WHERE version IS NOT NULL"
"""A request whose messages are in the store already leaves a version of its prompt that no call uses."""


def portrait(store: Store, *, uses: bool = True) -> dict[str, Any]:
    """Everything that pages are made of, without row ids and generated ids."""
    with store.connections.snapshot() as db:
        conversations = {row["id"]: dict(row) for row in db.execute("SELECT * FROM conversations")}
        external = {row_id: row["external_id"] for row_id, row in conversations.items()}
        versions = {
            row["id"]: f"{row['name']}: {row['body']}"
            for row in db.execute(
                "SELECT v.id, v.body, p.name FROM prompt_versions v JOIN prompts p ON p.id = v.prompt"
            )
        }

        def rows(query: str) -> list[tuple[Any, ...]]:
            return sorted(map(rounded, db.execute(query)), key=repr)

        def version(kind: str, name: str) -> str:
            return versions[int(name)] if kind == "version" else name

        found: dict[str, Any] = {
            "conversations": sorted(
                (row["external_id"], rounded(_comparable(row).values())) for row in conversations.values()
            ),
            "facets": sorted((kind, value, external[owner]) for kind, value, owner in rows("SELECT * FROM facets")),
            "labels": sorted(
                (kind, external.get(int(owner), owner) if kind == "conversation" else owner, *more)
                for kind, owner, *more in rows("SELECT owner_kind, owner, kind, name, value FROM labels")
                if kind != "conversation" or more[0] != "id" or more[2] in external.values()  # not its generated id
                if kind == "conversation" or owner in {row[kind] for row in conversations.values()}  # else it finds nothing
            ),
            "sums": sorted((kind, length, start, version(kind, name), *more) for kind, length, start, name, *more in rows("SELECT * FROM sums")),
            "durations": sorted((kind, length, start, version(kind, name), *more) for kind, length, start, name, *more in rows("SELECT * FROM durations")),
            "ratings": sorted((external[owner], str(versions.get(used)), when, share) for owner, used, when, share in rows("SELECT conversation, version, at, share FROM ratings")),
            "versions": sorted((versions[row[0]], *row[2 if not uses else 1 :]) for row in rows(f"SELECT id, uses, first_at, last_at FROM prompt_versions WHERE id IN ({USED})")),
            "prompts": rows(f"SELECT name, named FROM prompts WHERE id IN (SELECT prompt FROM prompt_versions WHERE id IN ({USED}))"),
            "actions": [(*row[:2], external.get(row[2]), row[3]) for row in rows("SELECT endpoint, key, conversation, body FROM actions")],
        }  # fmt: skip
        found["search"] = {
            word: sorted(
                row[0]
                for row in db.execute(
                    "SELECT external_id FROM messages WHERE id IN (SELECT value FROM json_each(?))",
                    (json.dumps(search.search_messages(db, word, 1000)),),
                )
            )
            for word in WORDS
        }
        found["labels found"] = {
            word: len(labels.read(db, labels.find_labels(db, parsed, parsed, 1000)))
            for word in WORDS
            if (parsed := words.parse_words(word))
        }
    found["actions"].sort(key=repr)
    found["users"] = [tuple(user.__dict__.values()) for user in people.active_users(store)]
    return found


def _comparable(row: dict[str, Any]) -> dict[str, Any]:
    left = {name: value for name, value in row.items() if name not in ("id", "uid", "last_message")}
    return {**left, "properties": sorted(json.loads(row["properties"] or "{}").items())}


def rounded(values: Any) -> tuple[Any, ...]:
    return tuple(round(value, 9) if isinstance(value, float) else value for value in values)


class Deletion(NamedTuple):
    """What to delete from the store of a history, and the requests to which it applies."""

    target: Target
    applies: Callable[[Request], bool]


def deletion_of_conversation() -> Deletion:
    return Deletion(Target("conversation", "c-0"), lambda request: request.body.get("externalConversationId") == "c-0")


def deletion_of_user(history: list[Request]) -> Deletion:
    messages = [request.body for request in history if request.endpoint == "messages"]
    owned = {sent["externalConversationId"] for sent in messages if sent["externalUserId"] == "u-1"}
    return Deletion(
        Target("user", "u-1"),
        lambda request: (
            request.body.get("externalUserId") == "u-1" or request.body.get("externalConversationId") in owned
        ),
    )


def deletion_before(hour: int) -> Deletion:
    began = hour * 400_000
    return Deletion(Target("before", at=START + began * 1000), lambda request: request.began < began)


def compare(history: list[Request], what: Deletion, store: Store, other: Store) -> None:
    """Check that after a deletion from `store` both are as if what was deleted had never arrived. Both are empty."""
    uses = what.target.kind != "before"
    for request in history:
        request.send(store)
        if not what.applies(request):
            request.send(other)
    found = deletion.delete_matches(store, what.target)
    if found.messages:
        with store.connections.snapshot() as db:
            assert db.execute(f"SELECT * FROM prompt_versions WHERE id NOT IN ({USED})").fetchall() == []
    assert portrait(store, uses=uses) == portrait(other, uses=uses)
    for request in history:
        if what.applies(request) and request.endpoint != "users":  # these have no time
            request.send(store)  # once more, as by a late delivery, a drain, an import or a push
    assert portrait(store, uses=uses) == portrait(other, uses=uses)
