"""The handler never affects the program, and its copies record each run once."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from langchain_core.callbacks import CallbackManager, dispatch_custom_event
from langchain_core.documents import Document
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from gati import GatiLangChainCallback, observe
from gati.langchain import recorder, snapshot
from gati.testing import ScriptedChatModel, capture


class Library(BaseRetriever):
    """Always returns the same document."""

    def _get_relevant_documents(self, query: str, **_: Any) -> list[Document]:
        return [Document("Paris is the capital.")]


@tool
def shout(text: str) -> str:
    """Convert a text to upper case."""
    return text.upper()


def program() -> Runnable[Any, Any]:
    """Return a program with one run of each kind: prompt, retriever, model, tool, lambda."""
    prompt = ChatPromptTemplate([("system", "Answer from {found}."), ("human", "{question}")])
    model = ScriptedChatModel(replies=["Paris."])
    found = Library() | (lambda documents: documents[0].page_content)
    speak = RunnableLambda(lambda message: shout.invoke({"text": message.content}))
    return {"question": RunnablePassthrough(), "found": found} | prompt | model | speak


PLACES: list[tuple[Any, str]] = [
    (snapshot.Copier, "copy"),
    (recorder, "snapshot_state"),
    (recorder, "new_messages_of_call"),
    (recorder, "new_messages_of_input"),
    (recorder, "snapshot_prompt_output"),
    (recorder, "snapshot_message"),
    (recorder, "take_snapshot"),
    (recorder, "error_info"),
    (recorder, "snapshot_response_metadata"),
    (recorder, "template_of"),
    (recorder, "invocation_parameters"),
    (recorder, "identity_of_config"),
    (recorder, "enclosing_run"),
    (recorder.Recorder, "_record_start"),
    (recorder.Recorder, "_admit"),
    (recorder.Recorder, "_close"),
]


@pytest.mark.parametrize(("owner", "name"), PLACES, ids=lambda value: getattr(value, "__name__", value))
def test_an_internal_error_does_not_affect_the_program(
    owner: Any, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("an internal error of gati")

    monkeypatch.setattr("gati.pipeline.internal_errors.RAISE", False)
    monkeypatch.setattr(owner, name, broken)
    with capture():
        assert program().invoke("What is the capital?") == "PARIS."
    assert not [record for record in caplog.records if not record.name.startswith("gati")]


def test_a_failing_snapshot_loses_its_content_but_not_the_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gati.pipeline.internal_errors.RAISE", False)

    def broken(*_: Any) -> Any:
        raise RuntimeError("an internal error of gati")

    monkeypatch.setattr(recorder.Recorder, "_model_result", broken)
    with capture() as captured:
        program().invoke("What is the capital?")
        assert observe.stats().faults
    assert captured.transcript() == [("user", "What is the capital?"), ("assistant", "PARIS.")]


def everything(handlers: list[Any]) -> list[Any]:
    """Run a program that calls each callback of the handler at least once; return its results."""
    config: Any = {"callbacks": handlers}

    def tell(text: str) -> str:
        dispatch_custom_event("progress", {"done": 1})
        return text

    def fail(_: Any) -> Any:
        raise ValueError("no")

    def ask(state: dict[str, str]) -> dict[str, str]:
        return {"text": interrupt("really?")}

    graph = StateGraph(dict).add_node("ask", ask).add_edge(START, "ask").compile(checkpointer=InMemorySaver())
    thread: Any = {**config, "configurable": {"thread_id": "t"}}
    return [
        program().invoke("What is the capital?", config),
        "".join(piece.text for piece in ScriptedChatModel(replies=["one two"]).stream("x", config)),
        FakeListLLM(responses=["three"]).invoke("x", config),
        RunnableLambda(tell).invoke("told", config),
        RunnableLambda(fail).with_fallbacks([RunnableLambda(str)]).invoke("fell back", config),
        graph.invoke({"text": "hi"}, thread)["__interrupt__"][0].value,
        graph.invoke(Command(resume="yes"), thread),
    ]


@pytest.mark.parametrize("name", sorted(name for name in vars(recorder.Recorder) if not name.startswith("_")))
def test_an_error_in_any_callback_does_not_affect_the_program(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = everything([])

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("an internal error of gati")

    monkeypatch.setattr("gati.pipeline.internal_errors.RAISE", False)
    monkeypatch.setattr(recorder.Recorder, name, broken)
    with capture():
        assert everything([]) == expected


def test_a_handler_does_nothing_after_shutdown() -> None:
    with capture():
        handlers = observe.get_callbacks()
    assert everything(handlers) == everything([])


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda h: pickle.loads(pickle.dumps(h))])
def test_copies_of_the_handler_record_each_run_once(again: Any) -> None:
    with capture() as captured:
        handler = again(observe.get_callbacks()[0])
        model = ScriptedChatModel(replies=["Hello."]).with_config(callbacks=[handler])
        model.invoke("Hi", {"callbacks": [GatiLangChainCallback(), *observe.get_callbacks()]})
    assert captured.transcript() == [("user", "Hi"), ("assistant", "Hello.")]


def test_a_model_with_the_handler_can_be_deep_copied() -> None:
    with capture() as captured:
        model = ScriptedChatModel(replies=["Hello."], callbacks=observe.get_callbacks())
        assert model.model_copy(deep=True).invoke("Hi").content == "Hello."
    assert captured.transcript() == [("user", "Hi"), ("assistant", "Hello.")]


def test_a_handler_created_before_init_records_after_init() -> None:
    handler = GatiLangChainCallback()
    with capture(auto_inject=False) as captured:
        ScriptedChatModel(replies=["Hello."]).invoke("Hi", {"callbacks": [handler]})
    assert len(captured.turns) == 1


def test_the_handler_is_inline_and_truthy() -> None:
    handler = GatiLangChainCallback()
    assert handler.run_inline
    assert GatiLangChainCallback.run_inline
    assert handler


async def test_other_handlers_still_see_the_start_of_a_completion_model() -> None:
    seen: list[str] = []

    from langchain_core.callbacks import BaseCallbackHandler

    class Other(BaseCallbackHandler):
        def on_llm_start(self, *_: Any, **__: Any) -> None:
            seen.append("start")

    with capture() as captured:
        await FakeListLLM(responses=["Hello."]).ainvoke("Hi", {"callbacks": [Other()]})
    assert seen == ["start"]
    assert captured.transcript() == [("user", "Hi"), ("assistant", "Hello.")]


@pytest.mark.parametrize("inline", [True, False], ids=["an inline handler", "a handler in a thread"])
async def test_a_completion_model_is_recorded_beside_another_handler(inline: bool) -> None:
    from langchain_core.callbacks import BaseCallbackHandler

    class Other(BaseCallbackHandler):
        run_inline = inline

    model = FakeListLLM(responses=["Hello."])
    for explicit in (False, True):
        with capture(auto_inject=not explicit) as captured:
            config: Any = {"callbacks": [Other(), *(observe.get_callbacks() if explicit else [])]}
            await model.ainvoke("Hi", config)
            assert [text async for text in model.astream("Hi", config)]
            await model.abatch(["Hi", "Ho"], config)
        assert [text for role, text in captured.transcript() if role == "user"] == ["Hi", "Hi", "Hi", "Ho"]
        assert captured.transcript()[1] == ("assistant", "Hello.")


async def test_beside_an_inline_handler_langchain_calls_no_more_handlers_than_without_gati() -> None:
    from langchain_core.callbacks import BaseCallbackHandler

    def handler_class(is_inline: bool) -> type[BaseCallbackHandler]:
        class Other(BaseCallbackHandler):
            run_inline = is_inline

            def on_llm_start(self, *_: Any, **__: Any) -> None:
                seen.append(is_inline)

        return Other

    outcomes = []
    for enabled in (False, True):
        seen: list[bool] = []
        others = [handler_class(True)(), handler_class(False)()]
        with capture(enabled=enabled):
            await FakeListLLM(responses=["Hello."]).ainvoke("Hi", {"callbacks": others})
        outcomes.append(seen)
    assert outcomes[0] == outcomes[1]


def test_the_handler_does_not_change_its_arguments() -> None:
    given = {
        "messages": [AIMessage("x", tool_calls=[{"name": "a", "args": {"b": [1]}, "id": "c"}])],
        "n": {"deep": [1]},
    }
    before = copy.deepcopy(given)
    with capture():
        manager = CallbackManager(observe.get_callbacks())
        run = manager.on_chain_start({}, given)
        run.on_chain_end(given)
    assert given == before
