"""`gati.trace.tool_results`: which messages of a program contain the result of a tool."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gati.trace.outputs import read_json
from gati.trace.records import COMMAND, ErrorInfo, Message, RunStarted
from gati.trace.run_tree import Run
from gati.trace.tool_results import ToolResults, is_distinctive

WORDS = st.text(st.characters(categories=["L", "N"], max_codepoint=0x2FFF), min_size=1, max_size=15)


def ran(output: Any, ended: int | None = 1, error: ErrorInfo | None = None) -> Run:
    run = Run(RunStarted(uuid4(), None, "tool", "look", 0), None)
    run.output, run.ended, run.error = output, ended, error
    return run


def is_in(text: str, *runs: Run) -> bool:
    return ToolResults(runs).is_in(text, read_json(text))


@given(WORDS, WORDS, WORDS)
def test_a_word_or_two_inside_a_text_are_there_by_chance(before: str, result: str, after: str):
    for text in (f"{before} {result} {after}", f"{before}{result}{after}"):
        for output in (result, {"found": result}, [result, "b"], Message("tool", result)):
            assert not is_in(text, ran(output))


@given(WORDS)
def test_a_short_result_is_recognized_as_the_whole_text(result: str):
    for output in (result, {"found": result}, [result, "b"], Message("tool", result)):
        assert is_in(result, ran("another"), ran(output))


@pytest.mark.parametrize(
    "output",
    ["It is sunny today", "ORD-2024-0099-8812", "https://example.org/a", "今日は晴れ時々曇りで気温は二十五度です"],
)
@pytest.mark.parametrize("wrap", [lambda text: text, lambda text: {"n": 1, "text": text}, lambda text: [{"a": [text]}]])
def test_a_distinctive_result_is_recognized_inside_a_text(output: str, wrap: Any):
    assert is_in(f"Result: {output}.", ran(wrap(output)))
    assert not is_in("Result: something else.", ran(wrap(output)))


@pytest.mark.parametrize(
    "output", [{"b": 1, "a": [1, 2]}, [{"n": 3}], {"é": "ü"}, {"deep": {"er": None}}, None, True, 3.5]
)
@pytest.mark.parametrize(
    "write",
    [str, json.dumps, lambda value: json.dumps(value, indent=2), lambda value: json.dumps(value, ensure_ascii=False)],
)
def test_a_result_is_recognized_however_the_program_serializes_it(output: Any, write: Any):
    assert is_in(write(output), ran("x"), ran(output))


def test_a_run_that_failed_or_has_not_ended_has_no_result():
    failed = ran(None, error=ErrorInfo("ValueError", "no"))
    for text in ("None", "null", ""):
        assert not is_in(text, failed, ran(None, ended=None))


def test_an_empty_text_is_only_the_result_of_a_tool_that_returned_one():
    assert is_in("", ran(""))
    assert not is_in("", ran({"a": "", "b": 1}), ran(["x"]))


def test_the_calls_whose_tool_message_a_tool_returned_are_known():
    def answer(call_id: str) -> Message:
        return Message("tool", "done", tool_call_id=call_id)

    command = {COMMAND: {"update": {"messages": [answer("c2")]}}}
    results = ToolResults([ran(answer("c1")), ran([command, answer("c3")]), ran("c4")])
    assert [results.has_message_of(call_id) for call_id in ("c1", "c2", "c3", "c4")] == [True, True, True, False]


@pytest.mark.parametrize("text", ["", "ok", "not found", "x" * 15, "x" * 15 + " " + "y" * 15, " \n "])
def test_a_text_of_a_short_word_or_two_is_not_distinctive(text: str):
    assert not is_distinctive(text)


@pytest.mark.parametrize("text", ["a b c", "one\ntwo\tthree four", "x" * 16, "id " + "x" * 16])
def test_three_words_or_a_word_as_long_as_an_id_are_distinctive(text: str):
    assert is_distinctive(text)
