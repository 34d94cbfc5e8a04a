"""Every way to stream a graph delivers the same conversation."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.runnables import Runnable
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph

from tests.scenarios.harness import Config, Watch
from tests.scenarios.scripts import model

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
version_3 = pytest.mark.skipif(
    not hasattr(Runnable, "stream_events"), reason="this langchain-core has no events of version 3"
)

ASKED = {"messages": [("user", "Draw a cat.")]}
MODES = ["values", "updates", "messages", "custom", "debug", "tasks", "checkpoints"]

GOLDEN = """
    conversation c-1 of anonymous
    user_message   "Draw a cat."
    chain_start    artist
      task         draw
        llm        gpt-4o-mini 10>5 $
      final_response "A fine cat."
      chain_end    completed
    """


def artist() -> Any:
    painter = model("A fine cat.")

    def draw(state: MessagesState) -> dict[str, Any]:
        get_stream_writer()({"progress": 50})
        return {"messages": [painter.invoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("draw", draw)
    builder.add_edge(START, "draw")
    return builder.compile(name="artist", checkpointer=InMemorySaver())


def own(config: Config) -> Config:
    return {**config, "configurable": {"thread_id": "c-1"}}


@pytest.mark.parametrize("mode", [*MODES, MODES])
def test_every_stream_mode_delivers_the_same_messages(watch: Watch, mode: Any):
    def stream(config: Config) -> int:
        return len(list(artist().stream(ASKED, own(config), stream_mode=mode, subgraphs=True)))

    async def astream(config: Config) -> int:
        return len([chunk async for chunk in artist().astream(ASKED, own(config), stream_mode=mode)])

    watch(GOLDEN, stream, astream)


def test_stream_mode_messages_records_the_first_token(watch: Watch):
    traced = watch.trace(lambda config: len(list(artist().stream(ASKED, own(config), stream_mode="messages"))))
    (call,) = traced.of_type("llm")
    assert call["properties"]["time_to_first_token_ms"] >= 0


def test_astream_events_v2_delivers_the_same_messages(watch: Watch):
    async def program(config: Config) -> Any:
        return [event["event"] async for event in artist().astream_events(ASKED, own(config), version="v2")]

    watch(GOLDEN, program, compare=False)


@version_3
def test_astream_events_v3_delivers_the_same_messages(watch: Watch):
    async def program(config: Config) -> Any:
        stream = await artist().astream_events(ASKED, own(config), version="v3")
        return (await stream.output())["messages"][-1].text

    watch(GOLDEN, program)


@version_3
def test_stream_events_v3_delivers_the_same_messages(watch: Watch):
    def program(config: Config) -> Any:
        return artist().stream_events(ASKED, own(config), version="v3").output["messages"][-1].text

    watch(GOLDEN, program)


@version_3
def test_astream_events_v3_of_a_model_delivers_a_turn(watch: Watch):
    async def program(config: Config) -> Any:
        stream = await model("A fine cat.").astream_events("Draw a cat.", config, version="v3")
        return (await stream).text

    watch(
        """
        user_message   "Draw a cat."
        llm            gpt-4o-mini 10>5 $
          assistant_message "A fine cat."
        """,
        program,
    )


@version_3
def test_astream_events_v3_records_the_first_token(watch: Watch):
    async def program(config: Config) -> Any:
        stream = await model("A fine cat.").astream_events("Draw a cat.", config, version="v3")
        return (await stream).text

    async def of_graph(config: Config) -> Any:
        stream = await artist().astream_events(ASKED, own(config), version="v3")
        return (await stream.output())["messages"][-1].text

    for started in (program, of_graph):
        (call,) = watch.trace(started).of_type("llm")
        assert 0 <= call["properties"]["time_to_first_token_ms"] <= call["properties"]["latency_ms"]
