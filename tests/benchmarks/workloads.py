"""The measured programs: LangChain and LangGraph with models and tools that answer at once.

Runs in the environment of each contender, so it imports only LangChain and LangGraph.
"""

from __future__ import annotations

import asyncio
import operator
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph

Configs = Callable[[], dict[str, Any]]
"""Returns the `config` of the next invocation."""

SYSTEM = (
    "You are the assistant of Wheelhouse, a bicycle shop. Answer in one or two sentences, kindly and exactly. "
    "Calculate every amount with the tool, never in your head. Prices: a city bike costs 18.00 a day, an e-bike "
    "35.00 a day; from three days on there is a discount of 10 %. Who brings a bike back late pays 4.00 an hour."
)
QUESTION = "What does it cost to rent two city bikes and one e-bike for three days, helmets included?"
ANSWER = (
    "Two city bikes and one e-bike come to 191.70 for the three days. The discount of 10 % for three days and more "
    "is already taken off, and a helmet is free with each bike, so that is all you pay."
)
LONG_RESULT = "".join(f"{number:06d} a line of a long document that a tool has read\n" for number in range(3280))
"""200 KB."""
TOKENS = 200
AGENTS = 50
TURNS = 200


@tool
def calculate(expression: str) -> str:
    """Calculate an expression of numbers, + - * / and brackets."""
    return "191.7"


@tool
def read(path: str) -> str:
    """Read a document."""
    return LONG_RESULT


class Model(BaseChatModel):
    """Calls the tool `uses` once in a turn, then answers; streams `pieces` pieces."""

    uses: str = ""
    pieces: int = 0

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": "gpt-4o-mini"}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": "gpt-4o-mini", "ls_model_type": "chat"}

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        definition = {"type": "function", "function": {"name": self.uses, "parameters": {"type": "object"}}}
        return self.bind(tools=[definition])

    def _answer(self, messages: list[BaseMessage]) -> ChatResult:
        calls = []
        if self.uses and messages[-1].type != "tool":
            arguments = {"expression": "(2 * 18 + 35) * 3 * 0.9"} if self.uses == "calculate" else {"path": "prices"}
            calls = [{"name": self.uses, "args": arguments, "id": "call_1", "type": "tool_call"}]
        message = AIMessage(
            "" if calls else ANSWER,
            tool_calls=calls,
            usage_metadata=UsageMetadata(input_tokens=212, output_tokens=48, total_tokens=260),
            response_metadata={"model_name": "gpt-4o-mini", "finish_reason": "tool_calls" if calls else "stop"},
        )
        return ChatResult(generations=[ChatGeneration(message=message)], llm_output={"model_name": "gpt-4o-mini"})

    def _chunks(self) -> Iterator[ChatGenerationChunk]:
        for number in range(self.pieces):
            yield ChatGenerationChunk(message=AIMessageChunk(content=f"token{number} "))

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **_: Any) -> ChatResult:
        return self._answer(messages)

    async def _agenerate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **_: Any
    ) -> ChatResult:
        await asyncio.sleep(0)
        return self._answer(messages)

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **_: Any
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in self._chunks():
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _astream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **_: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._chunks():
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def _should_stream(self, **kwargs: Any) -> bool:
        return self.pieces > 0


def _agent(uses: str = "calculate", pieces: int = 0) -> Any:
    tools: list[Any] = {"calculate": [calculate], "read": [read], "": []}[uses]
    return create_agent(Model(uses=uses, pieces=pieces), tools, system_prompt=SYSTEM)


def agent(configs: Configs) -> Callable[[], None]:
    """Two model calls and a tool: 14 callbacks."""
    graph = _agent()
    return lambda: _check(graph.invoke({"messages": [HumanMessage(QUESTION)]}, configs())["messages"][-1].content)


def chain(configs: Configs) -> Callable[[], None]:
    """Prompt, model, parser: 8 callbacks."""
    prompt = ChatPromptTemplate([("system", SYSTEM + " The customer is called {name}."), ("human", "{question}")])
    runnable: Any = prompt | Model() | StrOutputParser()
    return lambda: _check(runnable.invoke({"name": "Ada", "question": QUESTION}, configs()))


class _State(TypedDict):
    question: str
    steps: Annotated[list[str], operator.add]


def graph(configs: Configs) -> Callable[[], None]:
    """Ten nodes in a row, no model: 22 callbacks."""
    builder = StateGraph(_State)
    names = [f"node_{number}" for number in range(10)]

    def step(state: _State) -> dict[str, Any]:
        return {"steps": ["done"]}

    for name in names:
        builder.add_node(name, step)
    for source, target in zip([START, *names], [*names, END], strict=True):
        builder.add_edge(source, target)
    compiled: Any = builder.compile()
    return lambda: compiled.invoke({"question": QUESTION, "steps": []}, configs())


def streaming(configs: Configs) -> Callable[[], None]:
    """An agent that streams 200 tokens to a reader."""
    compiled = _agent("", TOKENS)

    def run() -> None:
        read_tokens = 0
        for _ in compiled.stream({"messages": [HumanMessage(QUESTION)]}, configs(), stream_mode="messages"):
            read_tokens += 1
        assert read_tokens >= TOKENS

    return run


def concurrent(configs: Configs) -> Callable[[], None]:
    """50 agents at once on one event loop."""
    compiled = _agent()
    loop = asyncio.new_event_loop()

    async def run_agent() -> None:
        answer = await compiled.ainvoke({"messages": [HumanMessage(QUESTION)]}, configs())
        _check(answer["messages"][-1].content)

    async def run_all() -> None:
        await asyncio.gather(*[run_agent() for _ in range(AGENTS)])

    return lambda: loop.run_until_complete(run_all())


def long_result(configs: Configs) -> Callable[[], None]:
    """An agent whose tool returns 200 KB."""
    compiled = _agent("read")
    return lambda: _check(compiled.invoke({"messages": [HumanMessage(QUESTION)]}, configs())["messages"][-1].content)


def conversation(configs: Configs, turns: int = TURNS) -> Callable[[], None]:
    """A conversation of 200 turns, each of which passes the whole history."""
    compiled = _agent("")

    def run() -> None:
        config = configs()
        history: list[BaseMessage] = []
        for number in range(turns):
            history.append(HumanMessage(f"{QUESTION} I ask for the {number}th time."))
            history.append(compiled.invoke({"messages": history}, config)["messages"][-1])

    return run


def half_conversation(configs: Configs) -> Callable[[], None]:
    """The same with half the turns, to measure how the bytes sent grow."""
    return conversation(configs, TURNS // 2)


def _check(answer: object) -> None:
    assert answer == ANSWER


@dataclass(frozen=True)
class Workload:
    """A program and how often it runs in a round.

    `count` is chosen so that a round without tracing takes a quarter of a second, and the queue of no contender
    overflows. `probe` is run once without time pressure to learn how much should arrive.
    """

    name: str
    title: str
    make: Callable[[Configs], Callable[[], None]]
    count: int
    probe: Callable[[Configs], Callable[[], None]] | None = None
    turns: int = 1


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("agent", "agent, 2 model calls + 1 tool", agent, 120),
        Workload("chain", "prompt, model, parser", chain, 800),
        Workload("graph", "graph of ten nodes", graph, 150),
        Workload("streaming", "agent streaming 200 tokens", streaming, 40),
        Workload("concurrent", "50 concurrent async agents", concurrent, 3, turns=AGENTS),
        Workload("long_result", "200 KB tool result", long_result, 30),
        Workload("sustained", "the agent without pauses, for seconds", agent, 800),
        Workload("conversation", "conversation of 200 turns", conversation, 1, half_conversation, TURNS),
    )
}
