"""The records of real LangChain runs."""

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
from gati.trace.records import Custom, ErrorInfo, FirstToken, HistoryRead, ModelCall, RunEnded, RunFailed, RunStarted
from tests import unpacked

PROMPT = ChatPromptTemplate([("system", "Be kind."), ("human", "{text}")])
WATCHED: Any = {"callbacks": [handler]}


class Records(unpacked.Records):
    """Records in order of creation."""

    def kinds(self) -> list[str]:
        return [record.kind for record in self.of(RunStarted)]


@pytest.fixture
def records() -> Iterator[Records]:
    collected = Records()
    current.recorder = Recorder(collected.keep)
    yield collected
    assert current.recorder.open_runs == {}
    assert current.recorder.streamed_tokens == {}
    current.recorder = None


def model(*replies: Any) -> ScriptedChatModel:
    return ScriptedChatModel(replies=list(replies) or ["Hello."])


def test_only_the_root_records_its_input_and_output(records: Records):
    chain = PROMPT | model() | StrOutputParser()
    chain.invoke({"text": "hi"}, WATCHED)
    assert records.kinds() == ["chain", "prompt", "model", "parser"]
    root, prompt, call, parser = records.of(RunStarted)
    assert (root.inputs, prompt.inputs, parser.inputs) == ({"text": "hi"}, {"text": "hi"}, None)
    assert isinstance(call.inputs, ModelCall)
    assert [message.content for message in call.inputs.messages] == ["hi"]
    by_run = {record.run_id: record.output for record in records.of(RunEnded)}
    assert by_run[root.run_id] == "Hello."
    assert by_run[parser.run_id] is None


def test_a_tool_result_without_an_id_does_not_hide_other_messages_without_an_id(records: Records):
    @tool
    def ask() -> Any:
        """Ask another model."""
        return AIMessage("Perhaps.")

    ask.invoke({}, WATCHED)
    node: Any = RunnableLambda(lambda value: {"messages": [AIMessage("New.")]})
    node.invoke("x", {**WATCHED, "tags": ["graph:step:1"]})
    chain: Any = RunnableLambda(lambda value, config: node.invoke("x", {**config, "tags": ["graph:step:1"]}))
    chain.invoke("x", WATCHED)
    recorded = [record.output["messages"] for record in records.of(RunEnded) if isinstance(record.output, dict)]
    assert [[message.content for message in messages] for messages in recorded] == [["New."]] * 3


def test_timestamps_increase_with_the_order_of_the_records(records: Records):
    (PROMPT | model()).invoke({"text": "hi"}, WATCHED)
    times = [record.at for record in records]
    assert times == sorted(times)


def test_each_run_is_a_child_of_the_enclosing_run(records: Records):
    (PROMPT | model()).invoke({"text": "hi"}, WATCHED)
    root, *below = records.of(RunStarted)
    assert root.parent_id is None
    assert {record.parent_id for record in below} == {root.run_id}


def test_a_model_with_its_own_handler_is_a_child_of_the_enclosing_run(records: Records):
    chain = RunnableLambda(lambda text: model().invoke(text, WATCHED).text)
    chain.invoke("hi", WATCHED)
    root, call = records.of(RunStarted)
    assert call.parent_id == root.run_id


def test_an_unknown_parent_id_is_kept_for_the_assembler(records: Records):
    unknown = uuid4()
    handler.on_chain_start({}, {"text": "hi"}, run_id=(run := uuid4()), parent_run_id=unknown)
    handler.on_chain_end("done", run_id=run)
    (root,) = records.of(RunStarted)
    assert (root.parent_id, root.inputs) == (unknown, {"text": "hi"})


def test_a_run_reported_by_two_handlers_is_recorded_once(records: Records):
    run = uuid4()
    for _ in range(2):
        handler.on_chain_start({}, "hi", run_id=run)
    for _ in range(2):
        handler.on_chain_end("done", run_id=run)
    assert len(records.of(RunStarted)) == 1


def test_a_failure_records_type_text_and_partial_answer(records: Records):
    with pytest.raises(ValueError, match="no"):
        (PROMPT | model(ValueError("no"))).invoke({"text": "hi"}, WATCHED)
    assert [record.error for record in records.of(RunFailed)] == [ErrorInfo("ValueError", "no")] * 2


@pytest.mark.parametrize(
    ("error", "control"),
    [
        (GeneratorExit(), "closed"),
        (KeyboardInterrupt(), "keyboard"),
        (asyncio.CancelledError(), "cancelled"),
        (SystemExit(), None),
    ],
)
def test_control_flow_is_not_an_error(records: Records, error: BaseException, control: str | None):
    handler.on_chain_start({}, "hi", run_id=(run := uuid4()))
    handler.on_chain_error(error, run_id=run)
    assert records.of(RunFailed)[0].error.control == control


def test_an_exception_that_is_only_named_like_control_flow_is_an_error(records: Records):
    class GraphInterrupt(Exception): ...

    handler.on_chain_start({}, "hi", run_id=(run := uuid4()))
    handler.on_chain_error(GraphInterrupt("mine"), run_id=run)
    assert records.of(RunFailed)[0].error == ErrorInfo("GraphInterrupt", "mine")


def test_streamed_tokens_are_collected_in_one_record(records: Records):
    list(model("Hello, you.").stream("hi", WATCHED))
    (first,) = records.of(FirstToken)
    assert "".join(first.pieces) == "Hello, you."


def test_custom_events_belong_to_the_enclosing_run(records: Records):
    async def work(text: str) -> str:
        await adispatch_custom_event("progress", {"done": 1})
        return text

    asyncio.run(RunnableLambda(work).ainvoke("hi", WATCHED))
    (event,) = records.of(Custom)
    assert (event.name, event.data, event.run_id) == ("progress", {"done": 1}, records.of(RunStarted)[0].run_id)


def test_a_custom_event_with_an_explicit_config_belongs_to_its_run(records: Records):
    async def work(text: str, config: RunnableConfig) -> str:
        await adispatch_custom_event("progress", {"done": 1}, config=config)
        return text

    asyncio.run(RunnableLambda(work).ainvoke("hi", WATCHED))
    (event,) = records.of(Custom)
    assert (event.data, event.run_id) == ({"done": 1}, records.of(RunStarted)[0].run_id)


def test_a_deferred_input_is_recorded_with_the_end(records: Records):
    list((PROMPT | model() | StrOutputParser()).stream({"text": "hi"}, WATCHED))
    root = records.of(RunStarted)[0]
    (end,) = [record for record in records.of(RunEnded) if record.run_id == root.run_id]
    assert (root.inputs, end.inputs, end.output) == (None, {"text": "hi"}, "Hello.")


def test_the_scope_is_recorded_with_the_root(records: Records):
    with observe.conversation("c-1", user_id="ada"):
        scope = current_scope.get()
        (PROMPT | model()).invoke({"text": "hi"}, WATCHED)
    assert [record.scope for record in records.of(RunStarted)] == [scope, None, None]


def test_values_in_configurable_are_read_below_the_root(records: Records):
    config = {**WATCHED, "configurable": {"user_id": "ada", "city": "Oslo", "__own": "x"}}
    (PROMPT | RunnableLambda(lambda prompt: prompt) | model()).invoke({"text": "hi"}, config)
    found = [record.configurable for record in records.of(RunStarted) if record.configurable]
    assert found == [{"user_id": "ada", "city": "Oslo"}]


def test_children_of_a_paused_run_are_paused(records: Records):
    run, below = uuid4(), uuid4()
    with observe.paused():
        handler.on_chain_start({}, "hi", run_id=run)
    handler.on_chain_start({}, "hi", run_id=below, parent_run_id=run)
    handler.on_chain_end("done", run_id=below)
    handler.on_chain_end("done", run_id=run)
    assert records == []


def test_a_model_call_records_only_new_messages(records: Records):
    talk: list[Any] = [HumanMessage("one")]
    for asked in ("two", "three"):
        talk.append(model(f"Answer to {talk[-1].text}.").invoke(talk, WATCHED))
        talk.append(HumanMessage(asked))
    model("Answer.").invoke(talk, WATCHED)
    recorded = [[message.content for message in record.inputs.messages] for record in records.of(RunStarted)]
    assert recorded == [["one"], ["two"], ["three"]]
    assert [record.inputs.total for record in records.of(RunStarted)] == [1, 3, 5]


def test_a_completion_starts_a_conversation_like_any_model_call(records: Records):
    config: Any = {"run_id": uuid4(), "metadata": {"thread_id": "c"}}
    handler.on_llm_start({"name": "completion"}, ["one"], **config)
    handler.on_llm_error(ValueError("enough"), run_id=config["run_id"])
    talk = [HumanMessage("one"), AIMessage("Answer.", id="recorded elsewhere"), HumanMessage("two")]
    current.recorder.known_answers.add("recorded elsewhere")  # type: ignore[union-attr]  # set by the fixture
    model("Two.").invoke(talk, {**WATCHED, "metadata": {"thread_id": "c"}})
    assert [message.content for message in records.of(RunStarted)[-1].inputs.messages] == ["two"]


def test_later_changes_are_not_recorded(records: Records):
    def edit(state: dict[str, Any]) -> dict[str, Any]:
        state["text"] = "edited"
        state["more"].append("edited")
        return state

    RunnableLambda(edit).invoke({"text": "hi", "more": []}, WATCHED)
    assert records.of(RunStarted)[0].inputs == {"text": "hi", "more": []}


def test_invocation_parameters_contain_tool_names_and_no_secrets(records: Records):
    def weather(city: str) -> str:
        """The weather."""
        return city

    model(AIMessage("x")).bind_tools([weather]).bind(temperature=0.5, api_key="secret").invoke("hi", WATCHED)
    params = records.of(RunStarted)[0].inputs.params
    assert params["tools"] == ["weather"]
    assert "secret" not in str(params)


def test_the_number_of_open_runs_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "OPEN_RUNS", 10)
    recorder = Recorder(lambda record: None)
    for number in range(100):
        recorder.chain_started({}, "hi", UUID(int=number + 1), None, None, None, {})
        recorder.token_received("x", UUID(int=number + 1))
    assert len(recorder.open_runs) <= 10
    assert len(recorder.streamed_tokens) <= 10


def test_an_abandoned_run_is_forgotten():
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
    ("metadata", "default", "recorded"),
    [
        ({"thread_id": "c-1"}, None, [3, 1, 1]),
        ({"conversation_id": UUID(int=5)}, None, [3, 1, 1]),
        (None, "c-1", [3, 1, 1]),
        (None, None, [1, 1, 1]),
    ],
)
def test_the_whole_history_is_recorded_at_the_start_of_a_named_conversation(
    metadata: Any, default: str | None, recorded: list[int]
):
    records = Records()
    recorder = Recorder(records.keep, default)
    for number in range(1, 4):
        make_root(metadata)(recorder, number)
    assert [len(record.inputs["messages"]) for record in records if isinstance(record, RunStarted)] == recorded
    assert sum(isinstance(record, HistoryRead) for record in records) == (0 if recorded[0] == 3 else 3)


def test_of_a_streamed_text_no_more_is_kept_than_of_a_field(records: Records, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module.text_limit, "chars", 100)
    recorder, run_id = Recorder(records.append), UUID(int=1)
    recorder.model_started({}, "text", run_id, None, None, None, {})
    for number in range(1_000):
        recorder.token_received("x" * 1_000 if number == 20 else "ab ", run_id)
    (first,) = records.of(FirstToken)
    assert "".join(first.pieces) == "ab " * 20 + "x" * 40
    recorder.abandoned(run_id)


def talk(conversation: str | None, given: list[Any], written: list[Any]) -> None:
    """Run a graph with one node, which writes these messages; the graph returns its whole state."""
    node = RunnableLambda(lambda state: {"messages": written})

    def run(state: dict[str, Any], config: RunnableConfig) -> dict[str, Any]:
        node.invoke(state, {**config, "tags": ["graph:step:1"]})
        return {"messages": [*given, *written]}

    RunnableLambda(run).invoke(
        {"messages": given}, {**WATCHED, "metadata": {"thread_id": conversation} if conversation else {}}
    )


CONVERSATIONS = [("a", "b"), ("a", None), (None, "b")]
"""Programs without ids share what is known of authors, because their turns may continue each other."""


@pytest.mark.parametrize("in_step", [False, True])
@pytest.mark.parametrize("person", [HumanMessage("yes"), ("user", "yes"), {"role": "user", "content": "yes"}])
@pytest.mark.parametrize(("first", "second"), CONVERSATIONS)
def test_what_a_person_wrote_does_not_hide_what_a_node_of_another_conversation_writes(
    first: str | None, second: str | None, person: Any, in_step: bool, records: Records
):
    def converse() -> None:
        talk(first, [person], [AIMessage("Noted.")])
        talk(second, [HumanMessage("Play.")], [AIMessage("Canned."), HumanMessage("yes")])

    observe.step(converse)() if in_step else converse()
    *_, node, _ = [record.output["messages"] for record in records.of(RunEnded) if isinstance(record.output, dict)]
    assert [message.content for message in node] == ["Canned.", "yes"]


@pytest.mark.parametrize("person", [HumanMessage("yes"), ("user", "yes"), {"role": "user", "content": "yes"}])
@pytest.mark.parametrize(("first", "second"), CONVERSATIONS)
def test_what_a_node_wrote_as_the_user_is_a_persons_message_in_another_conversation(
    first: str | None, second: str | None, person: Any, records: Records
):
    talk(first, [HumanMessage("Play.")], [AIMessage("Canned."), HumanMessage("yes")])
    talk(second, [HumanMessage("Hello"), AIMessage("Hi!"), person], [AIMessage("New.")])
    root = records.of(RunEnded)[-1]
    assert [message.content for message in root.output["messages"]] == ["New."]


@pytest.mark.parametrize("conversation", ["a", None])
def test_a_node_that_returns_its_whole_state_writes_only_what_follows_the_persons_message(
    conversation: str | None, records: Records
):
    person = {"role": "user", "content": "yes"}
    talk(
        conversation,
        [HumanMessage("Hello"), AIMessage("Hi!"), person],
        [HumanMessage("Hello"), person, AIMessage("New.")],
    )
    node, root = [record.output["messages"] for record in records.of(RunEnded)]
    assert [[message.content for message in messages] for messages in (node, root)] == [["New."], ["New."]]
