"""`gati.langchain.history`: which history an input repeats, at a cost that its length does not change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from pydantic import BaseModel

from gati.langchain.history import HEAD, TAIL, repeated_history
from gati.langchain.message_snapshot import snapshot_message
from gati.limits import hash_of_text
from tests.unpacked import unpacked

HELLO, HI, ASK = HumanMessage("Hello"), AIMessage("Hi!", id="a-1"), HumanMessage("144?")


@dataclass
class DataclassState:
    question: str = "144?"
    chat_history: list[Any] = field(default_factory=lambda: [HELLO, HI])


class PydanticState(BaseModel):
    question: str = "144?"
    chat_history: list[Any] = [HELLO, HI]


@pytest.mark.parametrize(
    "inputs",
    [
        [HELLO, HI, ASK],
        {"messages": [HELLO, HI, ASK]},
        {"question": "144?", "chat_history": [HELLO, HI]},
        {"messages": [("user", "Hello"), ("assistant", "Hi!"), ("user", "144?")]},
        {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi!"}, ASK]},
        {"messages": [HumanMessage([{"type": "text", "text": "Hello"}]), AIMessage([{"type": "text", "text": "Hi!"}])]},
        # `text` and `StrOutputParser` return a subclass of `str`.
        {"messages": [("user", HELLO.text), ("assistant", HI.text), ("user", ASK.text)]},
        {"history": [{"role": "user", "content": HELLO.text}, {"role": "assistant", "content": HI.text}], "q": "144?"},
        {"messages": [("user", [HELLO.text]), ("ai", [{"type": "text", "text": HI.text}])]},
        DataclassState(),
        PydanticState(),
    ],
)
def test_the_texts_up_to_the_last_answer_are_recorded_as_hashes(inputs: Any) -> None:
    history = repeated_history(inputs)
    assert history is not None
    assert (history.texts, history.is_whole) == ((hash("Hello"), hash("Hi!")), True)


@pytest.mark.parametrize(
    "inputs", ["Hello", None, 3, {}, [], [HELLO, ASK], {"messages": [ASK]}, {"x": "y", "n": [1, 2]}]
)
def test_an_input_without_an_answer_repeats_no_history(inputs: Any) -> None:
    assert repeated_history(inputs) is None


def test_the_id_of_the_last_answer_is_recorded() -> None:
    assert (history := repeated_history([HELLO, HI, ASK])) is not None
    assert history.answer_id == "a-1"
    assert (history := repeated_history([HELLO, AIMessage("Hi!"), ASK])) is not None
    assert history.answer_id is None


def test_only_the_ends_of_a_long_history_are_recorded() -> None:
    messages = [kind(f"text {number}") for number in range(100) for kind in (HumanMessage, AIMessage)]
    history = repeated_history([*messages, ASK])
    assert history is not None
    assert (len(history.texts), history.is_whole) == (HEAD + TAIL, False)
    assert (history.texts[0], history.texts[-1]) == (hash("text 0"), hash("text 99"))


@pytest.mark.parametrize("word", ["word", "Wört"])
def test_a_long_text_has_the_hash_that_it_has_when_it_is_cut(word: str) -> None:
    text = f"{word} " * 30_000
    history = repeated_history([HumanMessage(text), HI, ASK])
    assert history is not None
    assert history.texts == (hash_of_text(unpacked(snapshot_message(HumanMessage(text))).content), hash("Hi!"))
    as_dicts = repeated_history([{"role": "user", "content": text}, HI, ASK])
    assert as_dicts is not None
    assert as_dicts.texts == history.texts
