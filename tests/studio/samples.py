"""Conversations of every kind as clients send them: for tests in a browser and for pictures of the pages."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from gati.store.message_columns import format_timestamp

PRODUCT = "0b9f1c5e-7a44-4c63-9f0e-5f2b1f7c3a10"
PNG = "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAIAAACQkWg2AAAAFklEQVR4nGNgaPhPGhrVMKph+GoAAHEMf5F1Ed2zAAAAAElFTkSuQmCC"
MINUTE = 60_000_000
DAY = 24 * 60 * MINUTE

Request = tuple[str, dict[str, Any]]
"""A path and the body of a `POST` request to it."""

LONG_CODE = "def rent(bikes: int, days: int) -> float:\n" + "\n".join(
    f"    price_{line} = bikes * days * {line}.5  # a comment that makes line {line} longer than the width of a phone"
    for line in range(40)
)
MARKDOWN = f"""## What it costs

Two **city bikes** for three days come to *97.20*, see [the prices](https://shop.example.org/prices?page=2).

| Bicycle | Per day | Three days | Remarks |
|:--|--:|--:|:--|
| City bike | 18.00 | 48.60 | 10 % off from the third day |
| E-bike | 35.00 | 94.50 | with helmet, lock and a second battery on request |

1. Bring your id.
2. Sign the `contract`:
   - for each bicycle
   - once for the group

> Late returns cost 4.00 an hour each.

```python
{LONG_CODE}
```

![a photo of the shop](https://cdn.example.org/shop.png)
"""
ATTACHMENTS = [
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
    {"type": "image_url", "image_url": {"url": "https://example.org/photos/" + "broken-saddle-" * 5 + ".jpg"}},
    {"type": "audio", "mime_type": "audio/wav", "base64": "UklGRg=="},
    {"type": "file", "filename": "Rechnung Nr. 4711 (Kopie).pdf", "mime_type": "application/pdf", "size": 1_234_567},
]


class Script:
    """Messages of one conversation, each a bit later than the previous one.

    Args:
        run: Name of the run, with which the ids of the messages begin.
        begin: Time of the first message in microseconds since the epoch.
        agent: The agent's name.
    """

    def __init__(self, run: str, begin: int, agent: str = "support") -> None:
        self.run, self.at, self.agent = f"run-{run}", begin, agent
        self.messages: list[dict[str, Any]] = []

    def add(self, kind: str, key: str, parent: str | None = None, seconds: float = 0.2, **more: Any) -> str:
        """Add a message; return its id."""
        message = {"externalMessageId": f"{self.run}{key}", "messageType": kind, **more}
        message["createdAt"] = format_timestamp(self.at)
        if parent is not None:
            message["parentExternalMessageId"] = parent
        self.messages.append(message)
        self.at += round(seconds * 1_000_000)
        return str(message["externalMessageId"])

    def begin(self, question: str, **more: Any) -> str:
        """Begin a turn; return the id of its run."""
        asked = self.add("user_message", ":user", content=question, **more)
        return self.add("chain_start", "", asked, properties={"name": self.agent, "agent_name": self.agent})

    def model_call(self, key: str, parent: str, model: str = "gpt-4o-mini", **more: Any) -> str:
        """Add a model call of 0.9 s."""
        numbers = {"tokens_in": 812, "tokens_out": 64, "cost_usd": 0.00016, "latency_ms": 900.0, "status": "completed"}
        properties = {**numbers, "time_to_first_token_ms": 240.0, "provider": "openai", **more.pop("properties", {})}
        return self.add("llm", key, parent, 0.9, model=model, properties=properties, **more)

    def tool_call(self, key: str, parent: str, tool: str, given: dict[str, Any], result: Any, **more: Any) -> str:
        """Add a tool call of 0.1 s and its result."""
        call = self.add("tool_call", key, parent, 0.1, toolName=tool, input=given)
        kind = "tool_error" if more.get("failed") else "observation"
        self.add(kind, f"{key}:result", call, output=result, properties={"latency_ms": 100.0})
        return call

    def end(self, answer: str | None, status: str = "completed", error: dict[str, str] | None = None) -> None:
        """End the turn, with an answer or without."""
        if answer is not None:
            self.add("final_response", ":answer", self.run, content=answer)
        output = {"status": status, **({"error": error} if error else {})}
        self.add("chain_end", ":end", self.run, output=output, properties={"latency_ms": 2400.0})

    def body(self, conversation: str, user: str, **more: Any) -> Request:
        """Return the request that reports the conversation."""
        return "/api/v1/messages", {
            "externalUserId": user, "externalConversationId": conversation, "productId": PRODUCT,
            "messages": self.messages, "properties": {"agent_name": self.agent}, **more,
        }  # fmt: skip


def system_prompt(manner: str, **variables: str) -> dict[str, Any]:
    """Return the system prompt of the samples. `manner` makes the version."""
    text = f"You are the {manner} assistant of {{{{shop}}}}.\nAnswer from the handbook.\n\nCustomer: {{{{name}}}}"
    return {
        "externalPromptId": "shop-assistant",
        "components": [{"content": text}],
        "variables": {"shop": "Wheelhouse", "name": "Ada", **variables},
    }


def every_kind(now: int) -> Iterator[Request]:
    """Yield requests of one conversation of each kind that is hard to show, all within the last days before `now`."""
    yield "/api/v1/users", {"externalUserId": "ada", "name": "Ada Lovelace", "email": "ada@example.org"}
    yield "/api/v1/users", {"externalUserId": "user-with-a-long-id-" + "x" * 60, "name": "N" * 90}
    yield from _rich(now - 3 * 60 * MINUTE)
    yield _failed(now - 5 * 60 * MINUTE)
    yield _nested(now - 26 * 60 * MINUTE)
    yield from _scripts(now - 2 * DAY)
    yield _without_times()
    yield _without_answer(now - 3 * DAY)
    yield from _gati_events(now - 4 * DAY)


def _rich(begin: int) -> Iterator[Request]:
    """A conversation with rendered Markdown, attachments, a tool, a retrieval and two versions of a prompt."""
    for number, manner in enumerate(("kind", "strict and brief")):
        script = Script(f"rich{number}", begin + number * 5 * MINUTE)
        run = script.begin(
            "What do two city bikes cost for three days? " + ("See the photos." if not number else "And late?"),
            **({} if number else {"properties": {"attachments": ATTACHMENTS}}),
        )
        node = script.add("task", "-n1", run, properties={"node": "answer", "latency_ms": 1800.0})
        documents = [{"text": "A city bike costs 18.00 a day.", "score": 0.82, "metadata": {"page": "prices"}}]
        script.add("retrieval", "-r", node, input={"query": "price of city bikes"}, output={"documents": documents * 3})
        asked = [{"name": "calculate", "args": {"expression": "2 * 3 * 18.00 * 0.9"}, "id": "call-1"}]
        output = {"tool_calls": asked, "finish_reason": "tool_calls"}
        call = script.model_call("-m1", node, output=output, properties={"parameters": {"temperature": 0.2}})
        script.add("thought", "-m1:thought", call, output={"text": "Let me calculate that. " * 3})
        script.tool_call("-t1", node, "calculate", {"expression": "2 * 3 * 18.00 * 0.9"}, {"output": 97.2})
        script.model_call("-m2", node, output={"finish_reason": "stop"})
        script.end(MARKDOWN if not number else "Bicycles that come back late cost 4.00 an hour each.")
        properties = {"agent_name": "support", "plan": "gold", "tags": ["vip"], "metadata": {"region": "eu-west"}}
        yield script.body(
            "rich", "ada", systemPrompt=system_prompt(manner), externalOrganizationId="Wheelhouse Ltd.",
            properties=properties,
        )  # fmt: skip
    yield "/api/v1/ratings", {
        "productId": PRODUCT, "externalConversationId": "rich", "rating": 2, "ratingMin": 1, "ratingMax": 5,
        "feedback": "The table was right, the code was not needed.",
    }  # fmt: skip
    yield "/api/v1/events", {
        "eventType": "booking", "value": "confirmed", "influence": "positive", "externalConversationId": "rich",
        "externalUserId": "ada", "insertId": "booking-1", "productId": PRODUCT, "valueType": "text",
    }  # fmt: skip


def _failed(begin: int) -> Request:
    script = Script("failed", begin, "sales")
    run = script.begin("Book two e-bikes for tomorrow.")
    error = {"type": "RateLimitError", "message": "429: too many requests. " + "Retry after some seconds. " * 6}
    script.tool_call("-t1", run, "book", {"bikes": 2}, {"type": "ValueError", "message": "no bikes left"}, failed=True)
    script.model_call("-m1", run, properties={"status": "error"}, output={"error": error})
    script.end(None, "error", error)
    return script.body("failed", "grace")


def _nested(begin: int) -> Request:
    """A turn with 1,000 steps, each inside the previous one for the first 60."""
    script = Script("deep", begin, "planner")
    parent = run = script.begin("Plan a tour of all stations.")
    for number in range(1000):
        key = script.add("task", f"-n{number}", parent, 0.01, properties={"node": f"step {number}", "latency_ms": 9.0})
        parent = key if number < 60 else run
    script.end("The tour has 1,000 stations.")
    return script.body("deep", "grace")


def _scripts(begin: int) -> Iterator[Request]:
    """Texts in scripts without spaces, from right to left, and with what breaks a layout."""
    texts = {
        "japanese": ("東京都で自転車を借りたいです。返品はできますか。", "はい、返品は三日以内にお願いします。" * 8),
        "arabic": ("كم تكلفة استئجار دراجتين لمدة ثلاثة أيام؟", "دراجتان لمدة **ثلاثة أيام** تكلفان 97.20 يورو.\n\n- الأولى\n- الثانية"),
        "long-word": ("x" * 400, "https://example.org/" + "a/" * 150),
        "emoji": ("👩‍👩‍👧‍👦🚲🔥 ¿Cuánto cuesta? \u202etxet", "🚲 " * 60),
    }  # fmt: skip
    for number, (name, (question, answer)) in enumerate(texts.items()):
        script = Script(name, begin + number * MINUTE)
        run = script.begin(question)
        script.model_call("-m", run, model="claude-sonnet-4-5")
        script.end(answer)
        user = "user-with-a-long-id-" + "x" * 60 if name == "long-word" else "用户-七"
        yield script.body(name, user, properties={"agent_name": "support", "note" * 30: "v" * 200})


def _without_times() -> Request:
    messages = [
        {"role": "user", "content": "Hi"},
        {"messageType": "tool_call", "toolName": "t", "input": {"a": 1}, "externalMessageId": "k"},
        {"messageType": "observation", "output": {"output": 2}, "parentExternalMessageId": "k"},
        {"role": "assistant", "content": "Hello."},
    ]
    body = {"externalUserId": "grace", "externalConversationId": "bare", "messages": messages, "productId": PRODUCT}
    return "/api/v1/messages", body


def _without_answer(begin: int) -> Request:
    script = Script("waits", begin, "sales")
    run = script.begin("Cancel my booking.")
    script.model_call("-m1", run)
    script.end(None, "waiting")
    return script.body("waits", "grace")


def _gati_events(begin: int) -> Iterator[Request]:
    def event(key: str, kind: str, parent: str | None, after: int, **data: Any) -> dict[str, Any]:
        return {
            "event_type": kind, "run_id": "run-of-a-gati-client", "run_name": "tour", "agent_name": "guide", "event_id": key,
            "timestamp": format_timestamp(begin + after * 1000), "parent_event_id": parent, "data": data,
        }  # fmt: skip

    yield "/api/events", {"events": [
        event("g1", "agent_start", None, 0, input={"question": "Where does the tour begin?"}, user_id="ada"),
        event("g2", "node_execution", "g1", 5, node_name="search", latency_ms=40.0, state_before={"a": 1}),
        event("g3", "llm_call", "g1", 50, model="gpt-4o", prompt="Where?", completion="At the station.", tokens_in=9,
              tokens_out=4, cost=0.0001, latency_ms=700.0),
        event("g4", "tool_call", "g1", 800, tool_name="map", tool_input={"place": "station"}, tool_output={"lat": 1}),
        event("g5", "agent_end", "g1", 900, output={"answer": "At the **station**."}, status="completed"),
    ]}  # fmt: skip


_ASKED = (
    ("What does it cost to rent two city bikes for three days?", "Two city bikes for three days come to 97.20."),
    ("Can I return a bike on Sunday evening?", "On Sundays the shop closes at 16:00."),
    ("My e-bike's battery is empty after 20 km.", "Bring it in: we exchange the battery for free."),
    ("Is a helmet included?", "Yes, one helmet is included with each bike."),
    ("Do you rent child seats?", "Yes, a child seat costs 3.00 a day."),
)
_PEOPLE = {"ada": "Ada Lovelace", "grace": "Grace Hopper", "alan": "Alan Turing", "kat": "Katherine Johnson"}


def week_of_a_shop(now: int, conversations: int = 140) -> Iterator[Request]:
    """Yield requests of an ordinary week: some agents and models, few failures, some ratings."""
    chance = random.Random(7)
    for user, name in _PEOPLE.items():
        yield "/api/v1/users", {"externalUserId": user, "name": name}
    for number in range(conversations):
        begin = now - int((conversations - number) / conversations * 6.6 * DAY)
        agent, model = chance.choice(
            (("wheelhouse", "gpt-4o-mini"), ("wheelhouse", "gpt-4o"), ("repairs", "claude-sonnet-4-5"))
        )
        script = Script(f"week{number}", begin, agent)
        question, answer = chance.choice(_ASKED)
        run = script.begin(question)
        numbers = {
            "tokens_in": chance.randint(400, 1900), "tokens_out": chance.randint(20, 160), "cost_usd": chance.random() / 900,
            "latency_ms": chance.lognormvariate(6.7, 0.4), "time_to_first_token_ms": chance.lognormvariate(5.4, 0.3),
        }  # fmt: skip
        failed = chance.random() < 0.04
        script.model_call("-m1", run, model, properties={**numbers, **({"status": "error"} if failed else {})})
        script.tool_call(
            "-t1", run, chance.choice(("calculate", "handbook", "book")), {"query": question}, {"output": 1}
        )
        script.end(None if failed else answer, "error" if failed else "completed")
        manner = "kind" if number < conversations // 2 else "brief"
        yield script.body(f"week-{number}", chance.choice(list(_PEOPLE)), systemPrompt=system_prompt(manner))
        if number % 4 == 0:
            yield "/api/v1/ratings", {
                "productId": PRODUCT, "externalConversationId": f"week-{number}", "rating": chance.choice((2, 4, 4, 5)),
                "ratingMin": 1, "ratingMax": 5, "ratedAt": format_timestamp(begin + MINUTE),
            }  # fmt: skip
