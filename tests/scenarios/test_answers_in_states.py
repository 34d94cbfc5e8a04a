"""The answer of a graph that keeps texts, labels and objects in entries of its state."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from pydantic import create_model

from gati import observe
from gati.testing import capture
from tests.scenarios.reading import READERS, THREAD, answers, invoke, written
from tests.scenarios.scripts import call, model, tool_request
from tests.scenarios.test_side_products import state_of

DRAFT = "Bicycles have two wheels and no engine."
REPORT = "# Bicycles\n\nA bicycle is a vehicle with two wheels [1]."


def graph(schema: Any, **nodes: Any) -> Any:
    """Return a graph with a checkpointer that runs these nodes one after the other."""
    builder, before = StateGraph(schema), START
    for name, node in nodes.items():
        builder.add_node(name, node)
        builder.add_edge(before, name)
        before = name
    return builder.compile(checkpointer=InMemorySaver())


def structured(**fields: Any) -> Any:
    """Return what a model gives as structured output."""
    schema: Any = create_model("Output", **{name: (type(value), ...) for name, value in fields.items()})
    found: Any = model(tool_request(call("Output", **fields))).with_structured_output(schema).invoke("Go on.")
    return found.model_dump()


@pytest.mark.parametrize("key", ["final_report", "answer"])
@pytest.mark.parametrize("question", ["Approve it?", {"kind": "ready", "words": 7}])
def test_a_draft_is_read_before_the_question_and_again_when_it_is_published(key: str, question: Any) -> None:
    schema = state_of(draft=str, approved=bool, id=str, **{key: str})
    program = graph(
        schema,
        write=written("draft", DRAFT),
        ask=lambda s: {"approved": interrupt(question)},
        publish=lambda s: {key: s["draft"], "id": "urn:li:17"},
    )
    waiting = f"{DRAFT}\n\n{question}" if isinstance(question, str) else DRAFT
    assert answers(invoke, program, {"topic": "bicycles"}, Command(resume={"ok": True})) == [waiting, DRAFT]


@READERS
@pytest.mark.parametrize("thread", [True, False])
@pytest.mark.parametrize("word", ["urn:li:17", "confirmed", "bar"])
def test_a_word_that_no_model_said_is_not_the_answer_of_a_graph(read: Any, thread: bool, word: str) -> None:
    schema: Any = MessagesState if thread else state_of()

    class State(schema):  # type: ignore[misc, valid-type]  # chosen at run time
        status: str
        kind: str

    given = {"messages": [("user", "Book it.")]} if thread else {"topic": "Book it."}
    program = graph(State, note=lambda s: {"status": word}, sort=lambda s: {"kind": structured(kind=word)["kind"]})
    assert answers(read, program, given) == []


def test_a_word_that_a_model_said_is_the_answer_of_a_graph() -> None:
    assert answers(invoke, graph(state_of(mood=str), sort=written("mood", "positive")), {"topic": "Fine."}) == [
        "positive"
    ]


@pytest.mark.parametrize("key", ["answer", "result", "response"])
def test_content_blocks_are_an_answer(key: str) -> None:
    program = graph(
        state_of(query=str, **{key: list}),
        rewrite=written("query", "bicycle wheels number"),
        reply=lambda s: {key: model(DRAFT).invoke("Answer.").content_blocks},
    )
    assert answers(invoke, program, {"topic": "bicycles"}) == [DRAFT]


@pytest.mark.parametrize("extra", [{"changes": ["No engine."]}, {"change": "Removed the engine."}, {}])
@pytest.mark.parametrize("key", ["revised_response", "final_answer", "improved_reply"])
def test_a_revision_in_an_object_comes_before_the_draft(key: str, extra: dict[str, Any]) -> None:
    revised = "Bicycles have two wheels."
    program = graph(
        state_of(first_response=str, **dict.fromkeys((key, "changes", "change"), Any)),
        write=written("first_response", DRAFT),
        revise=lambda s: structured(**{key: revised}, **extra),
    )
    assert answers(invoke, program, {"topic": "bicycles"}) == [revised]


@READERS
@pytest.mark.parametrize("frame", ["{}\n\n1. http://a.test", "<div>{}</div>"])
def test_a_report_around_a_model_s_text_is_the_answer_in_one_of_its_forms(read: Any, frame: str) -> None:
    def finish(state: Any) -> Any:
        report = model(REPORT).invoke("Write the report.").text
        return {"summary": frame.format(report), "markdown": f"{report}\n\n1. http://a.test"}

    program = graph(state_of(summary=str, markdown=str), draft=written("summary", DRAFT), finish=finish)
    (answer,) = answers(read, program, {"topic": "bicycles"})
    assert REPORT in answer


class Shelf(BaseRetriever):
    """Finds one document."""

    def _get_relevant_documents(self, query: str, **options: Any) -> list[Document]:
        return [Document("A page about bicycles.", metadata={"source": "a.pdf"})]


def test_the_documents_of_a_retriever_are_not_the_answer_of_a_chain() -> None:
    rewrite = ChatPromptTemplate.from_messages([("human", "Rewrite: {q}")]) | model("bicycles") | (lambda m: m.text)
    assert answers(invoke, rewrite | Shelf(), {"q": "What is it?"}) == []
    both = RunnablePassthrough.assign(docs=RunnableLambda(lambda x: x["q"]) | Shelf())
    request = tool_request(call("cite", text=DRAFT))
    forced = both | {"answer": RunnableLambda(lambda x: x["q"]) | model(request), "docs": lambda x: x["docs"]}
    assert answers(invoke, forced, {"q": "What is it?"}) == []


def test_the_documents_that_a_classic_chain_returns_are_not_part_of_an_answer() -> None:
    def summarize(state: Any) -> Any:
        return {"summary": {"input_documents": state["docs"], "output_text": model(DRAFT).invoke("Sum up.").text}}

    program = graph(state_of(docs=list, summary=dict), summarize=summarize)
    with capture() as captured, observe.conversation("c"):
        program.invoke({"docs": [Document("SECRET")]}, THREAD)
    (answer,) = [text for role, text in captured.transcript() if role == "assistant"]
    assert DRAFT in answer
    assert "SECRET" not in answer


def test_a_node_s_own_words_before_a_question_are_no_draft() -> None:
    class State(MessagesState):
        query: str

    program = graph(
        State,
        sort=written("query", "wheels"),
        ask=lambda s: {"messages": [AIMessage(interrupt("Which bicycle?"))]},
    )
    assert answers(invoke, program, {"messages": [("user", "How many wheels?")]}) == ["Which bicycle?"]


@pytest.mark.parametrize(
    ("key", "text"),
    [("final_path", "/home/ann/reports/2026/bicycles.md"), ("final_prompt", "A watercolor of a bicycle"), ("expected_answer", "It has two wheels.")],
)  # fmt: skip
def test_a_value_beside_the_answer_does_not_replace_it(key: str, text: str) -> None:
    program = graph(state_of(summary=str, **{key: str}), write=written("summary", DRAFT), save=lambda s: {key: text})
    assert answers(invoke, program, {"topic": "bicycles"}) == [DRAFT]


@pytest.mark.parametrize("frame", ["# {}", "Reviewer: {}", "out/posts/{}"])
def test_a_title_or_critique_that_a_node_formats_does_not_replace_the_text(frame: str) -> None:
    title = "About the wheels"
    program = graph(
        state_of(article=str, title=str),
        write=written("article", DRAFT),
        name=lambda s: {"title": frame.format(model(title).invoke("Name it.").text)},
    )
    assert answers(invoke, program, {"topic": "bicycles"}) == [DRAFT]


@pytest.mark.parametrize("said", ["Positive", "Sentiment: positive", "Final Answer: positive."])
def test_a_word_that_the_program_reads_out_of_a_model_s_text_is_the_answer(said: str) -> None:
    program = graph(
        state_of(mood=str), sort=lambda s: {"mood": model(said).invoke("Sort.").text.split()[-1].strip(".").lower()}
    )
    assert answers(invoke, program, {"topic": "Fine."}) == ["positive"]


def test_the_words_that_a_node_reads_itself_are_the_persons() -> None:
    program = graph(
        MessagesState,
        listen=lambda s: {"messages": [("user", "Hi, I am Ann.")]},
        agent=lambda s: {"messages": [model("Hello Ann.").invoke(s["messages"])]},
    )
    with capture() as captured:
        program.invoke({"messages": []}, THREAD)
    assert captured.transcript() == [("user", "Hi, I am Ann."), ("assistant", "Hello Ann.")]
