"""Rendering of conversations for the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from gati.cli.conversation import render


def message(message_id: str, kind: str, parent: str | None = None, **fields: Any) -> dict[str, Any]:
    parent_field = {"parentExternalMessageId": parent} if parent else {}
    return {
        "externalMessageId": message_id, "messageType": kind, "createdAt": "2026-11-20T10:11:12.000Z", **parent_field, **fields,
    }  # fmt: skip


TURN = [
    message("R:user", "user_message", content="What is 2 + 2?"),
    message("R", "chain_start", "R:user", properties={"agent_name": "tutor"}),
    message("n1", "task", "R", properties={"node": "model", "latency_ms": 812.4}),
    message(
        "m1", "llm", "n1", model="gpt-4o-mini", prompt="Use the tool.",
        properties={
            "tokens_in": 61, "tokens_out": 17, "cost_usd": 0.00002, "latency_ms": 1500, "time_to_first_token_ms": 41,
        },
    ),
    message("m1:thought", "thought", "m1", output={"text": "I should use the calculator."}),
    message("t1", "tool_call", "R", toolName="calculator", input={"expression": "2 + 2"}),
    message("t1:result", "observation", "t1", output={"output": "4"}, properties={"latency_ms": 0.42}),
    message("R:answer", "final_response", "R", content="It is 4."),
    message(
        "R:end", "chain_end", "R", output={"status": "completed"},
        properties={"tokens_in": 61, "tokens_out": 17, "cost_usd": None, "latency_ms": 900},
    ),
]  # fmt: skip


def rendered(messages: list[dict[str, Any]]) -> str:
    console = Console(width=120, highlight=False)
    with console.capture() as captured:
        console.print(render(messages))
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


RENDERED = """\
user  10:11:12
  What is 2 + 2?

  model  812 ms  n1
  └── gpt-4o-mini  61 → 17 tokens  $0.00002  1.50 s (first token 41 ms)  m1
        system prompt: Use the tool.
      └── “I should use the calculator.”
  calculator  {"expression": "2 + 2"}  0.4 ms  t1
    → 4

tutor  10:11:12
  It is 4.

  61 → 17 tokens · $0.00002 · 900 ms · run R
"""


def test_turn_is_rendered_with_messages_steps_and_totals():
    assert rendered(TURN) == RENDERED


def test_failed_turn_shows_its_status():
    end = message("R:end", "chain_end", "R", output={"status": "error"})
    assert "error · tokens unknown · cost unknown" in rendered([TURN[0], TURN[1], end])


def test_system_prompt_is_shown_when_it_changes():
    calls = [message(f"m{n}", "llm", prompt=prompt) for n, prompt in enumerate(["A", "A", "B"])]
    lines = [line.strip() for line in rendered(calls).splitlines() if "system prompt" in line]
    assert lines == ["│ system prompt: A", "system prompt: B"] or lines == ["system prompt: A", "system prompt: B"]


def test_unknown_numbers_are_shown_as_unknown():
    assert "unknown model  tokens unknown  cost unknown" in rendered([message("m", "llm")])
    assert "? → 3 tokens" in rendered([message("m", "llm", properties={"tokens_out": 3})])


def test_tool_errors_and_waiting_answers_are_shown():
    error = message(
        "t:error", "tool_error", "t", output={"type": "ValueError", "message": "no"}, properties={"handled": True}
    )
    assert "✗ ValueError: no  handled" in rendered([message("t", "tool_call", toolName="x"), error])
    waiting = message("R:answer", "assistant_message", content="Shall I?", properties={"status": "waiting"})
    assert "waiting" in rendered([waiting])


def test_documents_are_listed_below_their_retrieval():
    output = {"documents": [{"text": "One"}, {"text": "Two\n  lines"}]}
    text = rendered([message("r", "retrieval", input={"query": "q"}, output=output, properties={"name": "Handbook"})])
    assert "Handbook  q  → 2 documents  r\n    · One\n    · Two lines" in text


def test_markup_and_control_characters_in_text_have_no_effect():
    text = rendered([message("u", "user_message", content="[bold]x[/bold] \x1b[31mred")])
    assert "[bold]x[/bold]" in text
    assert "\x1b" not in text


def test_missing_and_cyclic_parents_are_tolerated():
    assert "task" in rendered([message("a", "task", "nowhere")])
    assert rendered([message("a", "task", "b"), message("b", "task", "a")]).count("task") == 2


def test_long_values_are_shortened():
    assert (
        len(max(rendered([message("t", "tool_call", toolName="x", input={"a": "y" * 5000})]).splitlines(), key=len))
        <= 120
    )


def test_steps_of_any_depth_are_shown():
    steps = [message(f"n{n}", "task", f"n{n - 1}" if n else None) for n in range(1000)]
    assert rendered(steps).count("task") == 1000
