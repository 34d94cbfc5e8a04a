"""The program whose conversations the samples hold.

``python program.py PART… [--crash]`` runs the named parts in order, with the options that the environment gives.
It uses public names of gati only, so that any version can run it.

With ``--crash`` the process ends without shutting gati down: its lock file stays in the spool.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from gati import CustomEvent, observe
from gati.testing import ScriptedChatModel

UNICODE = 'Grüße, 你好, שלום 👩‍🚀 “quoted” \\ "plain"\n\ttab, line feed, \x07 bell and a lone \ud83d surrogate'
"""Text that a format can lose or damage."""


class Handbook(BaseRetriever):
    """Returns the same page for every query."""

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        return [Document("A city bike costs 18.00 € a day.", metadata={"page": 7, "score": 0.83})]


@tool
def multiply(a: float, b: float) -> float:
    """Multiply two numbers."""
    return a * b


@tool
def reserve(bike: str) -> str:
    """Reserve a bike."""
    raise LookupError(f"there is no {bike} today")


class State(MessagesState):
    """The conversation, and the page that was found for the latest question."""

    page: str


def _respond(messages: list[BaseMessage]) -> AIMessage:
    """Call both tools for the first question, then answer; answer the second question at once."""
    if sum(message.type == "human" for message in messages) > 1:
        return AIMessage("You are welcome.")
    if messages[-1].type == "tool":
        return AIMessage("Three days cost 54.00 €; no tandem is free.")
    calls: list[Any] = [
        {"name": "multiply", "args": {"a": 3, "b": 18.0}, "id": "call_a", "type": "tool_call"},
        {"name": "reserve", "args": {"bike": "tandem"}, "id": "call_b", "type": "tool_call"},
    ]
    return AIMessage("Let me calculate that.", tool_calls=calls)


def _shop() -> Any:
    handbook, tools = Handbook(), [multiply, reserve]
    model = ScriptedChatModel(respond=_respond).bind_tools(tools)
    prompt = ChatPromptTemplate(
        [("system", "You work for {shop}. Answer in {language}.\n\nHandbook:\n{page}"), MessagesPlaceholder("messages")]
    )

    def search(state: State) -> dict[str, Any]:
        return {"page": handbook.invoke(str(state["messages"][-1].content))[0].page_content}

    def answer(state: State) -> dict[str, Any]:
        values = {"shop": "Wheelhouse Zürich", "language": "English", **state}
        return {"messages": [(prompt | model).invoke(values)]}

    graph = StateGraph(State)
    graph.add_node("search", search)
    graph.add_node("answer", answer)
    graph.add_node("tools", ToolNode(tools, handle_tool_errors=True))
    graph.add_edge(START, "search")
    graph.add_edge("search", "answer")
    graph.add_conditional_edges("answer", tools_condition)
    graph.add_edge("tools", "answer")
    return graph.compile(checkpointer=InMemorySaver(), name="wheelhouse")


def _ask(conversation: str, *questions: str) -> None:
    model = ScriptedChatModel(replies=[f"Answer to: {question}" for question in questions])
    with observe.conversation(conversation, user_id="ada"):
        for question in questions:
            model.invoke(question)


def agent() -> None:
    """Two turns of a graph with retrieval, tools (one fails) and a prompt template."""
    shop = _shop()
    config = {"configurable": {"thread_id": "sample-agent"}, "run_name": "wheelhouse"}
    with observe.conversation(
        "sample-agent", user_id="ada", organization_id="o-1", properties={"plan": "pro", "seats": 3}
    ):
        for question in ("What do three days cost? 🚲", "Thank you!"):
            shop.invoke({"messages": [("user", question)]}, config)


def texts() -> None:
    """Text in many scripts, and a structured prompt that was passed explicitly."""
    model = ScriptedChatModel(replies=[UNICODE[::-1]])
    prompt = {
        "external_prompt_id": "sample-prompt",
        "components": [{"content": "Greet {{name}}.", "name": "greeting"}, {"content": "Facts", "is_dynamic": True}],
        "variables": {"name": "Zoë"},
    }
    with observe.conversation("sample-texts", user_id="Zoë", system_prompt=prompt):
        model.invoke(UNICODE)


def failure() -> None:
    """A turn that ends with an exception."""
    with observe.conversation("sample-failure", user_id="ada"):
        try:
            ScriptedChatModel(replies=[RuntimeError("the provider is down")]).invoke("Are you there?")
        except RuntimeError:
            pass  # the exception is the sample


def manual() -> None:
    """Everything that a program reports itself."""
    with observe.conversation("sample-manual", user_id="ada", organization_id="o-1"):
        with observe.span("price", input={"bikes": 2}) as step:
            step.output = {"price": 36.0}
        observe.track_event(CustomEvent(name="clicked", payload={"button": "rent"}, data={"screen": "home ☂"}))
        observe.log_rating(rating=4, rating_min=1, rating_max=5, feedback="très bien")
    observe.identify_user(
        "ada", name="Ada Löwe", email="ada@example.org", organization_id="o-1", properties={"age": 36}
    )
    observe.identify_organization("o-1", name="Société", properties={"seats": 3})
    observe.log_event(
        "upgrade", value="149.00", value_type="currency", influence="positive", quality_impact_score=0.5,
        conversation_id="sample-manual", user_id="ada", insert_id="sample-upgrade", properties={"from": "free"},
    )  # fmt: skip


def later() -> None:
    """Another conversation, for what is written after a part of the store was pushed."""
    _ask("sample-later", "Was this pushed before?")


def refused() -> None:
    """A conversation for a destination that refuses it."""
    _ask("sample-refused", "Will you take this?")


def damaged() -> None:
    """Three conversations that wait in the spool together."""
    for number in range(3):
        _ask(f"sample-damaged-{number}", f"Question {number}?")


PARTS = {part.__name__: part for part in (agent, texts, failure, manual, later, refused, damaged)}


def main(parts: list[str], crash: bool) -> None:
    """Run the parts."""
    observe.init()
    for part in parts:
        PARTS[part]()
    # A destination that cannot be reached keeps `flush` waiting until its timeout.
    observe.flush(float(os.environ["SAMPLE_FLUSH_SECONDS"]))
    if crash:
        os._exit(0)
    observe.shutdown(1.0)


if __name__ == "__main__":
    main([name for name in sys.argv[1:] if name != "--crash"], "--crash" in sys.argv)
