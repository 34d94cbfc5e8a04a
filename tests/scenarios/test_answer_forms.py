"""Forms of questions and answers: media, other roles, prefilled answers, several candidates, legacy function calls."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, ChatMessage, HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

from tests.scenarios.harness import Config, Watch, each_method
from tests.scenarios.scripts import model, reply

PICTURE = "iVBORw0KGgo="
HASHED = {"mime": "image/png", "bytes": 8, "sha256": "4c4b6a3be1314ab86138bef4314dde022e600960d8689a2c8f8631802d20dab6"}

FORMS = {
    "v1": [{"type": "image", "base64": PICTURE, "mime_type": "image/png"}],
    "OpenAI and Google": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}],
    "Anthropic": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}}],
    "generated": [{"type": "image_generation_call", "id": "g1", "result": PICTURE, "output_format": "png"}],
    "Bedrock": [{"image": {"format": "png", "source": {"bytes": b"\x89PNG\r\n\x1a\n"}}}],
}


def graph_of(*replies: Any) -> Any:
    speaker = model(*replies)
    builder = StateGraph(MessagesState)
    builder.add_node("model", lambda state: {"messages": [speaker.invoke(state["messages"])]})
    builder.add_edge(START, "model")
    return builder.compile()


@pytest.mark.parametrize("content", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("text", ["", "Here."])
def test_a_picture_in_an_answer_is_an_attachment(watch: Watch, content: list[Any], text: str) -> None:
    answer = [*([{"type": "text", "text": text}] if text else []), *content]
    for make in (lambda: model(reply(answer)), lambda: graph_of(reply(answer))):
        given: Any = "Draw a cat" if isinstance(make(), BaseChatModel) else {"messages": [("user", "Draw a cat")]}
        traced = watch.trace(lambda config, make=make, given=given: make().invoke(given, config))
        assert traced.transcript() == [("user", "Draw a cat"), ("assistant", text)]
        (message,) = traced.of_type("assistant_message") + traced.of_type("final_response")
        assert HASHED["sha256"] in str(message["properties"]["attachments"])
        assert "attachments" not in traced.of_type("llm")[0]["properties"]
        assert PICTURE not in str(traced.requests)


def test_a_streamed_picture_is_an_attachment(watch: Watch) -> None:
    for program in each_method(lambda: model(reply(FORMS["v1"])), "Draw a cat"):
        (message,) = watch.trace(program).of_type("assistant_message")
        assert message["properties"]["attachments"] == [{"type": "image", "mime_type": "image/png", "base64": HASHED}]


def test_a_picture_that_the_program_drops_stays_with_its_call(watch: Watch) -> None:
    traced = watch.trace(lambda config: (model(reply(FORMS["v1"])) | StrOutputParser()).invoke("Draw a cat", config))
    assert traced.transcript() == [("user", "Draw a cat")]
    assert HASHED["sha256"] in str(traced.of_type("llm")[0]["properties"]["attachments"])


@pytest.mark.parametrize("audio", [{"id": "a1", "data": "AAAA", "transcript": "Hello.", "expires_at": 1}, b"\0\0\0"])
def test_a_spoken_answer_is_an_attachment(watch: Watch, audio: Any) -> None:
    spoken = reply("", additional_kwargs={"audio": audio})
    (message,) = watch.trace(lambda config: model(spoken).invoke("Speak", config)).of_type("assistant_message")
    (attachment,) = message["properties"]["attachments"]
    assert attachment["type"] == "audio"
    assert attachment["data"]["bytes"] == 3
    assert message["content"] == ("Hello." if isinstance(audio, dict) else "")


def test_reasoning_and_tools_are_no_attachments(watch: Watch) -> None:
    content = [{"type": "reasoning", "reasoning": "So…"}, {"type": "text", "text": "4"}]
    traced = watch.trace(lambda config: model(reply(content)).invoke("2+2", config))
    assert "attachments" not in traced.of_type("assistant_message")[0].get("properties", {})


# -- roles ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "user"), [("system", "user"), ("System", "human"), ("developer", "User")], ids=lambda role: role
)
def test_chat_messages_count_by_their_roles(watch: Watch, system: str, user: str) -> None:
    given = [ChatMessage(role=system, content="Be brief."), ChatMessage(role=user, content="Hi")]
    watch(
        """
        prompt agent "Be brief."
        user_message   "Hi"
        llm            gpt-4o-mini 10>5 $
          assistant_message "Hello."
        """,
        *each_method(lambda: model("Hello."), given),
    )


def test_a_chat_message_of_a_node_is_the_answer_and_part_of_the_history(watch: Watch) -> None:
    def program(config: Config) -> Any:
        own = {**config, "configurable": {"thread_id": "c-1"}}
        builder = StateGraph(MessagesState)
        builder.add_node(
            "n", lambda state: {"messages": [ChatMessage(role="assistant", content=f"Yes {len(state['messages'])}")]}
        )
        builder.add_edge(START, "n")
        graph = builder.compile(checkpointer=InMemorySaver())
        for text in ("One?", "Two?"):
            graph.invoke({"messages": [ChatMessage(role="user", content=text)]}, own)

    assert watch.trace(program).transcript() == [
        ("user", "One?"), ("assistant", "Yes 1"), ("user", "Two?"), ("assistant", "Yes 3"),
    ]  # fmt: skip


# -- prefilled answers ----------------------------------------------------------------------------

PREFILLED = [SystemMessage("JSON."), HumanMessage("Name?"), AIMessage("{")]


def test_the_question_before_a_prefilled_answer_is_the_users(watch: Watch) -> None:
    watch(
        """
        prompt agent "JSON."
        user_message   "Name?"
        llm            gpt-4o-mini 10>5 $ input ai:"{"
          assistant_message "\\"name\\": 1}"
        """,
        *each_method(lambda: model('"name": 1}'), PREFILLED),
    )


@pytest.mark.parametrize("answer", [AIMessage("{"), ("ai", "{"), {"role": "assistant", "content": "{"}])
def test_a_graph_may_prefill_the_answer(watch: Watch, answer: Any) -> None:
    traced = watch.trace(lambda config: graph_of("1}").invoke({"messages": [("user", "Name?"), answer]}, config))
    assert traced.transcript() == [("user", "Name?"), ("assistant", "1}")]


def test_each_turn_may_prefill_its_answer(watch: Watch) -> None:
    def program(config: Config) -> Any:
        own = {**config, "metadata": {"conversation_id": "c-1"}}
        speaker = model("1}", "2}")
        history: list[Any] = []
        for question in ("First?", "Second?"):
            history.append(HumanMessage(question))
            answer = speaker.invoke([*history, AIMessage("{")], own)
            history.append(AIMessage("{" + answer.text))

    assert watch.trace(program).transcript() == [
        ("user", "First?"), ("assistant", "1}"), ("user", "Second?"), ("assistant", "2}"),
    ]  # fmt: skip


def test_an_answer_that_is_continued_does_not_repeat_its_question(watch: Watch) -> None:
    def program(config: Config) -> Any:
        own = {**config, "metadata": {"conversation_id": "c-1"}}
        speaker = model("One,", " two.")
        text = speaker.invoke([HumanMessage("Count.")], own).text
        speaker.invoke([HumanMessage("Count."), AIMessage(text)], own)

    assert [text for role, text in watch.trace(program).transcript() if role == "user"] == ["Count."]


# -- candidates, function calls, several texts ----------------------------------------------------


class Several(BaseChatModel):
    """Gives several candidates."""

    @property
    def _llm_type(self) -> str:
        return "several"

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text)) for text in ("Rex", "Bello", "Fido")])


def test_the_other_candidates_are_in_the_call(watch: Watch) -> None:
    traced = watch.trace(lambda config: Several().invoke("Name a dog", config))
    assert traced.transcript() == [("user", "Name a dog"), ("assistant", "Rex")]
    assert traced.of_type("llm")[0]["output"]["candidates"] == ["Bello", "Fido"]


LEGACY = {"function_call": {"name": "weather", "arguments": '{"city": "Rome"}'}}


def test_a_legacy_function_call_is_a_tool_request(watch: Watch) -> None:
    traced = watch.trace(lambda config: model(reply("", additional_kwargs=LEGACY)).invoke("Weather in Rome?", config))
    assert traced.transcript() == [("user", "Weather in Rome?")]
    (call,) = traced.of_type("llm")[0]["output"]["tool_calls"]
    assert (call["name"], call["args"]) == ("weather", {"city": "Rome"})


def asked(prompt: str, answer: str) -> Runnable[Any, str]:
    return ChatPromptTemplate.from_template(prompt) | model(answer) | StrOutputParser()


@pytest.mark.parametrize(
    "chain",
    [
        RunnablePassthrough.assign(short=asked("{text}", "Short.")).assign(german=asked("{short}", "Kurz.")),
        RunnableLambda(lambda given: {"short": asked("{text}", "Short.").invoke(given)})
        | RunnablePassthrough.assign(german=asked("{short}", "Kurz.")),
    ],
)
def test_the_last_of_several_texts_of_a_chain_is_the_answer(watch: Watch, chain: Any) -> None:
    chain = chain.pick(["short", "german"]) if hasattr(chain, "pick") else chain
    traced = watch.trace(lambda config: chain.invoke({"text": "A long text."}, config))
    assert traced.transcript()[-1] == ("assistant", "Kurz.")


def test_the_branches_of_a_map_are_one_answer(watch: Watch) -> None:
    chain = {"joke": asked("{text}", "Ha."), "poem": asked("{text}", "Rose.")} | RunnableLambda(lambda given: given)
    traced = watch.trace(lambda config: chain.invoke({"text": "bears"}, config))
    assert traced.transcript()[-1] == ("assistant", '{"joke":"Ha.","poem":"Rose."}')
