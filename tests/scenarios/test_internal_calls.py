"""Model calls whose output the user never reads: routers, titles, critics, failed attempts."""

from __future__ import annotations

from typing import Any

from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel
from typing_extensions import TypedDict

from tests.scenarios.harness import Config, Watch, each_method
from tests.scenarios.scripts import call, model, tool_request

ASKED = {"messages": [("user", "Draw a cat.")]}


class Route(BaseModel):
    """Where to go."""

    node: str


class Chat(MessagesState):
    title: str


def test_a_router_call_with_structured_output_is_internal(watch: Watch):
    def graph() -> Any:
        router = model(tool_request(call("Route", "r1", node="painter"))).with_structured_output(Route)
        builder = StateGraph(MessagesState)
        builder.add_node("painter", lambda s: {"messages": [model("A cat.").invoke(s["messages"])]})
        builder.add_node("poet", lambda s: {"messages": [model("A poem.").invoke(s["messages"])]})
        builder.add_conditional_edges(START, lambda s: router.invoke(s["messages"]).node, ["painter", "poet"])
        return builder.compile(name="studio")

    watch(
        """
        user_message   "Draw a cat."
        chain_start    studio
          llm          gpt-4o-mini 10>5 $ calls=Route
          task         painter
            llm        gpt-4o-mini 10>5 $
          final_response "A cat."
          chain_end    completed
        """,
        *each_method(graph, ASKED),
    )


def test_a_title_generated_in_parallel_is_internal(watch: Watch):
    def graph() -> Any:
        builder = StateGraph(Chat)
        builder.add_node("answer", lambda s: {"messages": [model("A cat.").invoke(s["messages"])]})
        builder.add_node("entitle", lambda s: {"title": model("Drawing cats").invoke("A title, please.").text})
        builder.add_edge(START, "answer")
        builder.add_edge("answer", "entitle")
        return builder.compile(name="chat")

    watch(
        """
        user_message   "Draw a cat."
        chain_start    chat
          task         answer
            llm        gpt-4o-mini 10>5 $
          task         entitle => {"title":"Drawing cats"}
            llm        gpt-4o-mini 10>5 $ internal input human:"A title, please." => "Drawing cats"
          final_response "A cat."
          chain_end    completed
        """,
        *each_method(graph, ASKED),
    )


def test_drafts_and_critiques_are_internal(watch: Watch):
    class Work(TypedDict, total=False):
        question: str
        draft: str
        critique: str
        answer: str

    def graph() -> Any:
        def write(state: Work) -> Work:
            return {"draft": model("A cat sat.").invoke(state["question"]).text}

        def judge(state: Work) -> Work:
            return {"critique": model("Too short.").invoke("Judge: " + state["draft"]).text}

        def finish(state: Work) -> Work:
            return {"answer": model("A cat sat on a mat.").invoke("Better: " + state["draft"]).text}

        builder = StateGraph(Work)
        builder.add_sequence([write, judge, finish])
        builder.add_edge(START, "write")
        return builder.compile(name="writer")

    watch(
        """
        user_message   "A rhyme?"
        chain_start    writer
          task         write => {"draft":"A cat sat."}
            llm        gpt-4o-mini 10>5 $ internal => "A cat sat."
          task         judge => {"critique":"Too short."}
            llm        gpt-4o-mini 10>5 $ internal input human:"Judge: A cat sat." => "Too short."
          task         finish => {"answer":"A cat sat on a mat."}
            llm        gpt-4o-mini 10>5 $ input human:"Better: A cat sat."
          final_response "A cat sat on a mat."
          chain_end    completed
        """,
        *each_method(graph, {"question": "A rhyme?"}),
    )


def test_a_failed_attempt_before_a_fallback_in_a_node_is_reported(watch: Watch):
    def graph() -> Any:
        either = model(RuntimeError("overloaded")).with_fallbacks([model("A cat.", model_name="gpt-4o")])
        builder = StateGraph(MessagesState)
        builder.add_node("draw", lambda s: {"messages": [either.invoke(s["messages"])]})
        builder.add_edge(START, "draw")
        return builder.compile(name="studio")

    watch(
        """
        user_message   "Draw a cat."
        chain_start    studio
          task         draw
            llm        gpt-4o-mini ?>? error RuntimeError: overloaded
            llm        gpt-4o 10>5 $
          final_response "A cat."
          chain_end    completed
        """,
        *each_method(graph, ASKED),
    )


def test_a_question_rewritten_in_a_node_is_internal(watch: Watch):
    def graph() -> Any:
        rewrite = ChatPromptTemplate.from_messages([("system", "Rewrite."), ("human", "{question}")]) | model(
            "cat, ink"
        )

        def search(state: Chat, config: RunnableConfig) -> dict[str, Any]:
            return {"title": rewrite.invoke({"question": state["messages"][-1].text}, config).text}

        builder = StateGraph(Chat)
        builder.add_node("search", search)
        builder.add_node("answer", lambda s: {"messages": [model("A cat in ink.").invoke(s["messages"])]})
        builder.add_edge(START, "search")
        builder.add_edge("search", "answer")
        return builder.compile(name="chat", checkpointer=InMemorySaver())

    def program(config: Config) -> Any:
        return graph().invoke(ASKED, {**config, "configurable": {"thread_id": "c-1"}})["title"]

    watch(
        """
        conversation c-1 of anonymous
        prompt agent/search "Rewrite."
        user_message   "Draw a cat."
        chain_start    chat
          task         search => {"title":"cat, ink"}
            llm        gpt-4o-mini 10>5 $ internal => "cat, ink"
          task         answer
            llm        gpt-4o-mini 10>5 $
          final_response "A cat in ink."
          chain_end    completed
        """,
        program,
    )
