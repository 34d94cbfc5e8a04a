"""`gati.trace.run_tree`: what is read from the runs of a trace."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from gati.trace.records import Message, ModelCall, RunStarted
from gati.trace.run_tree import Run, model_messages


def model_run(inputs: Any) -> Run:
    return Run(RunStarted(uuid4(), None, "model", "", 0, inputs), None)


@pytest.mark.parametrize(
    ("reported", "read"),
    [
        (Message("human", "Hi"), [Message("human", "Hi")]),
        ({"role": "user", "content": "Hi"}, [Message("user", "Hi")]),
        ({"type": "human", "content": "Hi"}, [Message("human", "Hi")]),
        (["user", "Hi"], [Message("user", "Hi")]),
        ("Hi", []),
        (3, []),
        (None, []),
    ],
)
def test_the_messages_of_a_model_are_messages_in_whatever_form_it_reports_them(
    reported: Any, read: list[Message]
) -> None:
    call = ModelCall((), (Message("human", "Before"), reported), 2)
    assert model_messages(model_run(call)) == [Message("human", "Before"), *read]


def test_a_model_whose_start_was_not_recorded_has_no_messages() -> None:
    assert model_messages(model_run(None)) == []
