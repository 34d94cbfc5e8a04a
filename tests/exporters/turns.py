"""Builders of turns and events, as the assembler produces them."""

from __future__ import annotations

import uuid
from typing import Any

from gati import events as ev
from gati.exporters.base import Request
from gati.exporters.greenflash.encoder import GreenflashEncoder, to_wire_names
from gati.settings import Settings, load
from gati.studio.api import validation

T0 = 1_800_000_000_000_000_000
"""2027-01-15T08:00:00Z, in nanoseconds."""

ROOT = "00000000-0000-4000-8000-000000000001"
PRODUCT = "11111111-1111-4111-8111-111111111111"


def ms(n: float) -> int:
    return T0 + int(n * 1_000_000)


def run_id(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def settings(**options: Any) -> Settings:
    return load(**{"api_key": "gf_test_key", "product_id": PRODUCT, "agent_name": "tutor", **options})


def user_text(text: str, root: str = ROOT, at: float = 0) -> ev.ChatMessage:
    return ev.ChatMessage(f"{root}:user", "user", text, ms(at))


def answer(text: str, root: str = ROOT, at: float = 1440) -> ev.ChatMessage:
    return ev.ChatMessage(f"{root}:answer", "assistant", text, ms(at), root)


def turn(*inner: ev.Event, root: str = ROOT, conversation: str = "c-1", **fields: Any) -> ev.Turn:
    """Return an agent's turn with a start, the given events and an end."""
    started = fields.pop("started", 0)
    ended = fields.pop("ended", 1441)
    start = ev.AgentStartEvent(
        event_id=root, run_id=root, name="LangGraph", started_ns=ms(started), ended_ns=ms(started)
    )
    end = ev.AgentEndEvent(
        event_id=f"{root}:end", run_id=root, parent_event_id=root, started_ns=ms(ended),
        ended_ns=ms(ended), total_duration_ms=float(ended - started), tokens_in=151, tokens_out=29, total_cost=0.002,
        model_calls=2, tool_calls=1,
    )  # fmt: skip
    defaults: dict[str, Any] = {
        "conversation": ev.Conversation(conversation, "u-7"),
        "name": "LangGraph",
        "agent_name": "tutor",
        "messages": [user_text("What is the square root of 144?", root, started)],
        "answer": answer("The square root of 144 is 12.", root, ended - 1),
        "started_ns": ms(started),
        "ended_ns": ms(ended),
    }
    return ev.Turn(run_id=root, events=[start, *inner, end], **{**defaults, **fields})


def llm(number: int, parent: str | None = ROOT, at: float = 2, **fields: Any) -> ev.LLMCallEvent:
    defaults = {
        "event_id": run_id(number), "run_id": ROOT, "parent_event_id": parent, "model": "gpt-4o",
        "started_ns": ms(at), "ended_ns": ms(at + 100), "latency_ms": 100.0,
    }  # fmt: skip
    return ev.LLMCallEvent(**{**defaults, **fields})


def tool(number: int, parent: str | None = ROOT, at: float = 10, **fields: Any) -> ev.ToolCallEvent:
    defaults = {
        "event_id": run_id(number), "run_id": ROOT, "parent_event_id": parent,
        "tool_name": "calculator", "input": {"expression": "144**0.5"}, "output": {"output": "12.0"},
        "started_ns": ms(at), "ended_ns": ms(at + 10), "latency_ms": 10.0,
    }  # fmt: skip
    return ev.ToolCallEvent(**{**defaults, **fields})


def node(number: int, name: str, step: int, at: float, took: float = 100.0, parent: str = ROOT) -> ev.Event:
    return ev.NodeExecutionEvent(
        event_id=run_id(number), run_id=ROOT, parent_event_id=parent, node_name=name, step=step,
        duration_ms=took, started_ns=ms(at), ended_ns=ms(at + took),
    )  # fmt: skip


def agent_turn(**fields: Any) -> ev.Turn:
    """Return the example of `docs/mapping.md`: an agent that calls a calculator once."""
    request = {"name": "calculator", "args": {"expression": "144**0.5"}, "id": "call_1"}
    return turn(
        node(2, "model", 1, 1, 812),
        llm(3, run_id(2), 2, completion="I should use the calculator.", tool_requests=[request], tokens_in=61,
            tokens_out=17, cost=0.001, finish_reason="tool_calls"),
        node(4, "tools", 2, 820, 12),
        tool(5, run_id(4), 821, tool_call_id="call_1", requested_by=run_id(3)),
        node(6, "model", 3, 840, 600),
        llm(7, run_id(6), 841, completion="The square root of 144 is 12.", is_answer=True, tokens_in=90, tokens_out=12,
            cost=0.001, ended_ns=ms(1440)),
        model="gpt-4o",
        **fields,
    )  # fmt: skip


def messages(requests: list[Request]) -> list[dict[str, Any]]:
    """Return all messages of the requests, after validating each request against the API's schema."""
    for request in requests:
        body = to_wire_names(request.body)
        assert validation.find_error(request.endpoint, body) is None
        assert validation.unknown_keys(request.endpoint, body) == []
        assert request.items == len(body["messages"])
    return [message for request in requests for message in request.body["messages"]]


def new_id() -> str:
    return str(uuid.uuid4())


def encode(*items: ev.Item, **options: Any) -> list[Request]:
    return GreenflashEncoder(settings(**options)).encode(items)


def encoded_messages(*items: ev.Item, **options: Any) -> list[dict[str, Any]]:
    return messages(encode(*items, **options))


def outline(result: list[dict[str, Any]]) -> list[tuple[str, str, str | None]]:
    return [(m["messageType"], m["externalMessageId"], m.get("parentExternalMessageId")) for m in result]


def message_of_type(result: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (message,) = [m for m in result if m["messageType"] == kind]
    return message
