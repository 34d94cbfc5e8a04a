"""What the recorder leaves behind, seen through real runs of LangChain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from langchain_core.callbacks import adispatch_custom_event
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool

from gati import observe
from gati._context import current_scope
from gati.langchain import recorder as module
from gati.langchain.callback import handler
from gati.langchain.current import current
from gati.langchain.recorder import ROOT, Recorder
from gati.testing import ScriptedChatModel
from gati.trace.records import Custom, ErrorInfo, FirstToken, ModelCall, RunEnded, RunFailed, RunStarted

PROMPT = ChatPromptTemplate([("system", "Be kind."), ("human", "{text}")])
WATCHED: Any = {"callbacks": [handler]}


class Kept(list[Any]):
    """Records in the order of their making."""

    def of(self, kind: type) -> list[Any]:
        return [record for record in self if type(record) is kind]

    def kinds(self) -> list[str]:
        return [record.kind for record in self.of(RunStarted)]


@pytest.fixture
def kept() -> Iterator[Kept]:
    records = Kept()
    current.recorder = Recorder(records.append)
    yield records
    assert current.recorder.open_runs == {}
    assert current.recorder.streamed_tokens == {}
    current.recorder = None


def model(*replies: Any) -> ScriptedChatModel:
    return ScriptedChatModel(replies=list(replies) or ["Hello."])


def test_only_the_root_tells_its_input_and_output(kept: Kept):
    chain = PROMPT | model() | StrOutputParser()
    chain.invoke({"text": "hi"}, WATCHED)
    assert kept.kinds() == ["chain", "prompt", "model", "parser"]
    root, prompt, call, parser = kept.of(RunStarted)
    assert (root.inputs, prompt.inputs, parser.inputs) == ({"text": "hi"}, {"text": "hi"}, None)
    assert isinstance(call.inputs, ModelCall)
    assert [message.content for message in call.inputs.messages] == ["hi"]
    by_run = {record.run_id: record.output for record in kept.of(RunEnded)}
    assert by_run[root.run_id] == "Hello."
    assert by_run[parser.run_id] is None


def test_a_tool_that_returns_a_message_of_another_kind_hides_no_message_without_an_id(kept: Kept):
    @tool
    def ask() -> Any:
        """Ask another model."""
        return AIMessage("Perhaps.")

    ask.invoke({}, WATCHED)
    node: Any = RunnableLambda(lambda value: {"messages": [AIMessage("New.")]})
    node.invoke("x", {**WATCHED, "tags": ["graph:step:1"]})
    chain: Any = RunnableLambda(lambda value, config: node.invoke("x", {**config, "tags": ["graph:step:1"]}))
    chain.invoke("x", WATCHED)
    told = [record.output["messages"] for record in kept.of(RunEnded) if isinstance(record.output, dict)]
    assert [[message.content for message in messages] for messages in told] == [["New."]] * 3


def test_times_are_in_the_order_of_the_records(kept: Kept):
    (PROMPT | model()).invoke({"text": "hi"}, WATCHED)
    times = [record.at for record in kept]
    assert times == sorted(times)


def test_each_run_hangs_on_the_one_around_it(kept: Kept):
    (PROMPT | model()).invoke({"text": "hi"}, WATCHED)
    root, *below = kept.of(RunStarted)
    assert root.parent_id is None
    assert {record.parent_id for record in below} == {root.run_id}


def test_a_model_with_a_handler_of_its_own_hangs_on_the_run_around_it(kept: Kept):
    chain = RunnableLambda(lambda text: model().invoke(text, WATCHED).text)
    chain.invoke("hi", WATCHED)
    root, call = kept.of(RunStarted)
    assert call.parent_id == root.run_id


def test_an_unknown_parent_is_kept_for_the_assembler_to_judge(kept: Kept):
    unknown = uuid4()
    handler.on_chain_start({}, {"text": "hi"}, run_id=(run := uuid4()), parent_run_id=unknown)
    handler.on_chain_end("done", run_id=run)
    (root,) = kept.of(RunStarted)
    assert (root.parent_id, root.inputs) == (unknown, {"text": "hi"})


def test_a_run_is_recorded_once_whoever_tells_of_it(kept: Kept):
    run = uuid4()
    for _ in range(2):
        handler.on_chain_start({}, "hi", run_id=run)
    for _ in range(2):
        handler.on_chain_end("done", run_id=run)
    assert len(kept.of(RunStarted)) == 1


def test_a_failure_tells_type_text_and_what_there_was_of_an_answer(kept: Kept):
    with pytest.raises(ValueError, match="no"):
        (PROMPT | model(ValueError("no"))).invoke({"text": "hi"}, WATCHED)
    assert [record.error for record in kept.of(RunFailed)] == [ErrorInfo("ValueError", "no")] * 2


@pytest.mark.parametrize(
    ("error", "control"),
    [
        (GeneratorExit(), "closed"),
        (KeyboardInterrupt(), "keyboard"),
        (asyncio.CancelledError(), "cancelled"),
        (SystemExit(), None),
    ],
)
def test_control_flow_is_no_error(kept: Kept, error: BaseException, control: str | None):
    handler.on_chain_start({}, "hi", run_id=(run := uuid4()))
    handler.on_chain_error(error, run_id=run)
    assert kept.of(RunFailed)[0].error.control == control


def test_an_exception_that_is_only_named_like_control_flow_is_an_error(kept: Kept):
    class GraphInterrupt(Exception): ...

    handler.on_chain_start({}, "hi", run_id=(run := uuid4()))
    handler.on_chain_error(GraphInterrupt("mine"), run_id=run)
    assert kept.of(RunFailed)[0].error == ErrorInfo("GraphInterrupt", "mine")


def test_tokens_make_one_record_that_grows(kept: Kept):
    list(model("Hello, you.").stream("hi", WATCHED))
    (first,) = kept.of(FirstToken)
    assert "".join(first.pieces) == "Hello, you."


def test_custom_events_hang_on_the_run_around_them(kept: Kept):
    async def work(text: str) -> str:
        await adispatch_custom_event("progress", {"done": 1})
        return text

    asyncio.run(RunnableLambda(work).ainvoke("hi", WATCHED))
    (event,) = kept.of(Custom)
    assert (event.name, event.data, event.run_id) == ("progress", {"done": 1}, kept.of(RunStarted)[0].run_id)


def test_a_custom_event_with_the_config_given_hangs_on_its_run(kept: Kept):
    async def work(text: str, config: RunnableConfig) -> str:
        await adispatch_custom_event("progress", {"done": 1}, config=config)
        return text

    asyncio.run(RunnableLambda(work).ainvoke("hi", WATCHED))
    (event,) = kept.of(Custom)
    assert (event.data, event.run_id) == ({"done": 1}, kept.of(RunStarted)[0].run_id)


def test_an_input_that_comes_late_is_told_with_the_end(kept: Kept):
    list((PROMPT | model() | StrOutputParser()).stream({"text": "hi"}, WATCHED))
    root = kept.of(RunStarted)[0]
    (end,) = [record for record in kept.of(RunEnded) if record.run_id == root.run_id]
    assert (root.inputs, end.inputs, end.output) == (None, {"text": "hi"}, "Hello.")


def test_a_scope_is_told_with_the_root(kept: Kept):
    with observe.conversation("c-1", user_id="ada"):
        scope = current_scope.get()
        (PROMPT | model()).invoke({"text": "hi"}, WATCHED)
    assert [record.scope for record in kept.of(RunStarted)] == [scope, None, None]


def test_the_identity_of_a_running_config_is_found_below_the_root(kept: Kept):
    config = {**WATCHED, "configurable": {"user_id": "ada", "secret": "x"}}
    (PROMPT | RunnableLambda(lambda prompt: prompt) | model()).invoke({"text": "hi"}, config)
    found = [record.configurable for record in kept.of(RunStarted) if record.configurable]
    assert found == [{"user_id": "ada"}]


def test_what_a_paused_run_calls_is_paused_with_it(kept: Kept):
    run, below = uuid4(), uuid4()
    with observe.paused():
        handler.on_chain_start({}, "hi", run_id=run)
    handler.on_chain_start({}, "hi", run_id=below, parent_run_id=run)
    handler.on_chain_end("done", run_id=below)
    handler.on_chain_end("done", run_id=run)
    assert kept == []


def test_a_model_call_tells_only_what_is_new(kept: Kept):
    talk: list[Any] = [HumanMessage("one")]
    for asked in ("two", "three"):
        talk.append(model(f"Answer to {talk[-1].text}.").invoke(talk, WATCHED))
        talk.append(HumanMessage(asked))
    model("Answer.").invoke(talk, WATCHED)
    told = [[message.content for message in record.inputs.messages] for record in kept.of(RunStarted)]
    assert told == [["one"], ["two"], ["three"]]
    assert [record.inputs.total for record in kept.of(RunStarted)] == [1, 3, 5]


def test_a_completion_begins_a_conversation_as_any_model_call_does(kept: Kept):
    config: Any = {"run_id": uuid4(), "metadata": {"thread_id": "c"}}
    handler.on_llm_start({"name": "completion"}, ["one"], **config)
    handler.on_llm_error(ValueError("enough"), run_id=config["run_id"])
    talk = [HumanMessage("one"), AIMessage("Answer.", id="told elsewhere"), HumanMessage("two")]
    current.recorder.known_answers.add("told elsewhere")  # type: ignore[union-attr]  # the fixture has put one there
    model("Two.").invoke(talk, {**WATCHED, "metadata": {"thread_id": "c"}})
    assert [message.content for message in kept.of(RunStarted)[-1].inputs.messages] == ["two"]


def test_later_edits_are_not_seen(kept: Kept):
    def edit(state: dict[str, Any]) -> dict[str, Any]:
        state["text"] = "edited"
        state["more"].append("edited")
        return state

    RunnableLambda(edit).invoke({"text": "hi", "more": []}, WATCHED)
    assert kept.of(RunStarted)[0].inputs == {"text": "hi", "more": []}


def test_how_a_model_was_called_is_told_with_the_names_of_its_tools(kept: Kept):
    def weather(city: str) -> str:
        """The weather."""
        return city

    model(AIMessage("x")).bind_tools([weather]).bind(temperature=0.5, api_key="secret").invoke("hi", WATCHED)
    params = kept.of(RunStarted)[0].inputs.params
    assert params["tools"] == ["weather"]
    assert "secret" not in str(params)


def test_runs_that_never_end_are_forgotten_by_number(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "OPEN_RUNS", 10)
    recorder = Recorder(lambda record: None)
    for number in range(100):
        recorder.chain_started({}, "hi", UUID(int=number + 1), None, None, None, {})
        recorder.token_received("x", UUID(int=number + 1))
    assert len(recorder.open_runs) <= 10
    assert len(recorder.streamed_tokens) <= 10


def test_a_run_that_was_given_up_is_forgotten():
    recorder = Recorder(lambda record: None)
    recorder.chain_started({}, "hi", UUID(int=1), None, None, None, {})
    assert recorder.open_runs[1] & ROOT
    recorder.token_received("x", UUID(int=1))
    recorder.abandoned(UUID(int=1))
    assert (recorder.open_runs, recorder.streamed_tokens) == ({}, {})


def make_root(metadata: Any) -> Callable[[Recorder, int], None]:
    return lambda recorder, number: recorder.chain_started(
        {},
        {"messages": [HumanMessage("Hello"), AIMessage("Hi!"), HumanMessage("144?")]},
        UUID(int=number),
        None,
        None,
        metadata,
        {},
    )


@pytest.mark.parametrize(
    ("metadata", "default", "told"),
    [
        ({"thread_id": "c-1"}, None, [3, 1, 1]),
        ({"conversation_id": UUID(int=5)}, None, [3, 1, 1]),
        (None, "c-1", [3, 1, 1]),
        (None, None, [1, 1, 1]),
    ],
)
def test_a_history_is_taken_whole_at_the_beginning_of_a_named_conversation(
    metadata: Any, default: str | None, told: list[int]
):
    kept = Kept()
    recorder = Recorder(kept.append, default)
    for number in range(1, 4):
        make_root(metadata)(recorder, number)
    assert [len(record.inputs["messages"]) for record in kept] == told
