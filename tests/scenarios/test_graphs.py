"""LangGraph graphs: branches, maps, subgraphs, retries, caches, limits and kinds of state."""

from __future__ import annotations

import dataclasses
import inspect
import operator
from typing import Annotated, Any

import pytest
from langchain_core.callbacks import adispatch_custom_event, dispatch_custom_event
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.cache.memory import InMemoryCache
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph, add_messages
from langgraph.types import CachePolicy, RetryPolicy, Send
from pydantic import BaseModel
from typing_extensions import TypedDict

from tests.optional import requires_graph_marker
from tests.scenarios.harness import Config, Watch, each_method
from tests.scenarios.scripts import model

ASKED = {"messages": [("user", "Draw a cat.")]}
BOTH = "invoke ainvoke"


def model_node(*replies: Any, **more: Any) -> Any:
    """Return a node in which a model answers."""
    speaker = model(*replies, **more)
    return lambda state: {"messages": [speaker.invoke(state["messages"])]}


def test_conditional_edges_report_only_the_nodes_that_ran(watch: Watch):
    def graph() -> Any:
        builder = StateGraph(MessagesState)
        builder.add_node("poet", model_node("A poem."))
        builder.add_node("painter", model_node("A picture of a cat."))
        builder.add_conditional_edges(
            START, lambda state: "painter" if "Draw" in state["messages"][-1].text else "poet", ["poet", "painter"]
        )
        return builder.compile(name="artist")

    watch(
        """
        user_message   "Draw a cat."
        chain_start    artist
          task         painter
            llm        gpt-4o-mini 10>5 $
          final_response "A picture of a cat."
          chain_end    completed
        """,
        *each_method(graph, ASKED),
    )


class Topics(TypedDict, total=False):
    topic: str
    jokes: Annotated[list[str], operator.add]
    best: str


def test_send_runs_nodes_in_parallel_before_the_reduction(watch: Watch):
    def graph() -> Any:
        def write(state: Any) -> dict[str, Any]:
            return {"jokes": [model(f"A joke about {state['animal']}.").invoke("Joke about " + state["animal"]).text]}

        builder = StateGraph(Topics)
        builder.add_node("plan", lambda state: {})
        builder.add_node("write", write)
        builder.add_node("choose", lambda state: {"best": min(state["jokes"])}, defer=True)
        builder.add_edge(START, "plan")
        builder.add_conditional_edges("plan", lambda state: [Send("write", {"animal": a}) for a in ("cats", "dogs")])
        builder.add_edge("write", "choose")
        return builder.compile(name="jokes")

    watch(
        """
        user_message   "pets"
        chain_start    jokes
          task         choose => {"best":"A joke about cats."}
          task         plan
          task         write => {"jokes":["A joke about cats."]}
            llm        gpt-4o-mini 10>5 $ input human:"Joke about cats"
          task         write => {"jokes":["A joke about dogs."]}
            llm        gpt-4o-mini 10>5 $ internal input human:"Joke about dogs" => "A joke about dogs."
          final_response "A joke about cats."
          chain_end    completed
        """,
        *each_method(graph, {"topic": "pets"}, only=BOTH),
        unordered=True,
        output_key="best",
    )


def test_subgraphs_are_reported_as_a_node_and_inside_a_node(watch: Watch):
    def graph() -> Any:
        inner = StateGraph(MessagesState)
        inner.add_node("sketch", model_node("A sketch."))
        inner.add_edge(START, "sketch")
        other = StateGraph(MessagesState)
        other.add_node("colour", model_node("A coloured cat."))
        other.add_edge(START, "colour")
        called = other.compile(name="colours")

        builder = StateGraph(MessagesState)
        builder.add_node("sketches", inner.compile(name="sketches"))
        builder.add_node("finish", lambda state: {"messages": called.invoke(state)["messages"][-1:]})
        builder.add_edge(START, "sketches")
        builder.add_edge("sketches", "finish")
        return builder.compile(name="artist")

    watch(
        """
        user_message   "Draw a cat."
        chain_start    artist
          task         sketches
            workflow   sketches
              task     sketch
                llm    gpt-4o-mini 10>5 $ internal => "A sketch."
          task         finish
            workflow   colours
              task     colour
                llm    gpt-4o-mini 10>5 $
          final_response "A coloured cat."
          chain_end    completed
        """,
        *each_method(graph, ASKED),
    )


def test_a_retried_node_reports_each_attempt(watch: Watch):
    def graph() -> Any:
        tries: list[int] = []

        def shaky(state: MessagesState) -> dict[str, Any]:
            tries.append(1)
            if len(tries) == 1:
                raise ConnectionError("gone")
            return {"messages": [AIMessage("A cat.", id="a1")]}

        builder = StateGraph(MessagesState)
        builder.add_node("shaky", shaky, retry_policy=RetryPolicy(initial_interval=0.0, jitter=False, max_attempts=2))
        builder.add_edge(START, "shaky")
        return builder.compile()

    watch(
        """
        user_message   "Draw a cat."
        chain_start    LangGraph
          task         shaky error ConnectionError: gone
          task         shaky attempt=2
          final_response "A cat."
          chain_end    completed
        """,
        *each_method(graph, ASKED, only=BOTH),
    )


@pytest.mark.skipif(
    "error_handler" not in inspect.signature(StateGraph.add_node).parameters,
    reason="this LangGraph has no error handlers",
)
def test_a_node_error_handler_recovers_the_turn(watch: Watch):
    def graph() -> Any:
        def broken(state: MessagesState) -> dict[str, Any]:
            raise ValueError("no paper")

        def excuse(state: MessagesState) -> dict[str, Any]:
            return {"messages": [AIMessage("I am out of paper.", id="a1")]}

        builder = StateGraph(MessagesState)
        builder.add_node("draw", broken, error_handler=excuse)
        builder.add_edge(START, "draw")
        return builder.compile()

    traced = watch.trace(each_method(graph, ASKED, only="invoke")[0])
    assert traced.transcript() == [("user", "Draw a cat."), ("assistant", "I am out of paper.")]
    (end,) = traced.of_type("chain_end")
    assert end["output"]["status"] == "completed"
    broken = traced.of_type("task")[0]["properties"]
    assert (broken["node"], broken["status"], broken["error_type"]) == ("draw", "error", "ValueError")


def test_an_error_in_a_node_is_the_error_of_the_turn(watch: Watch):
    def graph() -> Any:
        def broken(state: MessagesState) -> dict[str, Any]:
            raise ValueError("no paper")

        builder = StateGraph(MessagesState)
        builder.add_node("draw", broken)
        builder.add_edge(START, "draw")
        return builder.compile()

    watch(
        """
        user_message   "Draw a cat."
        chain_start    LangGraph
          task         draw error ValueError: no paper
          chain_end    error ValueError: no paper
        """,
        *each_method(graph, ASKED),
    )


@requires_graph_marker
def test_a_cached_node_runs_once(watch: Watch):
    def program(config: Config) -> Any:
        builder = StateGraph(Topics)
        builder.add_node("slow", lambda state: {"best": "about " + state["topic"]}, cache_policy=CachePolicy())
        builder.add_edge(START, "slow")
        graph = builder.compile(cache=InMemoryCache())
        return [graph.invoke({"topic": "cats"}, config), graph.invoke({"topic": "cats"}, config)]

    watch(
        """
        conversation ~
        chain_start    LangGraph {"topic":"cats"}
          task         slow => {"best":"about cats"}
          final_response "about cats"
          chain_end    completed
        conversation ~
        chain_start    LangGraph {"topic":"cats"}
          final_response "about cats"
          chain_end    completed
        """,
        program,
        output_key="best",
    )


def test_the_recursion_limit_is_an_error_of_the_turn(watch: Watch):
    def graph() -> Any:
        builder = StateGraph(MessagesState)
        builder.add_node("again", lambda state: {})
        builder.add_edge(START, "again")
        builder.add_edge("again", "again")
        return builder.compile()

    traced = watch.trace(each_method(graph, ASKED, {"recursion_limit": 2}, only="invoke")[0])
    (end,) = traced.of_type("chain_end")
    assert end["output"]["status"] == "error"
    assert end["output"]["error"]["type"] == "GraphRecursionError"
    assert [m["properties"]["node"] for m in traced.of_type("task")] == ["again", "again"]
    assert traced.transcript() == [("user", "Draw a cat.")]


def test_an_entrypoint_and_its_tasks_are_one_turn(watch: Watch):
    @task
    def sketch(topic: str) -> str:
        return str(model(f"A sketch of {topic}.").invoke(f"Sketch {topic}").text)

    def flow() -> Any:
        @entrypoint()
        def draw(topic: str) -> str:
            return sketch(topic).result() + " Done."

        return draw

    watch(
        """
        user_message   "a cat"
        chain_start    LangGraph
          task         draw
            task       sketch => {"output":"A sketch of a cat."}
              llm      gpt-4o-mini 10>5 $ input human:"Sketch a cat" => "A sketch of a cat."
          final_response "A sketch of a cat. Done."
          chain_end    completed
        """,
        *each_method(flow, "a cat", only="invoke stream"),
    )


# -- states -------------------------------------------------------------------------------------------


class Asked(BaseModel):
    question: str
    answer: str = ""


@dataclasses.dataclass
class AskedData:
    question: str = ""
    answer: str = ""


class Chat(TypedDict):
    conversation_so_far: Annotated[list[AnyMessage], add_messages]


def answering(state: Any) -> dict[str, Any]:
    question = state["question"] if isinstance(state, dict) else state.question
    return {"answer": model("Forty-two.").invoke(question).text}


def test_a_graph_may_have_a_pydantic_state(watch: Watch):
    def graph() -> Any:
        builder = StateGraph(Asked)
        builder.add_node("think", answering)
        builder.add_edge(START, "think")
        return builder.compile()

    golden = """
        user_message   "The answer?"
        chain_start    LangGraph
          task         think => {"answer":"Forty-two."}
            llm        gpt-4o-mini 10>5 $
          final_response "Forty-two."
          chain_end    completed
        """
    watch(golden, *each_method(graph, Asked(question="The answer?"), only=BOTH))
    watch(golden, *each_method(graph, {"question": "The answer?"}, only=BOTH))


def test_a_graph_may_have_a_dataclass_state(watch: Watch):
    def graph() -> Any:
        builder = StateGraph(AskedData)
        builder.add_node("think", answering)
        builder.add_edge(START, "think")
        return builder.compile()

    watch(
        """
        user_message   "The answer?"
        chain_start    LangGraph
          task         think => {"answer":"Forty-two."}
            llm        gpt-4o-mini 10>5 $
          final_response "Forty-two."
          chain_end    completed
        """,
        *each_method(graph, AskedData("The answer?"), only=BOTH),
    )


def test_messages_are_found_under_a_custom_key(watch: Watch):
    def graph() -> Any:
        speaker = model("Forty-two.")
        builder = StateGraph(Chat)
        builder.add_node("think", lambda s: {"conversation_so_far": [speaker.invoke(s["conversation_so_far"])]})
        builder.add_edge(START, "think")
        return builder.compile()

    watch(
        """
        user_message   "The answer?"
        chain_start    LangGraph
          task         think
            llm        gpt-4o-mini 10>5 $
          final_response "Forty-two."
          chain_end    completed
        """,
        *each_method(graph, {"conversation_so_far": [HumanMessage("The answer?", id="h1")]}, only=BOTH),
    )


class Form(TypedDict, total=False):
    wish: str
    language: str
    letter: str
    draft: str


def test_input_key_and_output_key_select_the_messages(watch: Watch):
    def graph() -> Any:
        builder = StateGraph(Form)
        builder.add_node("write", lambda s: {"letter": "Dear Sir, " + s["wish"], "draft": "Dear …"})
        builder.add_edge(START, "write")
        return builder.compile()

    watch(
        """
        user_message   "a cat, please"
        chain_start    LangGraph {"language":"en"}
          task         write => {"letter":"Dear Sir, a cat, please","draft":"Dear …"}
          final_response "Dear Sir, a cat, please"
          chain_end    completed
        """,
        *each_method(graph, {"wish": "a cat, please", "language": "en"}, only=BOTH),
        input_key="wish",
        output_key="letter",
    )


def test_a_graph_without_text_has_no_messages(watch: Watch):
    """Numbers in, numbers out: no text that a user wrote or read."""

    class Numbers(TypedDict):
        numbers: list[int]
        total: int

    def graph() -> Any:
        builder = StateGraph(Numbers)
        builder.add_node("add", lambda s: {"total": sum(s["numbers"])})
        builder.add_edge(START, "add")
        return builder.compile()

    watch(
        """
        chain_start    LangGraph {"numbers":[1,2],"total":0}
          task         add => {"total":3}
          chain_end    completed
        """,
        *each_method(graph, {"numbers": [1, 2], "total": 0}, only=BOTH),
    )


# -- events -------------------------------------------------------------------------------------------


def test_custom_events_appear_under_the_node_that_emitted_them(watch: Watch):
    def make(is_async: bool) -> Any:
        def tell(state: MessagesState) -> dict[str, Any]:
            dispatch_custom_event("progress", {"percent": 50})
            return {"messages": [AIMessage("A cat.", id="a1")]}

        async def atell(state: MessagesState) -> dict[str, Any]:
            await adispatch_custom_event("progress", {"percent": 50})
            return {"messages": [AIMessage("A cat.", id="a1")]}

        builder = StateGraph(MessagesState)
        builder.add_node("draw", atell if is_async else tell)
        builder.add_edge(START, "draw")
        return builder.compile()

    watch(
        """
        user_message   "Draw a cat."
        chain_start    LangGraph
          task         draw
            callback   progress {"percent":50}
          final_response "A cat."
          chain_end    completed
        """,
        *each_method(lambda: make(False), ASKED, only="invoke stream"),
        *each_method(lambda: make(True), ASKED, only="ainvoke astream"),
    )


def test_router_functions_are_not_reported(watch: Watch):
    def graph() -> Any:
        builder = StateGraph(MessagesState)
        builder.add_node("draw", model_node("A cat."))
        builder.add_edge(START, "draw")
        builder.add_conditional_edges("draw", lambda state: END)
        return builder.compile()

    watch(
        """
        user_message   "Draw a cat."
        chain_start    LangGraph
          task         draw
            llm        gpt-4o-mini 10>5 $
          final_response "A cat."
          chain_end    completed
        """,
        *each_method(graph, ASKED, only=BOTH),
    )
