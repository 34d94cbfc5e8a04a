"""Request bodies as gati sends them, for tests of what receives them."""

from __future__ import annotations

from typing import Any

from gati.store.message_columns import format_timestamp

START = 1_763_600_000_000_000


def at(milliseconds: int) -> str:
    """A time so many milliseconds after the start of the test's world."""
    return format_timestamp(START + milliseconds * 1000)


def body(external: str, *messages: dict[str, Any], user: str = "u-1", **more: Any) -> dict[str, Any]:
    """The body of `POST /messages`."""
    return {"externalUserId": user, "externalConversationId": external, "messages": list(messages), **more}


def said(key: str, text: str, when: int = 0, kind: str = "user_message", **more: Any) -> dict[str, Any]:
    """A text that a person wrote or saw."""
    return {"messageType": kind, "externalMessageId": key, "content": text, "createdAt": at(when), **more}


def step(key: str, kind: str, parent: str, when: int = 0, **more: Any) -> dict[str, Any]:
    """Something that was done."""
    return {
        "messageType": kind, "externalMessageId": key, "parentExternalMessageId": parent, "createdAt": at(when), **more,
    }  # fmt: skip


def turn(
    run: str,
    question: str = "What is the square root of 144?",
    answer: str = "The square root of 144 is 12.",
    when: int = 0,
) -> list[dict[str, Any]]:
    """The example of the design: an agent that calls a calculator once."""
    return [
        said(f"{run}:user", question, when),
        step(run, "chain_start", f"{run}:user", when + 1, properties={"name": "math-agent", "agent_name": "math-tutor"}),
        step(f"{run}-n1", "task", run, when + 2, properties={"node": "model", "step": 1, "latency_ms": 812.0}),
        step(
            f"{run}-m1", "llm", f"{run}-n1", when + 3, model="gpt-4o", input={"messages": []},
            output={"tool_calls": [{"name": "calculator", "args": {"expression": "144**0.5"}, "id": "call-1"}]},
            properties={
                "tokens_in": 61, "tokens_out": 17, "cost_usd": 0.00032, "latency_ms": 801.0,
                "time_to_first_token_ms": 210.0, "provider": "openai", "status": "completed",
            },
        ),
        step(f"{run}-m1:thought", "thought", f"{run}-m1", when + 790, output={"text": "I should use the calculator."}),
        step(f"{run}-n2", "task", run, when + 820, properties={"node": "tools", "step": 2, "latency_ms": 14.0}),
        step(f"{run}-t1", "tool_call", f"{run}-n2", when + 821, toolName="calculator", input={"expression": "144**0.5"}),
        step(
            f"{run}-t1:result", "observation", f"{run}-t1", when + 833, output={"output": "12.0"},
            properties={"latency_ms": 12.0},
        ),
        step(f"{run}-n3", "task", run, when + 840, properties={"node": "model", "step": 3, "latency_ms": 640.0}),
        step(
            f"{run}-m2", "llm", f"{run}-n3", when + 841, model="gpt-4o", output={"finish_reason": "stop"},
            properties={
                "tokens_in": 92, "tokens_out": 12, "cost_usd": 0.00035, "latency_ms": 630.0,
                "time_to_first_token_ms": 180.0, "provider": "openai", "status": "completed",
            },
        ),
        said(f"{run}:answer", answer, when + 1480, "final_response", parentExternalMessageId=run, model="gpt-4o"),
        step(
            f"{run}:end", "chain_end", run, when + 1481, output={"status": "completed"},
            properties={"tokens_in": 153, "tokens_out": 29, "cost_usd": 0.00067, "latency_ms": 1480.0},
        ),
    ]  # fmt: skip
