"""The studio's pages without a browser: what stands on them, and what does not."""

from __future__ import annotations

import json
import re
import time as clock
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from gati.store import export, queries, turn_view
from gati.store.store import Store
from tests.servers import studio_client
from tests.store.bodies import body, said, step, turn

EVIL = "<script>document.title='owned'</script><img src=x onerror=alert(1)>\"'>{{7*7}}"


@pytest.fixture
def store(any_store: Store) -> Store:
    return any_store


@pytest.fixture
def pages(store: Store) -> TestClient:
    return studio_client(store)


def page_of(pages: TestClient, store: Store, conversation: str) -> httpx.Response:
    found = queries.find_conversation(store, conversation)
    assert found is not None
    return pages.get(f"/conversations/{found.uid}")


def test_the_page_of_an_empty_store_says_how_to_start(pages: TestClient) -> None:
    assert "gati demo" in pages.get("/").text
    assert pages.get("/prompts").status_code == pages.get("/overview").status_code == 200


def test_the_list_marks_conversations_that_the_program_gave_no_id(pages: TestClient, store: Store) -> None:
    store.ingest(body("c-1", said("r-1:user", "Hello")))
    assert "no conversation id" not in pages.get("/").text
    store.ingest(body("r-2", said("r-2:user", "Hello")))
    store.ingest(body("r-3", step("r-3", "llm", None, 1)))
    assert pages.get("/").text.count("no conversation id") == 2


def test_every_text_on_every_page_is_escaped(pages: TestClient, store: Store) -> None:
    messages = [
        said("q", EVIL), step("r", "chain_start", "q", 1, properties={"name": EVIL, "agent_name": EVIL}, input={EVIL: EVIL}),
        step("m", "llm", "r", 2, model=EVIL, input={"x": EVIL}, output=EVIL, properties={EVIL: EVIL, "status": EVIL}),
        step("t", "tool_call", "r", 3, toolName=EVIL, input={"x": EVIL}), step("e", "tool_error", "t", 4, output={"message": EVIL}),
        step("c", "callback", "r", 5, output={"name": EVIL}), said("a", EVIL, 6, "final_response", context=EVIL),
        step("z", "chain_end", "r", 7, output={"status": EVIL, "error": EVIL}),
    ]  # fmt: skip
    prompt = {
        "externalPromptId": EVIL,
        "components": [{"content": f"{EVIL} {{{{v}}}}", "name": EVIL}],
        "variables": {"v": EVIL},
    }
    store.ingest(
        body(EVIL, *messages, user=EVIL, systemPrompt=prompt, properties={EVIL: EVIL}, externalOrganizationId=EVIL)
    )
    store.ingest(
        body(EVIL, said("q2", "x", 9), user=EVIL, systemPrompt={**prompt, "components": [{"content": EVIL + "2"}]})
    )
    uid = queries.list_conversations(store).conversations[0].uid
    with store.connections.reading() as db:
        lineage = db.execute("SELECT uid FROM prompts").fetchone()[0]
    for address in ("/", "/?q=script", f"/?user={EVIL}", f"/conversations/{uid}", "/calls/1", "/calls/2", "/messages/3",
                    "/prompts", f"/prompts/{lineage}", "/overview?period=1y"):  # fmt: skip
        answer = pages.get(address)
        assert answer.status_code == 200, address
        assert "<script>document" not in answer.text, address
        assert "<img src=x" not in answer.text, address
        assert "script-src 'self'" in answer.headers["content-security-policy"]


def test_unknown_values_are_not_shown_as_zero(pages: TestClient, store: Store) -> None:
    store.ingest(body("c", said("q", "hello"), step("m", "llm", "q", 1, model="m")))
    text = page_of(pages, store, "c").text
    assert "cost unknown" in text
    assert "tokens unknown" in text
    assert "$0" not in text


def test_a_turn_shows_messages_and_steps(pages: TestClient, store: Store) -> None:
    store.ingest(body("c", *turn("r1"), *turn("r2", "And of 81?", "9", 5000), systemPrompt="Be exact."))
    text = page_of(pages, store, "c").text
    for words in ("What is the square root of 144?", "And of 81?", "calculator", "I should use the calculator.", "gpt-4o",
                  "144**0.5", "$0.00067", "version 1"):  # fmt: skip
        assert words in text, words
    assert text.count('class="turn"') == 2


def test_consecutive_user_messages_belong_to_one_turn(pages: TestClient, store: Store) -> None:
    first, *rest = turn("r1")
    store.ingest(body("c", said("r1:user:0", "One more thing first.", -5), first, *rest))
    assert page_of(pages, store, "c").text.count('class="turn"') == 1


def test_a_cycle_of_parents_is_shown_without_error(pages: TestClient, store: Store) -> None:
    store.ingest(body("c", step("a", "task", "b", 1), step("b", "task", "a", 2), step("s", "task", "s", 3)))
    assert page_of(pages, store, "c").status_code == 200


def test_a_long_conversation_is_paged(pages: TestClient, store: Store) -> None:
    for number in range(70):
        store.ingest(body("c", *turn(f"r{number}", f"Question {number}.", when=number * 5000)))
    text = page_of(pages, store, "c").text
    assert "Question 69." in text
    assert "Question 40." in text
    assert "Question 39." not in text
    seen = 30
    while 'href="' in text and "Earlier turns" in text:
        address = text.split("Earlier turns")[0].rsplit('href="', 1)[1].split('"')[0]
        text = pages.get(address.replace("&amp;", "&")).text
        seen += text.count('class="turn"')
    assert seen == 70


@pytest.mark.parametrize("depth", [50, 150, 190, 300])
def test_deeply_nested_values_are_shown_without_error(pages: TestClient, store: Store, depth: int) -> None:
    value: Any = "end"
    for _ in range(depth):
        value = {"a": [value]}
    answer = pages.post(
        "/api/v1/messages", json=body("c", said("q", "x"), step("m", "llm", "q", 1, input=value, output=value))
    )
    if depth > 200:
        assert answer.status_code == 400
        return
    assert answer.status_code == 201
    assert page_of(pages, store, "c").status_code == 200
    assert pages.get("/messages/2").status_code == 200


def test_a_huge_message_is_folded(pages: TestClient, store: Store) -> None:
    store.ingest(body("c", said("q", "word " * 20_000)))
    assert "more characters" in page_of(pages, store, "c").text


def test_the_list_of_conversations_is_paged_newest_first(pages: TestClient, store: Store) -> None:
    for number in range(120):
        store.ingest(body(f"c{number}", said("q", f"Title {number}.", number)))
    seen: list[str] = []
    page = queries.list_conversations(store)
    while True:
        seen += [summary.title or "" for summary in page.conversations]
        if page.more is None:
            break
        page = queries.list_conversations(store, after=page.more)
    assert seen == [f"Title {number}." for number in reversed(range(120))]
    text = pages.get("/").text
    assert "Title 119." in text
    assert "Title 60." not in text
    assert "Older conversations" in text


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=carrot", {"a"}), ("q=carr", {"a"}), ("q=carrot soup", {"a"}), ("q=carrot nothing", set()), ("q=calculator", {"b"}),
        ("q=144**0.5", {"b"}), ("q=\"'*(", set()), ("user=grace", {"b"}), ("agent=math-tutor", {"b"}), ("model=gpt-4o", {"b"}),
        ("status=completed", {"b"}), ("status=error", set()), ("user=ada&q=carrot", {"a"}), ("since=2025-11-19", {"a", "b"}),
        ("until=2025-11-21", {"a", "b"}), ("until=2025-11-18", set()), ("since=2099-01-01", set()), ("until=2001-01-01", set()), ("since=nonsense", {"a", "b"}),
        ("after=x.y", {"a", "b"}), ("after=99999999999999999999.1", {"a", "b"}),
    ],
)  # fmt: skip
def test_search_and_filters(pages: TestClient, store: Store, query: str, found: set[str]) -> None:
    store.ingest(body("a", said("q", "How do I cook carrot soup?"), user="ada"))
    store.ingest(body("b", *turn("r"), user="grace"))
    text = pages.get(f"/?{query}").text
    names = {"a": "How do I cook", "b": "What is the square root"}
    assert {key for key, words in names.items() if f"<strong>{words}" in text} == found


def test_an_unchanged_list_is_not_sent_again(pages: TestClient, store: Store) -> None:
    store.ingest(body("a", said("q", "one")))
    seen = queries.last_message_id(store)
    assert pages.get(f"/?seen={seen}").status_code == 204
    store.ingest(body("a", said("q2", "two", 1)))
    assert pages.get(f"/?seen={seen}").status_code == 200


def test_prompt_changes_are_shown_word_by_word(pages: TestClient, store: Store) -> None:
    for number, text in enumerate(["You are a kind tutor.\nBe brief.", "You are a strict tutor.\nBe brief."]):
        prompt = {
            "externalPromptId": "tutor",
            "components": [{"content": text + "\nTeach {{name}}."}],
            "variables": {"name": "Ada"},
        }
        store.ingest(body("c", said(f"q{number}", "x", number), systemPrompt=prompt))
    text = pages.get("/calls/2").text
    assert "<del>kind</del>" in text
    assert "<ins>strict</ins>" in text
    assert "<mark>Ada</mark>" in text
    assert "Changed since version 1" in text


def test_an_unknown_page_returns_404(pages: TestClient) -> None:
    for address in (
        "/conversations/none",
        "/calls/99",
        "/messages/99",
        "/prompts/none",
        "/conversations/none/export.md",
    ):
        answer = pages.get(address)
        assert (answer.status_code, "Not found" in answer.text) == (404, True)


def test_events_of_a_gati_backend_appear_on_the_pages(pages: TestClient, store: Store) -> None:
    base = {"run_id": "run", "run_name": "temp_1", "agent_name": "tutor", "timestamp": "2026-11-20T10:00:00Z"}
    events = [
        {**base, "event_type": "agent_start", "event_id": "e1", "data": {"input": {"question": "How much is it?"}}},
        {**base, "event_type": "llm_call", "event_id": "e2", "parent_event_id": "e1",
         "data": {"model": "gpt-4o", "tokens_in": 3, "tokens_out": 4, "system_prompt": "Be brief.", "completion": "12 euros"}},
        {**base, "event_type": "agent_end", "event_id": "e3", "parent_event_id": "e1", "data": {"output": {"answer": "12 euros."}}},
    ]  # fmt: skip
    assert pages.post("/api/events", json={"events": events}).status_code == 201
    text = page_of(pages, store, "run").text
    for words in ("How much is it?", "12 euros.", "gpt-4o", "tutor"):
        assert words in text


def saved(store: Store, wanted: queries.Filter | None = None) -> list[str]:
    return [export.export_jsonl(store, summary) for summary in export.iter_conversations(store, wanted)]


def test_a_conversation_is_exported_as_markdown_and_jsonl(store: Store) -> None:
    store.ingest(body("c", *turn("r1"), systemPrompt="Be exact."))
    store.ingest(body("d", said("q", "hello")))
    lines = [json.loads(line) for line in saved(store)]
    assert [line["externalConversationId"] for line in lines] == ["c", "d"]
    assert [message["externalMessageId"] for message in lines[0]["messages"]][:2] == ["r1:user", "r1"]
    assert list(lines[0]["systemPrompts"].values()) == ["Be exact."]
    summary = queries.find_conversation(store, "c")
    assert summary is not None
    text = export.export_markdown(store, summary)
    assert text.startswith("# What is the square root of 144?")
    assert "> The square root of 144 is 12." in text
    assert "`calculator` (tool call" in text


def test_only_matching_conversations_are_exported(store: Store) -> None:
    store.ingest(body("c", *turn("r1")))
    store.ingest(body("d", said("q", "hello"), user="ada"))
    lines: list[Any] = [json.loads(line) for line in saved(store, queries.Filter(user="ada"))]
    assert [line["externalConversationId"] for line in lines] == ["d"]


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/Los_Angeles", "UTC"])
@pytest.mark.parametrize(
    "time",
    [
        "9999-12-31T23:59:59Z", "9999-12-31T23:59:59.999999-14:00", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00",
        "1969-12-31T23:59:59Z", "1582-10-15T00:00:00Z",
    ],
)  # fmt: skip
def test_pages_survive_any_time_that_the_api_accepts(
    pages: TestClient, store: Store, time: str, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    getattr(clock, "tzset", lambda: None)()
    try:
        messages = [said("q", "hi") | {"createdAt": time}, step("m", "llm", "q", 1) | {"createdAt": time}]
        assert pages.post("/api/v1/messages", json=body("odd", *messages)).status_code == 201
        store.ingest(body("good", said("q", "well")))
        assert page_of(pages, store, "odd").status_code == 200
        for address in (
            "/",
            "/prompts",
            "/overview?period=1y",
            "/api/v1/interactions",
            "/?since=9999-12-31",
            "/?until=0001-01-01",
        ):
            assert pages.get(address).status_code == 200, address
        for line in saved(store):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", json.loads(line)["firstAt"])
    finally:
        monkeypatch.undo()
        getattr(clock, "tzset", lambda: None)()


def test_a_thousand_nested_steps_are_shown_and_exported(pages: TestClient, store: Store) -> None:
    steps = [step(f"n{n}", "task", f"n{n - 1}" if n else "q", n) for n in range(1000)]
    store.ingest(body("c", said("q", "x"), *steps))
    text = page_of(pages, store, "c").text
    assert text.count('<details class="step"') == 1000
    assert text.count("<ul") == text.count("</ul>") == turn_view.DEEPEST_SHOWN + 1
    assert text.count("<li>") == text.count("</li>")
    assert "level 1000" in text
    summary = queries.find_conversation(store, "c")
    assert summary is not None
    assert export.export_markdown(store, summary).count("- `task`") == 1000


@pytest.mark.parametrize("number", ["9223372036854775807", "9223372036854775808", "9" * 20, "9" * 5000, "0", "000"])
def test_a_number_that_no_row_has_is_not_found(pages: TestClient, number: str) -> None:
    for address in (f"/messages/{number}", f"/messages/{number}/input", f"/calls/{number}"):
        assert pages.get(address).status_code == 404


@pytest.mark.parametrize(
    "number", ["9223372036854775808", "-9223372036854775809", "9" * 5000, "1e400", "nan", "1e300", "-1"]
)
def test_numbers_in_parameters_never_break_a_page(pages: TestClient, store: Store, number: str) -> None:
    store.ingest(body("c", *turn("r")))
    conversation = page_of(pages, store, "c").url.path
    for address in (
        f"/?after={number}~{number}", f"/?cost={number}..{number}", f"/?latency={number}", f"/?since={number}", f"/users?page={number}",
        f"/users?after={number}", f"/overview?since={number}&until={number}", f"{conversation}?before={number}.{number}",
        f"{conversation}?at={number}", f"{conversation}/marks?seen={number}", f"/prompts?since={number}", f"/delete/before?date={number}",
    ):  # fmt: skip
        assert pages.get(address).status_code == 200, address
    for name in ("interactions", "conversations", "prompts"):
        for parameter in ("page", "limit", "offset", "pageSize"):
            assert pages.get(f"/api/v1/{name}?{parameter}={number}").status_code < 500
