"""Chains of runnables: plumbing is not recorded, and each message is recorded once."""

from __future__ import annotations

from operator import itemgetter
from typing import Any, TypedDict

import pytest
from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import JsonOutputParser, StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder, PromptTemplate
from langchain_core.runnables import (
    Runnable,
    RunnableBranch,
    RunnableGenerator,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
    chain,
)
from langchain_core.runnables.history import RunnableWithMessageHistory
from langgraph.graph import START, StateGraph

from tests.scenarios.harness import Config, Watch, each_method
from tests.scenarios.scripts import model

TUTOR = ChatPromptTemplate([("system", "You are a tutor."), ("human", "{question}")])


def tutor(*replies: Any) -> Runnable[Any, Any]:
    return TUTOR | model(*(replies or ("Twelve.",)))


def test_a_sequence_is_a_turn(watch: Watch):
    watch(
        """
        prompt agent "You are a tutor."
        user_message   "144?"
        chain_start    RunnableSequence
          llm          gpt-4o-mini 10>5 $
          assistant_message "Twelve."
          chain_end    completed
        """,
        *each_method(lambda: tutor() | StrOutputParser(), {"question": "144?"}),
        *each_method(tutor, {"question": "144?"}),
    )


def test_a_bare_string_is_the_user_message(watch: Watch):
    watch(
        """
        prompt agent "You are a tutor."
        user_message   "144?"
        chain_start    RunnableSequence
          llm          gpt-4o-mini 10>5 $
          assistant_message "Twelve."
          chain_end    completed
        """,
        *each_method(
            lambda: {"question": RunnablePassthrough()} | TUTOR | model("Twelve.") | StrOutputParser(), "144?"
        ),
    )


def test_input_key_selects_the_user_message(watch: Watch):
    picked = {"question": itemgetter("asked"), "shout": itemgetter("asked") | RunnableLambda(str.upper)}
    watch(
        """
        prompt agent "You are a tutor."
        user_message   "144?"
        chain_start    RunnableSequence {"locale":"en"}
          llm          gpt-4o-mini 10>5 $
          assistant_message "Twelve."
          chain_end    completed
        """,
        *each_method(lambda: picked | TUTOR | model("Twelve.") | StrOutputParser(), {"asked": "144?", "locale": "en"}),
        input_key="asked",
    )


def test_parallel_branches_are_the_answer_as_json(watch: Watch):
    def make() -> Runnable[Any, Any]:
        return RunnableParallel(
            joke=ChatPromptTemplate([("human", "Joke about {topic}")]) | model("A joke.") | StrOutputParser(),
            poem=ChatPromptTemplate([("human", "Poem about {topic}")]) | model("A poem.") | StrOutputParser(),
        )

    watch(
        r"""
        prompt @1 agent/poem[topic]
          user "Poem about {{topic}}"
          topic = "bears"
        prompt @2 agent/joke[topic]
          user "Joke about {{topic}}"
          topic = "bears"
        user_message   "bears"
        chain_start    RunnableParallel<joke,poem>
          llm          gpt-4o-mini 10>5 $ input human:"Joke about bears" => "A joke." @2
          llm          gpt-4o-mini 10>5 $ input human:"Poem about bears" => "A poem." @1
          assistant_message "{\"joke\":\"A joke.\",\"poem\":\"A poem.\"}" @1
          chain_end    completed
        """,
        *each_method(make, {"topic": "bears"}, {"max_concurrency": 1}, only="invoke ainvoke"),
    )


def test_only_the_branch_that_ran_is_reported(watch: Watch):
    def make() -> Runnable[Any, Any]:
        router = ChatPromptTemplate([("human", "Route: {question}")]) | model("maths") | StrOutputParser()
        return RunnablePassthrough.assign(topic=router) | RunnableBranch(
            (lambda given: given["topic"] == "maths", tutor()), tutor("I only do maths.")
        )

    watch(
        """
        prompt @1 agent "You are a tutor."
        prompt @2 agent/topic[question]
          user "Route: {{question}}"
          question = "144?"
        user_message   "144?"
        chain_start    RunnableSequence
          llm          gpt-4o-mini 10>5 $ internal input human:"Route: 144?" => "maths" @2
          llm          gpt-4o-mini 10>5 $ @1
          assistant_message "Twelve." @1
          chain_end    completed
        """,
        *each_method(make, {"question": "144?"}),
    )


def test_a_fallback_reports_the_failed_attempt(watch: Watch):
    watch(
        """
        prompt agent "You are a tutor."
        user_message   "144?"
        chain_start    RunnableSequence
          llm          gpt-4o-mini ?>? error RuntimeError: overloaded
          llm          gpt-4o 10>5 $
          assistant_message "Twelve."
          chain_end    completed
        """,
        *each_method(
            lambda: (
                TUTOR
                | model(RuntimeError("overloaded")).with_fallbacks([model("Twelve.", model_name="gpt-4o")])
                | StrOutputParser()
            ),
            {"question": "144?"},
        ),
    )


def test_fallbacks_at_the_root_are_one_turn(watch: Watch):
    watch(
        """
        user_message   "144?"
        chain_start    RunnableWithFallbacks
          llm          gpt-4o-mini ?>? error RuntimeError: overloaded
          llm          gpt-4o 10>5 $
          assistant_message "Twelve."
          chain_end    completed
        """,
        *each_method(
            lambda: model(RuntimeError("overloaded")).with_fallbacks([model("Twelve.", model_name="gpt-4o")]), "144?"
        ),
    )


def test_a_retry_reports_each_attempt_and_one_answer(watch: Watch):
    watch(
        """
        prompt agent "You are a tutor."
        user_message   "144?"
        chain_start    RunnableSequence
          llm          gpt-4o-mini ?>? error RuntimeError: overloaded
          llm          gpt-4o-mini 10>5 $
          assistant_message "Twelve."
          chain_end    completed
        """,
        *each_method(
            lambda: (
                TUTOR
                | model(RuntimeError("overloaded"), "Twelve.").with_retry(wait_exponential_jitter=False)
                | StrOutputParser()
            ),
            {"question": "144?"},
            only="invoke ainvoke",
        ),
    )


def test_an_error_ends_the_turn_and_is_reported_once(watch: Watch):
    def fail(_: Any) -> None:
        raise ValueError("no such thing")

    watch(
        """
        prompt agent "You are a tutor."
        user_message   "144?"
        chain_start    RunnableSequence
          llm          gpt-4o-mini 10>5 $ internal => "Twelve."
          chain_end    error ValueError: no such thing
        """,
        *each_method(lambda: tutor() | RunnableLambda(fail), {"question": "144?"}, only="invoke ainvoke"),
    )


def test_map_is_one_turn_with_several_calls(watch: Watch):
    traced = watch(
        r"""
        prompt @1 agent[topic]
          user "Joke about {{topic}}"
          topic = "cats"
        prompt @2 agent[topic]
          user "Joke about {{topic}}"
          topic = "bears"
        user_message   "bears"
        user_message   "cats"
        chain_start    RunnableEach<RunnableSequence>
          llm          gpt-4o-mini 10>5 $ input human:"Joke about bears" => "A joke." @2
          llm          gpt-4o-mini 10>5 $ input human:"Joke about cats" => "A joke." @1
          assistant_message "[\"A joke.\",\"A joke.\"]" @1
          chain_end    completed
        """,
        *each_method(
            lambda: (
                ChatPromptTemplate([("human", "Joke about {topic}")]) | model("A joke.") | StrOutputParser()
            ).map(),
            [{"topic": "bears"}, {"topic": "cats"}],
            {"max_concurrency": 1},
            only="invoke ainvoke",
        ),
    )
    assert traced.of_type("chain_end")[0]["properties"]["model_calls"] == 2


class Asked(TypedDict):
    question: str
    answer: str


def test_a_map_of_a_graph_reports_each_question_and_all_answers(watch: Watch):
    def make() -> Runnable[Any, Any]:
        tutor = model("Twelve, for example.", "Thirteen, for example.")
        graph = StateGraph(Asked).add_node("tutor", lambda state: {"answer": tutor.invoke(state["question"]).text})
        return graph.add_edge(START, "tutor").compile().map()

    watch(
        r"""
        user_message   "144?"
        user_message   "169?"
        chain_start    RunnableEach<LangGraph>
          workflow     LangGraph
            task       tutor => {"answer":"Twelve, for example."}
              llm      gpt-4o-mini 10>5 $ => "Twelve, for example."
          workflow     LangGraph
            task       tutor => {"answer":"Thirteen, for example."}
              llm      gpt-4o-mini 10>5 $ => "Thirteen, for example."
          final_response "[\"Twelve, for example.\",\"Thirteen, for example.\"]"
          chain_end    completed
        """,
        *each_method(make, [{"question": "144?"}, {"question": "169?"}], {"max_concurrency": 1}, only="invoke ainvoke"),
    )


@pytest.mark.parametrize("mail", ["I was charged twice.", "同じ商品が二回請求されました"])
def test_the_text_that_a_template_frames_is_the_users_message(watch: Watch, mail: str):
    """Also beside shorter values that the template contains, such as an address."""

    def make() -> Runnable[Any, Any]:
        return ChatPromptTemplate([("human", "Reply to this mail:\n{mail}\nFrom: {sender}")]) | model("Sorry.")

    traced = watch.trace(each_method(make, {"mail": mail, "sender": "ann@example.com"}, only="invoke")[0])
    assert traced.transcript() == [("user", mail), ("assistant", "Sorry.")]
    (asked,) = traced.of_type("llm")[0]["input"]["messages"]
    assert asked["content"] == f"Reply to this mail:\n{mail}\nFrom: ann@example.com"


def test_a_mail_in_an_object_of_the_input_is_the_users_message_beside_its_subject(watch: Watch):
    mail = "Dear shop, I was charged twice for one bike. Please send the money back."

    def make() -> Runnable[Any, Any]:
        def frame(given: Any) -> str:
            return f"Reply.\nSubject: {given['mail']['subject']}\n{given['mail']['body']}"

        return RunnableLambda(frame) | model("Sorry.")

    given = {"mail": {"subject": "My bill of May", "from": "ann@example.com", "body": mail}}
    traced = watch.trace(each_method(make, given, only="invoke")[0])
    assert traced.transcript() == [("user", mail), ("assistant", "Sorry.")]


@pytest.mark.parametrize(
    ("left", "right"), [("2", "3"), ("the number of days", "the number of nights"), ("A cat", "a dog")]
)
def test_values_that_a_template_compares_are_one_question(watch: Watch, left: str, right: str):
    def make() -> Runnable[Any, Any]:
        return ChatPromptTemplate([("human", "Compare {left} with {right}.")]) | model("They differ.")

    traced = watch.trace(each_method(make, {"left": left, "right": right}, only="invoke")[0])
    assert traced.transcript() == [("user", f"Compare {left} with {right}."), ("assistant", "They differ.")]


def test_each_input_of_a_chain_batch_is_a_turn(watch: Watch):
    def program(config: Config) -> Any:
        return (tutor() | StrOutputParser()).batch([{"question": "144?"}, {"question": "12 * 12?"}], config)

    async def aprogram(config: Config) -> Any:
        return await (tutor() | StrOutputParser()).abatch([{"question": "144?"}, {"question": "12 * 12?"}], config)

    watch(
        """
        conversation ~
        prompt agent "You are a tutor."
        user_message   "12 * 12?"
        chain_start    RunnableSequence
          llm          gpt-4o-mini 10>5 $
          assistant_message "Twelve."
          chain_end    completed
        conversation ~
        prompt agent "You are a tutor."
        user_message   "144?"
        chain_start    RunnableSequence
          llm          gpt-4o-mini 10>5 $
          assistant_message "Twelve."
          chain_end    completed
        """,
        program,
        aprogram,
        unordered=True,
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # deprecated, but still in use
def test_runnable_with_message_history_reports_each_message_once(watch: Watch):
    prompt = ChatPromptTemplate(
        [("system", "You are a tutor."), MessagesPlaceholder("history"), ("human", "{question}")]
    )

    def make() -> Runnable[Any, Any]:
        kept = InMemoryChatMessageHistory()
        return RunnableWithMessageHistory(
            prompt | model("Twelve.", "Thirteen."),
            lambda session_id: kept,
            input_messages_key="question",
            history_messages_key="history",
        )

    def invoke_turns(config: Config) -> Any:
        wrapped, in_conversation = make(), {**config, "configurable": {"session_id": "c-1"}}
        return [wrapped.invoke({"question": asked}, in_conversation).text for asked in ("144?", "yes", "yes")]

    async def ainvoke_turns(config: Config) -> Any:
        wrapped, in_conversation = make(), {**config, "configurable": {"session_id": "c-1"}}
        return [(await wrapped.ainvoke({"question": asked}, in_conversation)).text for asked in ("144?", "yes", "yes")]

    watch(
        """
        conversation c-1 of anonymous
        prompt agent "You are a tutor."
        user_message   "144?"
        chain_start    RunnableWithMessageHistory
          memory_read  load_history {"source":"load_history"} => {"messages":0}
          llm          gpt-4o-mini 10>5 $
          memory_write RunnableWithMessageHistory {"source":"RunnableWithMessageHistory"}
          assistant_message "Twelve."
          chain_end    completed
        user_message   "yes"
        chain_start    RunnableWithMessageHistory
          memory_read  load_history {"source":"load_history"} => {"messages":2}
          llm          gpt-4o-mini 10>5 $
          memory_write RunnableWithMessageHistory {"source":"RunnableWithMessageHistory"}
          assistant_message "Thirteen."
          chain_end    completed
        user_message   "yes"
        chain_start    RunnableWithMessageHistory
          memory_read  load_history {"source":"load_history"} => {"messages":4}
          llm          gpt-4o-mini 10>5 $
          memory_write RunnableWithMessageHistory {"source":"RunnableWithMessageHistory"}
          assistant_message "Thirteen."
          chain_end    completed
        """,
        invoke_turns,
        ainvoke_turns,
    )


def test_a_stream_with_late_input_still_has_its_user_message(watch: Watch):
    def upper(pieces: Any) -> Any:
        for piece in pieces:
            yield {"question": piece["question"].upper()}

    async def aupper(pieces: Any) -> Any:
        async for piece in pieces:
            yield {"question": piece["question"].upper()}

    watch(
        """
        prompt agent "You are a tutor."
        user_message   "what is 144?"
        chain_start    RunnableSequence
          llm          gpt-4o-mini 10>5 $ input human:"WHAT IS 144?"
          assistant_message "Twelve."
          chain_end    completed
        """,
        *each_method(
            lambda: RunnableGenerator(upper, aupper) | TUTOR | model("Twelve.") | StrOutputParser(),
            {"question": "what is 144?"},
        ),
    )


def test_transform_of_a_stream_of_inputs_is_one_turn(watch: Watch):
    def program(config: Config) -> Any:
        return list((tutor() | StrOutputParser()).transform(iter([{"question": "144?"}]), config))

    watch(
        """
        prompt agent "You are a tutor."
        user_message   "144?"
        chain_start    RunnableSequence
          llm          gpt-4o-mini 10>5 $
          assistant_message "Twelve."
          chain_end    completed
        """,
        program,
    )


def test_a_function_that_calls_models_is_a_turn(watch: Watch):
    @chain
    def answer(question: str) -> str:
        draft = model("A draft.").invoke(f"Draft: {question}").text
        return model("Twelve.").invoke(f"Improve: {draft}").text

    watch(
        """
        user_message   "144?"
        chain_start    answer
          llm          gpt-4o-mini 10>5 $ internal input human:"Draft: 144?" => "A draft."
          llm          gpt-4o-mini 10>5 $ input human:"Improve: A draft."
          assistant_message "Twelve."
          chain_end    completed
        """,
        *each_method(lambda: answer, "144?"),
    )


def test_an_answer_composed_by_code_is_the_answer(watch: Watch):
    def decorate(message: Any) -> str:
        return f"*** {message.text} ***"

    watch(
        """
        prompt agent "You are a tutor."
        user_message   "144?"
        chain_start    RunnableSequence
          llm          gpt-4o-mini 10>5 $ => "Twelve."
          assistant_message "*** Twelve. ***"
          chain_end    completed
        """,
        *each_method(lambda: tutor() | RunnableLambda(decorate), {"question": "144?"}, only="invoke ainvoke"),
    )


def test_a_parsed_answer_is_reported_as_json(watch: Watch):
    watch(
        r"""
        prompt agent "You are a tutor."
        user_message   "144?"
        chain_start    RunnableSequence
          llm          gpt-4o-mini 10>5 $
          assistant_message "{\"root\":12}"
          chain_end    completed
        """,
        *each_method(lambda: tutor('{"root":12}') | JsonOutputParser(), {"question": "144?"}),
    )


def test_history_passed_by_the_program_is_imported_once(watch: Watch):
    prompt = ChatPromptTemplate([("system", "You are a tutor."), MessagesPlaceholder("chat"), ("human", "{question}")])

    def program(config: Config) -> Any:
        tutor, in_conversation = (
            prompt | model("Twelve.", "Thirteen."),
            {**config, "metadata": {"conversation_id": "c-1"}},
        )
        chat: list[Any] = [HumanMessage("Hello"), AIMessage("Hello! What do you want to know?")]
        answers = []
        for question in ("144?", "169?"):
            answer = tutor.invoke({"question": question, "chat": chat}, in_conversation)
            answers.append(answer.text)
            chat = [*chat, HumanMessage(question), AIMessage(answer.text)]
        return answers

    watch(
        """
        conversation c-1 of anonymous
        prompt agent "You are a tutor."
        user_message   "Hello" imported
        assistant_message "Hello! What do you want to know?" imported
        user_message   "144?"
        chain_start    RunnableSequence
          llm          gpt-4o-mini 10>5 $
          assistant_message "Twelve."
          chain_end    completed
        user_message   "169?"
        chain_start    RunnableSequence
          llm          gpt-4o-mini 10>5 $
          assistant_message "Thirteen."
          chain_end    completed
        """,
        program,
        import_history=True,
    )


def test_run_name_tags_and_metadata_are_kept(watch: Watch):
    config = {"run_name": "tutor", "tags": ["beta"], "metadata": {"plan": "pro"}}
    watch(
        """
        prompt agent "You are a tutor."
        user_message   "144?"
        chain_start    tutor tags=beta metadata={"plan":"pro"}
          llm          gpt-4o-mini 10>5 $
          assistant_message "Twelve."
          chain_end    completed
        """,
        *each_method(tutor, {"question": "144?"}, config),
    )


def test_a_standalone_prompt_is_not_a_conversation(watch: Watch):
    def program(config: Config) -> Any:
        TUTOR.invoke({"question": "144?"}, config)
        return PromptTemplate.from_template("Tell me of {topic}").invoke({"topic": "cats"}, config)

    watch("", program)


def test_a_standalone_parser_is_not_a_conversation(watch: Watch):
    watch("", lambda config: StrOutputParser().invoke(AIMessage("Twelve."), config))


def test_a_prompt_formatted_before_the_call_is_still_a_template(watch: Watch):
    prompt = ChatPromptTemplate([("system", "You are a {mood} tutor."), ("human", "{question}")])

    def program(config: Config) -> Any:
        filled = prompt.invoke({"mood": "patient", "question": "144?"}, config)
        return StrOutputParser().invoke(model("Twelve.").invoke(filled, config), config)

    watch(
        """
        prompt agent[mood]
          system "You are a {{mood}} tutor."
          mood = "patient"
        user_message   "144?"
        llm            gpt-4o-mini 10>5 $
          assistant_message "Twelve."
        """,
        program,
    )


def test_a_chain_without_a_model_is_a_turn_of_its_conversation(watch: Watch):
    shout = RunnableLambda(str.upper) | RunnableLambda(lambda text: text + "!")
    watch(
        """
        conversation c-1 of anonymous
        user_message   "hello"
        chain_start    RunnableSequence
          assistant_message "HELLO!"
          chain_end    completed
        """,
        *each_method(lambda: shout, "hello", {"metadata": {"conversation_id": "c-1"}}),
    )


def test_a_chain_without_a_model_and_a_conversation_is_not_delivered(watch: Watch):
    shout = RunnableLambda(str.upper) | RunnableLambda(lambda text: text + "!")
    traced = watch("", *each_method(lambda: shout, "hello"))
    assert traced.stats.outside_conversation == 1
