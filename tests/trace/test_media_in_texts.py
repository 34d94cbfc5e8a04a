"""`gati.trace.media_in_texts`: no encoded media in the texts of a turn."""

from __future__ import annotations

import base64
import random
from typing import Any

import pytest
from langchain_core.prompts import ChatPromptTemplate

from gati.events import LLMCallEvent
from gati.testing import ScriptedChatModel, capture
from gati.trace.media_in_texts import MediaInTexts

PICTURE = base64.b64encode(b"\x89PNG\r\n\x1a\n" + random.Random(1).randbytes(3_000)).decode()
NOTE = "[image/png, 3008 bytes]"
TEXT, CLEAN = f"Look: ![x](data:image/png;base64,{PICTURE})", f"Look: ![x](data:image/png;base64,{NOTE})"
model = ScriptedChatModel(replies=[f"Drawn: {PICTURE}"])
PROGRAMS: dict[str, tuple[Any, Any]] = {
    "a message": (model, TEXT),
    "a template": (
        ChatPromptTemplate.from_template("Look: ![x](data:image/png;base64,{png})") | model,
        {"png": PICTURE},
    ),
    "a system prompt": (model, [("system", f"Your logo: {PICTURE}"), ("user", TEXT)]),
}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("submission", ["turn", "incremental"])
def test_messages_answers_and_prompts_hold_no_encoded_media(program: str, submission: str) -> None:
    chain, given = PROGRAMS[program]
    with capture(local=False, conversation_id="c", submission=submission) as captured:
        chain.invoke(given)
    assert captured.transcript() == [("user", CLEAN), ("assistant", f"Drawn: {NOTE}")]
    assert PICTURE[100:300] not in repr(captured.turns)
    (call,) = [event for turn in captured.turns for event in turn.events if isinstance(event, LLMCallEvent)]
    assert call.is_answer


def test_a_text_without_media_stays_the_same_object() -> None:
    text = "A long text with words. " * 100
    assert MediaInTexts().text(text) is text
