from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gati.trace.questions import question_in, replies_in


@pytest.mark.parametrize(
    ("payload", "question"),
    [
        ("Your name?", "Your name?"),
        ({"query": "Your name?"}, "Your name?"),
        ({"ask": "Your name?", "attempt": 2, "options": ["a", "b"]}, "Your name?"),
        ({"question": "Send it?", "draft": "Dear Ann"}, "Send it?"),
        ({"message": "Send it?", "title": "Mail"}, "Send it?"),
        ({"title": "Mail", "draft": "Dear Ann"}, ""),
        ({"text": "", "draft": "Dear Ann"}, "Dear Ann"),
        ({"choose": ["red", "blue"]}, ""),
        ({"kind": "date", "options": ["Mon", "Tue"]}, ""),
        ({"task_id": "8f14e45f-ceea-467f-a9f1-3b1f2a3c4d5e"}, ""),
        ({"next": "human-review"}, ""),
        ({"url": "https://example.org/doc"}, ""),
        ({"next": "Continue?"}, "Continue?"),
        ({"query": "", "message": "Approve?", "draft": "Hi"}, "Approve?"),
        ({"message": "Sure"}, "Sure"),
        ({"ask": "确定吗"}, "确定吗"),
        ({"action_requests": [{"name": "pay"}], "message": "Pay?"}, ""),
        ({"question": {"text": "Deep?"}}, ""),
        (None, ""),
        (3, ""),
        (["Your name?"], ""),
    ],
)
def test_the_question_of_an_interrupt_is_its_only_text_or_under_a_usual_key(payload: Any, question: str):
    assert question_in(payload) == question


@pytest.mark.parametrize(
    ("payload", "replies"),
    [
        ("Ann", ["Ann"]),
        ({"data": "Ann"}, ["Ann"]),
        ({"answer": "Ann", "channel": "web"}, ["Ann"]),
        ({"first": "Ann", "last": "Lee"}, []),
        ({"approved": True}, []),
        ({"decisions": [{"type": "approve"}]}, []),
        ({"decisions": [{"type": "reject", "message": "Too risky."}]}, []),
        ({"decisions": [{"type": "respond", "message": "On Tuesday"}]}, ["On Tuesday"]),
        ({"decisions": [{"type": "approve"}, {"type": "respond", "message": "No"}], "note": "x"}, ["No"]),
        ({"type": "respond", "message": "On Tuesday", "author": "Ann"}, ["On Tuesday"]),
        ({"type": "response", "args": None, "message": "On Tuesday"}, ["On Tuesday"]),
        ({"decisions": "On Tuesday"}, ["On Tuesday"]),
        ({"type": "response", "args": "On Tuesday"}, ["On Tuesday"]),
        ([{"type": "response", "args": "On Tuesday"}], ["On Tuesday"]),
        ([{"type": "accept", "args": None}, {"type": "response", "args": "No"}], ["No"]),
        ([{"type": "edit", "args": {"action": "pay", "args": {"amount": 3}}}], []),
        ([{"type": "edit", "args": '{"hotel": "Ritz"}'}], []),
        ({"type": "edit", "tool": "book", "args": '{"hotel": "Ritz"}'}, []),
        ({"action": "run", "args": "--force"}, []),
        ([{"title": "A", "text": "A long document."}, {"title": "B", "text": "Another one."}], []),
        ([{"type": "accept"}], []),
        ({"type": "accept"}, []),
        ({"data": "", "answer": "Ann", "note": "x"}, ["Ann"]),
        (["Ann"], []),
        ([], []),
    ],
)
def test_the_reply_of_a_resume_is_its_only_text_or_under_a_usual_key(payload: Any, replies: list[str]):
    assert replies_in(payload) == replies


@given(st.dictionaries(st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5)))
def test_a_question_is_always_a_text_of_the_payload(payload: dict[str, Any]):
    for text in (question_in(payload), *replies_in(payload)):
        assert text == "" or text in payload.values()
