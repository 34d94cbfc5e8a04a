"""The answer of a turn: the part of the output that the user read."""

from __future__ import annotations

from typing import Any, TypedDict

from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import CommaSeparatedListOutputParser, JsonOutputParser, StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough
from langgraph.graph import START, StateGraph

from gati import observe
from tests.scenarios.harness import Config, Watch, each_method
from tests.scenarios.scripts import call, model, tool_request, weather
from tests.scenarios.test_retrieval import Handbook, joined

PROMPT = ChatPromptTemplate([("human", "{question}")])


def test_an_answer_with_its_sources_is_the_answer(watch: Watch):
    def make() -> Runnable[Any, Any]:
        with_pages = RunnablePassthrough.assign(pages=(lambda given: given["question"]) | Handbook())
        answer = ChatPromptTemplate([("human", "{handbook}\n{question}")]) | model("18.00 a day.") | StrOutputParser()
        return with_pages.assign(handbook=lambda given: joined(given["pages"])).assign(answer=answer)

    watch(
        r"""
        user_message   "How much?"
        chain_start    RunnableSequence
          retrieval    "How much?" => "A city bike costs 18.00 a day." | "Helmets are free with each bike."
          llm          gpt-4o-mini 10>5 $ input human:"A city bike costs 18.00 a day.\nHelmets are free with each bike.\nHow much?"
          assistant_message "18.00 a day." context="A city bike costs 18.00 a day.\n\nHelmets are free with each bike."
          chain_end    completed
        """,
        *each_method(make, {"question": "How much?"}, only="invoke ainvoke"),
    )


def test_the_key_that_a_chain_adds_to_its_input_is_the_answer(watch: Watch):
    watch(
        """
        user_message   "bears"
        chain_start    RunnableAssign<joke> {"mood":"silly"}
          llm          gpt-4o-mini 10>5 $
          assistant_message "Bear with me."
          chain_end    completed
        """,
        *each_method(
            lambda: RunnablePassthrough.assign(
                joke=(lambda given: given["topic"]) | model("Bear with me.") | StrOutputParser()
            ),
            {"topic": "bears", "mood": "silly"},
            only="invoke ainvoke",
        ),
    )


class Joke(TypedDict, total=False):
    topic: str
    draft: str
    joke: str


def test_the_answer_is_found_in_the_graph_state(watch: Watch):
    def draft(state: Joke) -> Joke:
        return {"draft": model("A bear…").invoke(f"Draft: {state['topic']}").text}

    def finish(state: Joke) -> Joke:
        return {"joke": model("Bear with me.").invoke(f"Finish: {state['draft']}").text}

    def make() -> Any:
        graph = StateGraph(Joke).add_node("drafts", draft).add_node("finishes", finish)
        return graph.add_edge(START, "drafts").add_edge("drafts", "finishes").compile()

    watch(
        """
        user_message   "bears"
        chain_start    LangGraph
          task         drafts => {"draft":"A bear…"}
            llm        gpt-4o-mini 10>5 $ internal input human:"Draft: bears" => "A bear…"
          task         finishes => {"joke":"Bear with me."}
            llm        gpt-4o-mini 10>5 $ input human:"Finish: A bear…"
          final_response "Bear with me."
          chain_end    completed
        """,
        *each_method(make, {"topic": "bears"}),
    )


def test_a_structured_answer_is_reported_in_full_and_once(watch: Watch):
    text = '{\n  "name": "Ada",\n  "fields": ["maths"]\n}'
    watch(
        r"""
        user_message   "Who?"
        chain_start    RunnableSequence
          llm          gpt-4o-mini 10>5 $
          assistant_message "{\"name\":\"Ada\",\"fields\":[\"maths\"]}"
          chain_end    completed
        """,
        *each_method(lambda: PROMPT | model(text) | JsonOutputParser(), {"question": "Who?"}),
    )


def test_a_list_is_reported_as_json(watch: Watch):
    watch(
        r"""
        user_message   "Which?"
        chain_start    RunnableSequence
          llm          gpt-4o-mini 10>5 $ => "red, blue"
          assistant_message "[\"red\",\"blue\"]"
          chain_end    completed
        """,
        *each_method(lambda: PROMPT | model("red, blue") | CommaSeparatedListOutputParser(), {"question": "Which?"}),
    )


def test_a_structured_output_with_raw_message_reports_the_parsed_value(watch: Watch):
    def make() -> Runnable[Any, Any]:
        asked = model(tool_request(call("Fact", person="Ada")))
        return RunnablePassthrough() | {"raw": asked} | RunnablePassthrough.assign(
            parsed=lambda given: given["raw"].tool_calls[0]["args"], parsing_error=lambda _: None
        )  # fmt: skip

    watch(
        r"""
        user_message   "Who?"
        chain_start    RunnableSequence
          llm          gpt-4o-mini 10>5 $ calls=Fact
          assistant_message "{\"person\":\"Ada\"}"
          chain_end    completed
        """,
        *each_method(make, "Who?", only="invoke ainvoke"),
    )


def test_a_configured_key_is_the_answer(watch: Watch):
    watch(
        """
        conversation c-1 of anonymous
        user_message   "Who?"
        chain_start    RunnableLambda
          assistant_message "Ada"
          chain_end    completed
        """,
        *each_method(
            lambda: RunnableLambda(lambda _: {"answer": "not this", "told": "Ada"}),
            {"question": "Who?"},
            {"metadata": {"conversation_id": "c-1"}},
        ),
        output_key="told",
    )


def test_a_loop_in_the_program_is_one_conversation(watch: Watch):
    def program(config: Config) -> Any:
        with observe.conversation("c-1"):
            clerk = model(tool_request(call("weather", city="Oslo")), "Sunny.").bind_tools([weather])
            messages: list[Any] = [HumanMessage("The weather in Oslo?")]
            asked = clerk.invoke(messages, config)
            messages += [asked, *(weather.invoke(request, config) for request in asked.tool_calls)]
            return clerk.invoke(messages, config).text

    watch(
        """
        conversation c-1 of anonymous
        user_message   "The weather in Oslo?"
        llm            gpt-4o-mini 10>5 $ calls=weather
        tool_call      weather {"city":"Oslo"}
          observation  {"output":"sunny in Oslo"}
        llm            gpt-4o-mini 10>5 $
          assistant_message "Sunny."
        """,
        program,
    )


def test_a_loop_inside_a_function_is_one_turn(watch: Watch):
    def loop(question: str) -> str:
        clerk = model(tool_request(call("weather", city="Oslo")), "Sunny.").bind_tools([weather])
        messages: list[Any] = [HumanMessage(question)]
        asked = clerk.invoke(messages)
        messages += [asked, *(weather.invoke(request) for request in asked.tool_calls)]
        return clerk.invoke(messages).text

    traced = watch(
        """
        user_message   "The weather in Oslo?"
        chain_start    loop
          llm          gpt-4o-mini 10>5 $ calls=weather
          tool_call    weather {"city":"Oslo"}
            observation {"output":"sunny in Oslo"}
          llm          gpt-4o-mini 10>5 $
          final_response "Sunny."
          chain_end    completed
        """,
        *each_method(lambda: RunnableLambda(loop), "The weather in Oslo?"),
    )
    llm_call, tool_call = traced.of_type("llm")[0], traced.of_type("tool_call")[0]
    assert tool_call["properties"]["requested_by"] == llm_call["externalMessageId"]
