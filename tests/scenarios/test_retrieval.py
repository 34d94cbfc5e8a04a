"""Retrieval: documents are recorded, are the context of the answer, and a component of the prompt."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore

from gati import observe
from tests.scenarios.harness import Config, Watch, each_method
from tests.scenarios.scripts import model

PAGES = [
    Document("A city bike costs 18.00 a day.", metadata={"page": 1, "score": 0.9}),
    Document("Helmets are free with each bike.", metadata={"page": 2, "score": 0.4}),
]
PROMPT = ChatPromptTemplate([("system", "Answer from the handbook:\n{handbook}\n\nBe brief."), ("human", "{question}")])


class Handbook(BaseRetriever):
    fails: bool = False

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        if self.fails:
            raise ConnectionError("the index is down")
        return PAGES


def joined(documents: list[Document]) -> str:
    return "\n".join(document.page_content for document in documents)


def rag(**more: Any) -> Runnable[Any, Any]:
    handbook = Handbook(**more)
    return (
        {"handbook": handbook | joined, "question": RunnablePassthrough()}
        | PROMPT
        | model("18.00 a day.")
        | StrOutputParser()
    )


def test_a_rag_chain_reports_the_documents_and_the_answer_made_from_them(watch: Watch):
    traced = watch(
        r"""
        prompt agent[handbook]
          system "Answer from the handbook:\n"
          rag* "A city bike costs 18.00 a day.\nHelmets are free with each bike."
          system "\n\nBe brief."
        user_message   "What does a bike cost?"
        chain_start    RunnableSequence
          retrieval    "What does a bike cost?" => "A city bike costs 18.00 a day." | "Helmets are free with each bike."
          llm          gpt-4o-mini 10>5 $
          assistant_message "18.00 a day." context="A city bike costs 18.00 a day.\n\nHelmets are free with each bike."
          chain_end    completed
        """,
        *each_method(rag, "What does a bike cost?"),
    )
    (documents,) = traced.of_type("retrieval")
    assert documents["output"]["documents"][0] == {
        "text": "A city bike costs 18.00 a day.",
        "metadata": {"page": 1, "score": 0.9},
        "score": 0.9,
    }


def test_retrieved_documents_do_not_create_new_prompt_versions(watch: Watch):
    def program(config: Config) -> Any:
        rag().invoke("What does a bike cost?", config)
        PAGES.append(Document("E-bikes cost 35.00."))
        try:
            rag().invoke("And an e-bike?", config)
        finally:
            PAGES.pop()

    traced = watch.trace(program)
    assert len({m["properties"]["prompt_version"] for m in traced.of_type("llm")}) == 1


def test_a_failing_retriever_is_reported(watch: Watch):
    watch(
        """
        conversation c-1 of anonymous
        user_message   "What does a bike cost?"
        chain_start    RunnableSequence
          retrieval    "What does a bike cost?" error ConnectionError: the index is down
          chain_end    error ConnectionError: the index is down
        """,
        *each_method(lambda: rag(fails=True), "What does a bike cost?", {"metadata": {"conversation_id": "c-1"}}),
    )


def test_a_standalone_retriever_call_belongs_to_the_surrounding_conversation(watch: Watch):
    def program(config: Config) -> Any:
        with observe.conversation("c-1", user_id="ada"):
            pages = Handbook().invoke("bikes?", config)
            return model("18.00 a day.").invoke(f"{joined(pages)}\n\nWhat does a bike cost?", config).text

    watch(
        r"""
        conversation c-1 of ada
        retrieval      "bikes?" => "A city bike costs 18.00 a day." | "Helmets are free with each bike."
        user_message   "A city bike costs 18.00 a day.\nHelmets are free with each bike.\n\nWhat does a bike cost?"
        llm            gpt-4o-mini 10>5 $
          assistant_message "18.00 a day."
        """,
        program,
    )


def test_a_vector_store_reports_searches_and_wrapped_embeddings_report_texts(watch: Watch):
    def program(config: Config) -> Any:
        pytest.importorskip("numpy", reason="needs numpy")
        embeddings = observe.wrap_embeddings(DeterministicFakeEmbedding(size=4))
        store = InMemoryVectorStore(embeddings)
        with observe.paused():
            store.add_documents([Document("A city bike costs 18.00 a day.")])
        chain = {"handbook": store.as_retriever() | joined, "question": RunnablePassthrough()} | PROMPT | model("18.")
        return chain.invoke("What does a bike cost?", config).text

    watch(
        r"""
        prompt agent[handbook]
          system "Answer from the handbook:\n"
          rag* "A city bike costs 18.00 a day."
          system "\n\nBe brief."
        user_message   "What does a bike cost?"
        chain_start    RunnableSequence
          retrieval    "What does a bike cost?" => "A city bike costs 18.00 a day."
          embedding    embed_query {"text":"What does a bike cost?"} => {"vectors":1,"dimensions":4}
          llm          gpt-4o-mini 10>5 $
          assistant_message "18." context="A city bike costs 18.00 a day."
          chain_end    completed
        """,
        program,
    )


class Reranked(BaseRetriever):
    """Keeps the best page of the handbook, with a score of its own."""

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        best = Handbook().invoke(query, {"callbacks": run_manager.get_child()})[0]
        return [Document(best.page_content, metadata={**best.metadata, "relevance_score": 0.7})]


def test_the_context_holds_what_the_outermost_retriever_returned(watch: Watch):
    chain = {"handbook": Reranked() | joined, "question": RunnablePassthrough()} | PROMPT | model("18 a day.")
    traced = watch.trace(lambda config: chain.invoke("What does a bike cost?", config))
    (answer,) = traced.of_type("assistant_message")
    assert answer["context"] == PAGES[0].page_content
    outer = next(m for m in traced.of_type("retrieval") if m["properties"]["documents"] == 1)
    assert outer["output"]["documents"][0]["score"] == 0.7


def test_the_context_holds_each_text_once(watch: Watch):
    def program(config: Config) -> Any:
        for question in ("What does a bike cost?", "And a helmet?"):
            pages = Handbook().invoke(question, config)
        return (PROMPT | model("Free.")).invoke({"handbook": joined(pages), "question": question}, config)

    graph = as_chain(program)
    (answer,) = watch.trace(lambda config: graph.invoke("go", config)).of_type("assistant_message")
    assert answer["context"] == "\n\n".join(page.page_content for page in PAGES)


def as_chain(program: Any) -> Runnable[Any, Any]:
    return RunnableLambda(lambda _, config: program(config))


def test_an_embedding_names_its_model(watch: Watch):
    class Named(DeterministicFakeEmbedding):
        model: str = "text-embedding-3-small"

    def program(config: Config) -> Any:
        observe.wrap_embeddings(Named(size=4)).embed_query("bikes")
        return model("Hi.").invoke("hello", config)

    traced = watch.trace(lambda config: as_chain(program).invoke("hello", config))
    (embedding,) = traced.of_type("embedding")
    assert embedding["model"] == "text-embedding-3-small"
    assert embedding["input"] == {"text": "bikes"}
