"""The streaming protocol (version 3): text read from a stream that stops, is cancelled or fails is kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables import Runnable
from langgraph.graph import START, MessagesState, StateGraph

from gati.testing.scripted_model import ScriptedChatModel
from tests.scenarios.harness import Config, Program, Watch

pytestmark = [
    pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning"),
    pytest.mark.skipif(not hasattr(Runnable, "stream_events"), reason="this langchain-core has no events of version 3"),
]

WORDS = ["Roses ", "are ", "red."]


class SubclassOfStr(str):
    """As LangChain's `TextAccessor`, which integrations pass as the token of a text chunk."""


class Reciter(ScriptedChatModel):
    """Streams words and fails after `fails_after` of them. `reports`: it reports tokens, as most integrations do."""

    model_name: str = ""
    fails_after: int = 99
    reports: bool = True

    def _get_ls_params(self, *_: Any, **__: Any) -> Any:
        return {}

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **_: Any
    ) -> Iterator[ChatGenerationChunk]:
        for number, word in enumerate(WORDS):
            if number >= self.fails_after:
                raise ConnectionError("lost")
            chunk = ChatGenerationChunk(message=AIMessageChunk(word))
            if run_manager is not None and self.reports:
                run_manager.on_llm_new_token(SubclassOfStr(word), chunk=chunk)
            yield chunk


def failing(reports: bool) -> Program:
    return lambda config: list(
        Reciter(fails_after=2, reports=reports).stream_events("Recite.", config, version="v3").text
    )


def failing_async(reports: bool) -> Program:
    async def program(config: Config) -> Any:
        stream: Any = await Reciter(fails_after=2, reports=reports).astream_events("Recite.", config, version="v3")
        return [str(text) async for text in stream.text]

    return program


def closed(reports: bool) -> Program:
    async def program(config: Config) -> Any:
        stream: Any = await Reciter(reports=reports, fails_after=99).astream_events("Recite.", config, version="v3")
        async for text in stream.text:
            if text == WORDS[1]:
                break
        await stream.aclose()

    return program


@pytest.mark.parametrize("reports", [True, False], ids=["tokens", "events only"])
def test_a_stream_that_fails_keeps_its_text(watch: Watch, reports: bool) -> None:
    watch(
        """
        user_message   "Recite."
        llm            ? ?>? error ConnectionError: lost
          assistant_message "Roses are " error
        """,
        failing(reports),
        failing_async(reports),
    )


@pytest.mark.parametrize("reports", [True, False], ids=["tokens", "events only"])
def test_a_stream_that_is_closed_keeps_its_text(watch: Watch, reports: bool) -> None:
    traced = watch.trace(closed(reports))
    (asked, answer) = traced.transcript()
    assert asked == ("user", "Recite.")
    # LangChain reads one chunk ahead of the program, so its token may have been reported already.
    assert answer[1] in ("Roses are ", "Roses are red.")
    assert [m["properties"]["status"] for m in traced.of_type("assistant_message")] == ["aborted"]


@pytest.mark.parametrize("reports", [True, False], ids=["tokens", "events only"])
def test_a_graph_whose_model_fails_keeps_the_text(watch: Watch, reports: bool) -> None:
    reciter = Reciter(fails_after=2, reports=reports)
    builder = StateGraph(MessagesState)
    builder.add_node("recite", lambda state: {"messages": [reciter.invoke(state["messages"])]})
    builder.add_edge(START, "recite")
    graph: Any = builder.compile()

    def program(config: Config) -> Any:
        stream = graph.stream_events({"messages": [("user", "Recite.")]}, config, version="v3")
        return [str(text) for message in stream.messages for text in message.text]

    traced = watch.trace(program)
    assert traced.transcript() == [("user", "Recite."), ("assistant", "Roses are ")]
    assert [m["properties"]["status"] for m in traced.of_type("final_response")] == ["error"]


def test_a_stream_that_completes_has_each_text_once(watch: Watch) -> None:
    for reports in (True, False):
        traced = watch.trace(
            lambda config, reports=reports: list(
                Reciter(reports=reports).stream_events("Recite.", config, version="v3").text
            )
        )
        assert traced.transcript() == [("user", "Recite."), ("assistant", "Roses are red.")]
        assert traced.of_type("llm")[0]["properties"]["time_to_first_token_ms"] >= 0
