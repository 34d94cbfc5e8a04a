"""Which model call made an answer that the program edited."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gati.events import ChatMessage, LLMCallEvent
from gati.trace.answer_source import answering_model, mark_answer, texts_in_json
from gati.trace.records import Message, ModelResult, RunStarted
from gati.trace.run_tree import Run, Trace


def run(parent: Run | None, kind: str = "model", **metadata: Any) -> Run:
    made = Run(RunStarted(uuid4(), parent.id if parent else None, kind, kind, 0, metadata=metadata), parent)
    if parent is not None:
        parent.children = [*parent.children, made]
    return made


def marks(answer: str, *completions: str, node: bool = True) -> list[str]:
    """Return a letter for each call: "m" made the answer, "i" is internal, "-" neither."""
    root = run(None, "chain")
    root.node = None
    if node:
        run(root, "chain").node = "step"
    models = [(run(root), LLMCallEvent(completion=text, model=str(n))) for n, text in enumerate(completions)]
    mark_answer(Trace(root, None, 0), models, ChatMessage("a", "assistant", answer, 0))
    return ["m" if e.made_answer and not e.internal else "i" if e.internal else "-" for _, e in models]


ROSES = "Roses are red, and violets are blue."


@pytest.mark.parametrize(
    ("answer", "written"),
    [
        (ROSES, ROSES),
        (ROSES, f"  {ROSES}\n\n"),
        (ROSES, f"<think>A poem about poems.</think>\n{ROSES}"),
        (f"{ROSES}\n\nSources: a.md", ROSES),
        (f"*** {ROSES} ***", ROSES),
        (ROSES.upper(), ROSES),
        (ROSES, json.dumps({"title": "poem", "answer": ROSES})),
        (ROSES, f"```json\n{json.dumps({'answer': ROSES})}\n```"),
        ("Write to [REDACTED_EMAIL] for roses, please.", "Write to anna@example.com for roses, please."),
        ("12.0", "Thought: I know now.\nFinal Answer: 12.0"),
        ("12", json.dumps({"reasoning": "144 is 12 times 12", "result": 12})),
        ("Roses are red...", ROSES),
        ("玫瑰是红色的。", "<think>想一想</think>玫瑰是红色的。"),
        ("Monday", "monday"),
        ("- Oslo\n- Rome", "oslo, rome"),
        ("Yes.\n\nThis answer was made by a machine. Check it before you use it.", "Yes."),
    ],
)
def test_an_edited_answer_belongs_to_the_call_that_made_it(answer: str, written: str):
    assert marks(answer, "poem", written) == ["i", "m"]
    assert marks(answer, "poem", written, "The answer is safe to show.") == ["i", "m", "i"]


@pytest.mark.parametrize("answer", ["Your order was placed.", "42", "Here is the poem that you asked for."])
def test_an_answer_that_no_call_made_belongs_to_none(answer: str):
    assert marks(answer, "poem", "orders") == ["i", "i"]


@pytest.mark.parametrize(("answer", "made"), [("The answer is 42.", True), ("The answer is 420.", False)])
@pytest.mark.parametrize("in_node", [True, False])
def test_a_short_text_made_the_answer_if_its_node_wrote_it(answer: str, made: bool, in_node: bool):
    root = run(None, "chain")
    router, writer = run(root, "chain"), run(root, "chain")
    router.node, writer.node, root.node = "router", "writer", None
    writer.output = {"messages": [Message("ai", answer)]}
    models = [(run(router), LLMCallEvent(completion="answer")), (run(root), LLMCallEvent(completion="42"))]
    if in_node:
        models[1] = (run(writer), models[1][1])
    mark_answer(Trace(root, None, 0), models, ChatMessage("a", "assistant", answer, 0))
    assert [event.made_answer for _, event in models] == [False, made and in_node]


def test_the_only_call_of_a_plain_chain_made_whatever_the_chain_returns():
    assert marks("true", "YES", node=False) == ["m"]
    assert marks("true", "YES", node=True) == ["i"]


def test_the_latest_of_equal_completions_made_the_answer():
    assert marks(f"{ROSES} ", ROSES, ROSES) == ["i", "m"]


def test_the_call_with_an_equal_text_made_the_answer_and_not_one_that_contains_it():
    assert marks(ROSES, ROSES, f"Verdict: fine. Text: {ROSES}") == ["m", "i"]


def test_calls_whose_whole_text_is_part_of_the_answer_are_not_internal():
    first, second = "The history of roses is long.", "Violets are grown everywhere in spring."
    assert sorted(marks(f"# Flowers\n\n{first}\n\n{second}", "plan", first, second)) == ["-", "i", "m"]


def test_the_id_of_the_answers_message_names_the_call():
    root = run(None, "chain")
    first, second = run(root), run(root)
    first.output = ModelResult((Message("ai", "Anna lives in Oslo.", "msg-1"),))
    second.output = ModelResult((Message("ai", "Shown.", "msg-2"),))
    root.output = {"messages": [Message("ai", "[hidden]", "msg-1")]}
    models = [(first, LLMCallEvent(completion="Anna lives in Oslo.")), (second, LLMCallEvent(completion="Shown."))]
    mark_answer(Trace(root, None, 0), models, ChatMessage("a", "assistant", "[hidden]", 0))
    assert [event.made_answer for _, event in models] == [True, False]


@pytest.mark.parametrize("rewriter_is_first", [True, False])
def test_a_later_call_that_rewrote_the_answers_message_made_it(rewriter_is_first: bool):
    """A moderator writes the message again and keeps its id. A call before it with the same text did not rewrite it."""
    root = run(None, "chain")
    written, moderated = "Call the idiots of billing.", "Please call billing."
    author, moderator = run(root), run(root)
    author.output = ModelResult((Message("ai", written, "msg-1"),))
    root.output = {"messages": [Message("ai", moderated, "msg-1")]}
    models = [(author, LLMCallEvent(completion=written)), (moderator, LLMCallEvent(completion=moderated))]
    if rewriter_is_first:
        models.reverse()
    mark_answer(Trace(root, None, 0), models, ChatMessage("a", "assistant", moderated, 0))
    maker = author if rewriter_is_first else moderator
    assert [run for run, event in models if event.made_answer] == [maker]


@pytest.mark.parametrize("marker", ["lc_internal_call", "lc_source", "gati_internal"])
def test_marked_calls_are_internal_also_when_they_request_tools(marker: str):
    root = run(None, "chain")
    models = [
        (run(root, **{marker: "x"}), LLMCallEvent(tool_requests=[{"name": "pick", "args": {"text": ROSES}}])),
        (run(root, **{marker: "x"}), LLMCallEvent(completion=ROSES)),
        (run(run(root, "tool")), LLMCallEvent(tool_requests=[{"name": "search", "args": {}}])),
        (run(root), LLMCallEvent(tool_requests=[{"name": "search", "args": {}}])),
    ]
    mark_answer(Trace(root, None, 0), models, ChatMessage("a", "assistant", ROSES, 0))
    assert [event.internal for _, event in models] == [True, True, True, False]


def test_the_model_of_the_answer_is_not_that_of_an_internal_call():
    root = run(None, "chain")
    models = [
        (run(root), LLMCallEvent(model="agent", tool_requests=[{"name": "search", "args": {}}])),
        (run(root, lc_source="x"), LLMCallEvent(model="router", completion="poem")),
    ]
    mark_answer(Trace(root, None, 0), models, None)
    assert answering_model(models) == "agent"


SENTENCES = st.lists(
    st.sampled_from(["roses", "violets", "blue", "red", "sky", "cat", "dog", "lives", "in", "oslo"]),
    min_size=4,
    max_size=12,
).map(" ".join)
EDITS = st.sampled_from(
    [
        str.strip,
        lambda text: text + "\n\nSources: a.md",
        lambda text: "Answer: " + text,
        lambda text: text.split("</think>")[-1],
        lambda text: text.replace(" ", "  "),
        lambda text: f"<p>{text}</p>",
    ]
)


@given(SENTENCES, st.lists(EDITS, max_size=3), st.sampled_from(["poem", "SAFE", '{"route": "billing"}']))
def test_any_edits_keep_the_answer_with_its_call(text: str, edits: list[Any], router: str):
    answer = text
    for edit in edits:
        answer = edit(answer)
    assert marks(answer, router, text) == ["i", "m"]


@pytest.mark.parametrize("depth", [15, 500, 1_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_deeply_nested_json_neither_fails_nor_takes_quadratic_time(depth: int, opening: str, closing: str):
    nested = opening * depth + "1" + closing * depth
    assert marks(f"{nested} That is all.", nested) == ["m"]
    assert marks("Something else entirely.", nested) == ["i"]


@pytest.mark.parametrize("blank", ["a", "\n", " ", "`", "``` "])
def test_an_open_code_fence_takes_linear_time(blank: str):
    assert texts_in_json("```json" + blank * 60_000) == []


def test_a_repeated_character_is_compared_a_limited_number_of_times():
    assert marks("a" * 1_000_000, "a" * 2_000_000) == ["m"]  # would take hours
