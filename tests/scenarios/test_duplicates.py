"""Each run is recorded once, however often the handler is attached, and not at all while paused."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda
from langgraph.graph import START, MessagesState, StateGraph

from gati import GatiLangChainCallback, observe
from gati.testing.scripted_model import ScriptedChatModel
from tests.scenarios.golden import tree
from tests.scenarios.harness import Config, Watch
from tests.scenarios.scripts import model

PROMPT = ChatPromptTemplate([("human", "{text}")])
ONCE = """
user_message   "hi"
chain_start    RunnableSequence
  llm          gpt-4o-mini 10>5 $
  assistant_message "Hello."
  chain_end    completed
"""


def handlers() -> list[BaseCallbackHandler]:
    return observe.get_callbacks()


def chain(**more: Any) -> Runnable[Any, Any]:
    return PROMPT | model("Hello.", **more) | StrOutputParser()


WAYS: dict[str, Callable[[], Any]] = {
    "model and invoke": lambda: chain(callbacks=handlers()).invoke({"text": "hi"}, {"callbacks": handlers()}),
    "with_config and invoke": lambda: (
        chain().with_config(callbacks=handlers()).invoke({"text": "hi"}, {"callbacks": handlers()})
    ),
    "two instances at invoke": lambda: chain().invoke(
        {"text": "hi"}, {"callbacks": [*handlers(), GatiLangChainCallback()]}
    ),
    "another instance on the model": lambda: chain(callbacks=[GatiLangChainCallback()]).invoke(
        {"text": "hi"}, {"callbacks": handlers()}
    ),
    "the same twice in a list": lambda: chain().invoke({"text": "hi"}, {"callbacks": handlers() * 2}),
    "a copy": lambda: chain().invoke({"text": "hi"}, {"callbacks": [*handlers(), copy.deepcopy(handlers()[0])]}),
    "a pickled one": lambda: chain().invoke({"text": "hi"}, {"callbacks": [pickle.loads(pickle.dumps(handlers()[0]))]}),
    "a copied model": lambda: (
        PROMPT | model("Hello.", callbacks=handlers()).model_copy(deep=True) | StrOutputParser()
    ).invoke({"text": "hi"}, {"callbacks": handlers()}),
    "given again inside": lambda: (
        RunnableLambda(lambda text, config: chain().invoke(text, {**config, "callbacks": config["callbacks"]}))
        .with_config(run_name="RunnableSequence")
        .invoke({"text": "hi"}, {"callbacks": handlers()})
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("auto_inject", [True, False], ids=["also injected", "explicit"])
def test_each_run_is_reported_once(watch: Watch, way: str, auto_inject: bool):
    traced = watch.trace(lambda config: WAYS[way](), auto_inject=auto_inject)
    assert traced.outcome == "'Hello.'"
    assert tree(traced.messages) == ONCE.strip()


def test_calling_init_twice_installs_one_handler(watch: Watch):
    observe.init(api_key="gf_another", base_url="http://127.0.0.1:9")
    traced = watch.trace(lambda config: chain().invoke({"text": "hi"}, config))
    assert tree(traced.messages) == ONCE.strip()


def test_a_node_that_passes_the_handler_to_a_chain_is_one_turn(watch: Watch):
    def answer(state: MessagesState) -> Config:
        text = chain().invoke({"text": state["messages"][-1].text}, {"callbacks": handlers()})
        return {"messages": [AIMessage(text)]}

    app = StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").compile()
    watch(
        """
        user_message   "hi"
        chain_start    LangGraph
          task         answer
            llm        gpt-4o-mini 10>5 $
          final_response "Hello."
          chain_end    completed
        """,
        lambda config: app.invoke({"messages": [("user", "hi")]}, config)["messages"][-1].text,
    )


class OtherHandler(BaseCallbackHandler):
    """A handler of another library."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def on_chain_start(self, *args: Any, **kwargs: Any) -> None:
        self.events.append("chain")

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        self.events.append("model")

    def on_llm_new_token(self, *args: Any, **kwargs: Any) -> None:
        self.events.append("token")

    def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
        self.events.append("answer")


def test_other_handlers_receive_the_same_events_as_without_gati(watch: Watch):
    def program(config: Config) -> list[str]:
        other = OtherHandler()
        handed = {**config, "callbacks": [*config.get("callbacks", ()), other]}
        chain(callbacks=[other]).invoke({"text": "hi"}, handed)
        list(chain().stream({"text": "hi"}, handed))
        asyncio.run(chain().ainvoke({"text": "hi"}, handed))
        return other.events

    watch("\n".join(["conversation ~" + ONCE.rstrip()] * 3), program)


def test_nothing_is_recorded_while_paused(watch: Watch):
    def program(config: Config) -> Any:
        with observe.paused():
            secret = chain().invoke({"text": "secret"}, config)
            streamed = list(model("Hello.").stream("secret", config))
        return [secret, streamed, chain().invoke({"text": "hi"}, config)]

    async def aprogram(config: Config) -> Any:
        async with observe.paused():
            secret = await asyncio.gather(*[chain().ainvoke({"text": "secret"}, config) for _ in range(3)])
        return [secret, await chain().ainvoke({"text": "hi"}, config)]

    @observe.paused()
    def quiet(config: Config) -> Any:
        return chain().invoke({"text": "secret"}, config)

    def decorated(config: Config) -> Any:
        return [quiet(config), chain().invoke({"text": "hi"}, config)]

    watch(ONCE, program, aprogram, decorated)


def test_a_pause_inside_a_turn_omits_the_paused_part(watch: Watch):
    def answer(text: str) -> str:
        with observe.paused():
            secret = chain().invoke({"text": "secret"})
        return model(f"{secret} You.").invoke(text).text

    watch(
        """
        user_message   "hi"
        chain_start    answer
          llm          gpt-4o-mini 10>5 $
          assistant_message "Hello. You."
          chain_end    completed
        """,
        lambda config: RunnableLambda(answer).invoke("hi", config),
    )


def test_a_turn_started_while_paused_is_never_recorded(watch: Watch):
    def program(config: Config) -> Any:
        with observe.paused():
            stream = chain().stream({"text": "secret"}, config)
            first = next(stream)
        return [first, *stream]

    watch("", program)


def test_nothing_is_recorded_before_init_and_after_shutdown(watch: Watch):
    kept = watch.trace(lambda config: chain().invoke({"text": "hi"}, config))
    assert len(kept.messages) == 5
    handler = GatiLangChainCallback()
    for callbacks in ([handler], observe.get_callbacks()):
        assert chain(callbacks=callbacks).invoke({"text": "hi"}, {"callbacks": callbacks}) == "Hello."
    assert not observe.flush().delivered


def test_a_model_created_before_init_is_recorded(watch: Watch):
    before = ScriptedChatModel(replies=["Hello."])
    traced = watch.trace(lambda config: before.invoke("hi", config).text)
    assert traced.transcript() == [("user", "hi"), ("assistant", "Hello.")]
