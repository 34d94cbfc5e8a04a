"""Messages as turns, and steps as trees."""

from __future__ import annotations

from typing import Any

from gati.store import message_columns, turn_view
from gati.store.queries import StoredMessage
from tests.store.bodies import said, step, turn


def stored(*messages: dict[str, Any]) -> list[StoredMessage]:
    made = []
    for number, message in enumerate(messages, 1):
        facts = message_columns.extract_metrics(message, None)
        at = message_columns.parse_timestamp(message["createdAt"])
        made.append(
            StoredMessage(
                number, 1, at, message_columns.message_type(message), facts.model, facts.status, message, None
            )
        )
    return made


def shape(steps: list[turn_view.StepView]) -> list[Any]:
    return [(step.name, shape(step.children)) if step.children else step.name for step in steps]


def test_a_turn_has_inputs_steps_and_answers() -> None:
    (found,) = turn_view.arrange_turns(stored(*turn("r")))
    assert [message.body["content"] for message in found.inputs] == ["What is the square root of 144?"]
    assert [message.body["content"] for message in found.answers] == ["The square root of 144 is 12."]
    assert shape(found.steps) == [
        ("model", [("gpt-4o", ["thought"])]), ("tools", ["calculator"]), ("model", ["gpt-4o"]),
    ]  # fmt: skip
    assert found.status == "completed"
    assert found.totals["tokens_in"] == 153
    assert found.totals["model_calls"] == 2


def test_a_tool_result_belongs_to_its_call() -> None:
    messages = stored(
        said("q", "x"), step("t", "tool_call", "q", 1, toolName="calc"), step("e", "tool_error", "t", 9, output={"message": "no"}),
        step("h", "tool_call", "q", 2, toolName="calc"),
        step("g", "tool_error", "h", 9, output={"message": "no"}, properties={"handled": True}),
    )  # fmt: skip
    first, second = turn_view.arrange_turns(messages)[0].steps
    assert (first.status, first.latency_ms) == ("error", 8.0)
    assert second.status == "handled"


def test_totals_are_sums_of_the_known_values() -> None:
    messages = stored(
        said("q", "x"), step("a", "llm", "q", 1, properties={"tokens_in": 5, "cost_usd": 0.5}), step("b", "llm", "q", 2)
    )
    totals = turn_view.arrange_turns(messages)[0].totals
    assert (totals["tokens_in"], totals["tokens_out"], totals["cost_usd"]) == (5, None, 0.5)
    assert totals["partly_unpriced"]


def test_a_turn_without_an_end_is_still_running() -> None:
    (found,) = turn_view.arrange_turns(stored(said("q", "x"), step("r", "chain_start", "q", 1)))
    assert found.status == "running"


def test_steps_without_a_stored_parent_are_turns_of_their_own() -> None:
    first, second = turn_view.arrange_turns(stored(step("a", "task", "gone", 1), step("b", "task", "gone", 2)))
    assert (shape(first.steps), shape(second.steps)) == (["task"], ["task"])


def test_values_are_formatted_for_people() -> None:
    assert turn_view.pretty_value("text") == "text"
    assert turn_view.pretty_value({"output": "12"}) == '{\n  "output": "12"\n}'
    assert turn_view.pretty_value({"a": 1}) == '{\n  "a": 1\n}'
    picture = {"mime": "image/png", "bytes": 12345, "sha256": "abcdef0123456789"}
    assert turn_view.pretty_value(picture) == "[image/png, 12,345 bytes, sha256 abcdef012345]"


def chain(depth: int) -> list[StoredMessage]:
    return stored(*(step(f"n{n}", "task", f"n{n - 1}", n) for n in range(depth)))


def test_steps_of_any_depth_can_be_walked_and_outlined() -> None:
    (found,) = turn_view.arrange_turns(chain(3000))
    assert [step.depth for step in found.all_steps] == list(range(3000))
    assert found.time_range[1] - found.time_range[0] == 2_999_000
    rows = found.outline
    assert max(step.shown_depth for step in found.all_steps) == turn_view.DEEPEST_SHOWN
    assert sum(row.opens for row in rows) == sum(row.closes for row in rows) == turn_view.DEEPEST_SHOWN


def test_an_outline_opens_and_closes_a_list_for_each_level() -> None:
    parents = {"a": "q", "b": "a", "c": "b", "d": "a", "e": "q"}
    steps = [step(key, "task", parent, n) for n, (key, parent) in enumerate(parents.items(), 1)]
    (found,) = turn_view.arrange_turns(stored(said("q", "x"), *steps))
    rows = [(row.step.message.key, row.opens, row.closes) for row in found.outline]
    assert rows == [("a", True, 0), ("b", True, 0), ("c", False, 1), ("d", False, 1), ("e", False, 0)]
