"""LangChain's classic chains: memories that call models of their own, and agents that write their answer as text to be parsed."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable
from contextlib import nullcontext
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.agents import AgentFinish
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import JsonOutputParser
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph

from gati import observe
from gati.events import LLMCallEvent
from gati.testing import ScriptedChatModel, capture
from tests.scenarios.scripts import model

chains = pytest.importorskip("langchain_classic.chains")
agents = pytest.importorskip("langchain_classic.agents")
memory = pytest.importorskip("langchain_classic.memory")
prompts = pytest.importorskip("langchain_classic.memory.prompt")

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainDeprecationWarning")

TALK = [("user", "Hi, I'm Ann."), ("assistant", "Hello Ann!"), ("user", "Who am I?"), ("assistant", "You are Ann.")]
SEEN = "seen 2.12"


@tool
def search(query: str) -> str:
    """Search."""
    return SEEN


def summary_chain() -> Any:
    kept = memory.ConversationSummaryMemory(llm=model("Ann says hi.", "Ann asks who she is."))
    return chains.ConversationChain(llm=model("Hello Ann!", "You are Ann."), memory=kept)


def entity_chain() -> Any:
    def respond(messages: Any) -> str:
        return "Ann is a person." if "keep track of" in messages[-1].content else "Ann"

    return chains.ConversationChain(
        llm=model("Hello Ann!", "You are Ann."),
        prompt=prompts.ENTITY_MEMORY_CONVERSATION_TEMPLATE,
        memory=memory.ConversationEntityMemory(llm=ScriptedChatModel(respond=respond)),
    )


def invoke(chain: Any, question: str) -> None:
    chain.invoke({"input": question})


def ainvoke(chain: Any, question: str) -> None:
    asyncio.run(chain.ainvoke({"input": question}))


@pytest.mark.parametrize(
    ("make", "ask", "calls_of_memory"),
    [(summary_chain, invoke, 2), (summary_chain, ainvoke, 0), (entity_chain, invoke, 4)],
)
@pytest.mark.parametrize("named", [False, True], ids=["without an id", "in a conversation"])
def test_the_model_calls_of_a_memory_are_nobodys_words(
    make: Any, ask: Callable[..., None], calls_of_memory: int, named: bool
) -> None:
    chain = make()
    with capture() as captured:
        for question in ("Hi, I'm Ann.", "Who am I?"):
            with observe.conversation("c", user_id="ann") if named else nullcontext():
                ask(chain, question)
    assert sorted(captured.transcript()) == sorted(TALK)
    if named:
        calls = [event for turn in captured.turns for event in turn.events if isinstance(event, LLMCallEvent)]
        assert len(calls) == 2 + calls_of_memory
        assert [call.completion for call in calls if not call.internal] == ["Hello Ann!", "You are Ann."]


def test_a_model_that_is_called_after_a_chain_is_not_a_part_of_it() -> None:
    chain = summary_chain()
    with capture() as captured, observe.conversation("c"):
        chain.invoke({"input": "Hi, I'm Ann."})
        model("Fine.").invoke("How are you?")
    assert captured.transcript() == [
        ("user", "Hi, I'm Ann."), ("assistant", "Hello Ann!"), ("user", "How are you?"), ("assistant", "Fine."),
    ]  # fmt: skip


def test_a_model_that_a_chain_calls_in_a_conversation_of_its_own_is_a_turn_of_that() -> None:
    def serve(values: Any) -> Any:
        for name in ("ann", "bob"):
            with observe.conversation(name, user_id=name):
                model(f"Hello {name}!").invoke(f"I am {name}.")
        return {"output": "done"}

    chain = chains.TransformChain(input_variables=["input"], output_variables=["output"], transform=serve)
    with capture() as captured:
        chain.invoke({"input": "go"})
    told = {turn.conversation.id: [message.text for message in turn.messages] for turn in captured.turns}
    assert (told["ann"], told["bob"]) == (["I am ann."], ["I am bob."])


REACT = PromptTemplate.from_template(
    "{tools} {tool_names} {chat_history}\nQuestion: {input}\nThought:{agent_scratchpad}"
)
CHAT = ChatPromptTemplate.from_messages(
    [
        ("system", "{tools} {tool_names}"),
        ("placeholder", "{chat_history}"),
        ("human", "{input}"),
        ("placeholder", "{agent_scratchpad}"),
    ]
)
XML = PromptTemplate.from_template("{tools} {chat_history} Question: {input}\n{agent_scratchpad}")
FORMS = {
    "react": ("Action: search\nAction Input: age", "I know.\nFinal Answer: It is 2.12."),
    "json": (
        '```json\n{"action": "search", "action_input": "age"}\n```',
        '```json\n{"action": "Final Answer", "action_input": "It is 2.12."}\n```',
    ),
    "xml": ("<tool>search</tool><tool_input>age</tool_input>", "<final_answer>It is 2.12.</final_answer>"),
}


def executor(kind: str, searches: bool) -> Any:
    request, answer = FORMS[kind]

    def respond(messages: Any) -> str:
        found = any(SEEN in str(message.content) for message in messages)
        return answer if found or not searches else request

    make, prompt = {
        "react": (agents.create_react_agent, REACT),
        "json": (agents.create_json_chat_agent, CHAT),
        "xml": (agents.create_xml_agent, XML),
    }[kind]
    return agents.AgentExecutor(agent=make(ScriptedChatModel(respond=respond), [search], prompt), tools=[search])


def stream(runnable: Any, value: Any) -> Any:
    parts = list(runnable.stream(value))
    return {key: text for part in parts for key, text in part.items()}


def astream(runnable: Any, value: Any) -> Any:
    async def read() -> list[Any]:
        return [part async for part in runnable.astream(value)]

    return {key: text for part in asyncio.run(read()) for key, text in part.items()}


READERS = pytest.mark.parametrize("read", [lambda runnable, value: runnable.invoke(value), stream, astream])


@READERS
@pytest.mark.parametrize("kind", FORMS)
def test_an_agent_that_writes_its_answer_as_text_answers_with_what_was_parsed(read: Any, kind: str) -> None:
    with capture() as captured, observe.conversation("c"):
        read(executor(kind, searches=True), {"input": "How old is she?", "chat_history": []})
    assert captured.transcript() == [("user", "How old is she?"), ("assistant", "It is 2.12.")]


def json_chain() -> Any:
    return (
        CHAT
        | model('{"text": "It is 2.12."}', '{"text": "It is 2.12."}')
        | JsonOutputParser()
        | (lambda parsed: {"output": parsed["text"]})
    )


@READERS
@pytest.mark.parametrize("kind", [*FORMS, "chain"])
def test_an_answer_that_is_parsed_may_repeat_that_of_the_turn_before(read: Any, kind: str) -> None:
    history: list[Any] = []
    program = json_chain().with_config() if kind == "chain" else executor(kind, searches=False)
    more = {"tools": "", "tool_names": ""} if kind == "chain" else {}
    with capture() as captured:
        for question in ("How old is she?", "Really?"):
            with observe.conversation("c", user_id="ann"):
                output = read(program, {"input": question, "chat_history": list(history), **more})["output"]
            history += [HumanMessage(question), AIMessage(output)]
    assert captured.transcript() == [
        ("user", "How old is she?"),
        ("assistant", "It is 2.12."),
        ("user", "Really?"),
        ("assistant", "It is 2.12."),
    ]


def react_runnable() -> Any:
    return agents.create_react_agent(
        ScriptedChatModel(respond=lambda messages: FORMS["react"][SEEN in str(messages[-1].content)]), [search], REACT
    )


@pytest.mark.parametrize("stream", [False, True])
def test_a_graph_that_keeps_the_object_of_a_classic_agent_answers_with_its_output(stream: bool) -> None:
    state: Any = TypedDict("state", {"input": str, "outcome": Any, "steps": Annotated[list[Any], operator.add]})
    agent = react_runnable()

    def think(values: Any) -> Any:
        return {
            "outcome": agent.invoke(
                {"input": values["input"], "chat_history": "", "intermediate_steps": values["steps"]}
            )
        }

    builder = StateGraph(state)
    builder.add_node("think", think)
    builder.add_node("act", lambda s: {"steps": [(s["outcome"], search.invoke(s["outcome"].tool_input))]})
    builder.add_edge(START, "think")
    builder.add_conditional_edges(
        "think", lambda s: END if isinstance(s["outcome"], AgentFinish) else "act", ["act", END]
    )
    builder.add_edge("act", "think")
    graph = builder.compile()
    with capture() as captured:
        given: Any = {"input": "How old is she?", "steps": []}
        list(graph.stream(given)) if stream else graph.invoke(given)
    assert captured.transcript() == [("user", "How old is she?"), ("assistant", "It is 2.12.")]


def test_a_loop_around_a_classic_agent_asks_and_answers_once() -> None:
    agent = react_runnable()
    with capture() as captured, observe.conversation("c", user_id="ann"):
        steps: list[Any] = []
        while True:
            step = agent.invoke({"input": "How old is she?", "chat_history": "", "intermediate_steps": steps})
            if isinstance(step, AgentFinish):
                break
            steps.append((step, search.invoke(step.tool_input)))
    assert captured.transcript() == [("user", "How old is she?"), ("assistant", "It is 2.12.")]


def test_a_text_that_a_model_returns_unchanged_in_an_object_is_the_answer() -> None:
    prompt = ChatPromptTemplate.from_messages([("system", "Correct the text. Answer as JSON."), ("human", "{text}")])
    read: Any = JsonOutputParser() | (lambda parsed: parsed["corrected"])
    with capture() as captured, observe.conversation("c"):
        (prompt | model('{"corrected": "He goes home."}') | read).invoke({"text": "He goes home."})
    assert captured.transcript() == [("user", "He goes home."), ("assistant", "He goes home.")]
