"""Entrypoints of LangGraph's functional API that return one value and save another (`entrypoint.final`)."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import add_messages
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from gati import observe
from tests.scenarios.golden import tree
from tests.scenarios.harness import Config, Program, Watch
from tests.scenarios.scripts import model

SAVED = [HumanMessage("A saved question.", id="s1"), AIMessage("A saved answer.", id="s2")]
Finish = Callable[[Any], Any]
Form = Callable[[str], Any]


class Found(BaseModel):
    answer: str
    sources: list[str] = []


@dataclasses.dataclass
class FoundData:
    answer: str
    sources: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(slots=True)
class FoundSlots:
    answer: str


class Finished(entrypoint.final):  # type: ignore[type-arg]  # a program may leave the types open
    """A program's own kind of result."""


def as_is(value: Any) -> Any:
    return value


def final(value: Any) -> Any:
    return entrypoint.final(value=value, save=SAVED)


FORMS: dict[str, Form] = {
    "dict": lambda text: {"answer": text, "sources": []},
    "dict_of_messages": lambda text: {"messages": [AIMessage(text, id="a1")]},
    "text": lambda text: text,
    "message": lambda text: AIMessage(text, id="a1"),
    "messages": lambda text: [HumanMessage("Cats?", id="h1"), AIMessage(text, id="a1")],
    "pydantic": lambda text: Found(answer=text),
    "dataclass": lambda text: FoundData(text),
    "dataclass_with_slots": lambda text: FoundSlots(text),
    "none": lambda text: None,
}


def plain_flow(form: Form, finish: Finish, **options: Any) -> Any:
    @entrypoint(**options)
    def flow(question: str, *, previous: Any = None) -> Any:
        text = model("cats purr all day.").invoke(question).text
        return finish(form(text.capitalize() + " (AI)"))

    return flow


def async_flow(form: Form, finish: Finish, **options: Any) -> Any:
    @entrypoint(**options)
    async def flow(question: str, *, previous: Any = None) -> Any:
        text = (await model("cats purr all day.").ainvoke(question)).text
        return finish(form(text.capitalize() + " (AI)"))

    return flow


def nested_flow(form: Form, finish: Finish, **options: Any) -> Any:
    inner = plain_flow(form, finish)

    @entrypoint(**options)
    def outer(question: str) -> Any:
        return finish(inner.invoke(question))

    return outer


def flow_in_a_task(form: Form, finish: Finish, **options: Any) -> Any:
    inner = plain_flow(form, finish)

    @task
    def ask(question: str) -> Any:
        return inner.invoke(question)

    @entrypoint(**options)
    def outer(question: str) -> Any:
        return finish(ask(question).result())

    return outer


def finished_by_a_task(form: Form, finish: Finish, **options: Any) -> Any:
    @task
    def ask(question: str) -> Any:
        return finish(form(model("cats purr all day.").invoke(question).text.capitalize() + " (AI)"))

    @entrypoint(**options)
    def outer(question: str) -> Any:
        return ask(question).result()

    return outer


def finished_by_a_step(form: Form, finish: Finish, **options: Any) -> Any:
    @observe.step
    def ask(question: str) -> Any:
        return finish(form(model("cats purr all day.").invoke(question).text.capitalize() + " (AI)"))

    @entrypoint(**options)
    def outer(question: str) -> Any:
        return ask(question)

    return outer


def approved_flow(form: Form, finish: Finish, **_: Any) -> Any:
    @task
    def draft(question: str) -> str:
        return str(model("Cats purr.").invoke(question).text)

    @entrypoint(checkpointer=InMemorySaver())
    def flow(question: str, *, previous: Any = None) -> Any:
        text = draft(question).result()
        assert interrupt("Please review.") == "yes"
        return finish(form(text))

    return flow


FLOWS = [async_flow, nested_flow, flow_in_a_task, finished_by_a_task, finished_by_a_step, approved_flow]


def calling(flow: Any, method: str, given: Any, config: Config) -> Any:
    async def astream() -> Any:
        return [chunk async for chunk in flow.astream(given, config)]

    if method == "astream":
        return asyncio.run(astream())
    result = getattr(flow, method)(given, config)
    return asyncio.run(result) if method == "ainvoke" else list(result) if method == "stream" else result


def program(make: Callable[[], Any], method: str, *inputs: Any) -> Program:
    def run(config: Config) -> Any:
        flow = make()
        own = {**config, "configurable": {"thread_id": "c-1"}}
        return [str(calling(flow, method, given, own)) for given in inputs]

    return run


def same(
    watch: Watch, form: Form, flow: Any, method: str = "invoke", *inputs: Any, finish: Finish = final, saver: Any = None
) -> None:
    """Check that a flow which ends with `finish(value)` delivers the same messages as one that returns the value."""
    delivered = []
    for ending in (as_is, finish):
        make = partial(flow, form, ending, checkpointer=saver and saver())
        traced = watch.trace(program(make, method, *(inputs or ["Cats?"])))
        assert "raised" not in traced.outcome
        delivered.append(tree(traced.messages, False))
    assert delivered[1] == delivered[0]
    assert "saved" not in delivered[1]


@pytest.mark.parametrize("form", FORMS)
def test_a_final_value_of_any_form_is_told_like_the_same_value_returned(watch: Watch, form: str) -> None:
    same(watch, FORMS[form], plain_flow)


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.__name__)
@pytest.mark.parametrize("form", ["dict", "messages"])
def test_a_final_value_is_told_like_the_same_value_returned_wherever_it_is_made(
    watch: Watch, form: str, flow: Any
) -> None:
    inputs = ["Cats?", Command(resume="yes")] if flow is approved_flow else ["Cats?"]
    same(watch, FORMS[form], flow, "ainvoke" if flow is async_flow else "invoke", *inputs)


@pytest.mark.parametrize("method", ["ainvoke", "stream", "astream"])
@pytest.mark.parametrize("saver", [InMemorySaver, None], ids=["checkpointer", "no_checkpointer"])
def test_a_final_value_is_told_by_every_method_with_and_without_a_checkpointer(
    watch: Watch, saver: Any, method: str
) -> None:
    same(watch, FORMS["dict"], plain_flow, method, "Cats?", saver=saver)


def test_a_subclass_of_final_is_a_final_value_too(watch: Watch) -> None:
    same(watch, FORMS["dict"], plain_flow, finish=lambda value: Finished(value=value, save=SAVED))


def test_a_final_value_that_a_model_did_not_write_letter_for_letter_is_the_answer(watch: Watch) -> None:
    watch(
        """
        conversation c-1 of anonymous
        user_message   "Cats?"
        chain_start    LangGraph
          task         flow => {"answer":"Cats purr all day. (AI)"}
            llm        gpt-4o-mini 10>5 $ => "cats purr all day."
          final_response "Cats purr all day. (AI)"
          chain_end    completed
        """,
        program(lambda: plain_flow(FORMS["dict"], final), "invoke", "Cats?"),
    )


def test_a_saved_history_is_no_output_of_the_turns_that_save_it(watch: Watch) -> None:
    def chat_bot() -> Any:
        speaker = model("re one", "re two", "re three")

        @entrypoint(checkpointer=InMemorySaver())
        def bot(new: Any, *, previous: Any = None) -> Any:
            history: Any = add_messages(previous or [], new)
            answer = speaker.invoke(history)
            return entrypoint.final(value=answer, save=add_messages(history, answer))

        return bot

    turn = """
        user_message   "{0}"
        chain_start    LangGraph
          task         bot
            llm        gpt-4o-mini 10>5 $
          final_response "re {0}"
          chain_end    completed"""
    inputs = [[{"role": "user", "content": text}] for text in ("one", "two", "three")]
    watch(
        "\n        conversation c-1 of anonymous" + "".join(map(turn.format, ("one", "two", "three"))),
        *(program(chat_bot, method, *inputs) for method in ("invoke", "ainvoke", "stream")),
    )
