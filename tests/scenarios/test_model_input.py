"""What a model was sent can be put together from the conversation, and the page knows if it is exact."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain", reason="the programs are agents of `langchain`")

from langchain.agents import create_agent
from langchain.agents.middleware import ClearToolUsesEdit, ContextEditingMiddleware
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

from gati import observe
from gati.store import model_input, queries
from gati.store.model_input import ModelInput
from gati.store.store import Store
from gati.testing import ScriptedChatModel
from tests.servers import LocalServer, studio_server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[BaseMessage]]]:
    """The messages that models were sent, as they received them."""
    calls: list[list[BaseMessage]] = []
    generate = ScriptedChatModel._generate

    def noting(self: Any, messages: list[BaseMessage], *args: Any, **more: Any) -> Any:
        calls.append(list(messages))
        return generate(self, messages, *args, **more)

    monkeypatch.setattr(ScriptedChatModel, "_generate", noting)
    return calls


@tool
def track(order: str) -> dict[str, Any]:
    """Find an order."""
    return {"place": f"in the van with {order}", "stops": 4, "note": "x" * 400}


@tool
def price(order: str) -> float:
    """Return a price."""
    return 12.5


def asks(*names: str, number: int = 0) -> AIMessage:
    calls = [{"name": name, "args": {"order": "8613"}, "id": f"call-{number}-{name}"} for name in names]
    return AIMessage("Let me look.", tool_calls=calls)


def inputs(store: Store, conversation: str) -> list[ModelInput]:
    summary = queries.find_conversation(store, conversation)
    assert summary is not None
    messages, _ = queries.conversation_messages(store, summary.id)
    found = [model_input.input_of_call(store, message.id) for message in messages if message.type == "llm"]
    return [one for one in found if one is not None]


def delivered(path: Path, conversation: str = "c") -> list[ModelInput]:
    observe.shutdown()
    with closing(Store(path)) as store:
        return inputs(store, conversation)


def as_text(message: BaseMessage) -> tuple[str, str, list[str]]:
    roles = {"human": "user", "ai": "assistant"}
    return (
        roles.get(message.type, message.type),
        message.text,
        [call["name"] for call in getattr(message, "tool_calls", ())],
    )


def check_equal(found: Sequence[ModelInput], sent: list[list[BaseMessage]]) -> None:
    """Check roles, tool calls and, except for results of tools, texts."""
    assert len(found) == len(sent)
    for one, messages in zip(found, sent, strict=True):
        assert one.is_exact, one.note
        assert one.count == len(messages)
        expected = [as_text(message) for message in messages if message.type != "system"]
        shown = [(m.role, m.content, [call["name"] for call in m.tool_calls]) for m in one.messages]
        blank = [[("tool", "", []) if m[0] == "tool" else m for m in group] for group in (shown, expected)]
        assert blank[0] == blank[1]


def run_agent(model: ScriptedChatModel, questions: Sequence[str], **more: Any) -> None:
    agent = create_agent(model, [track, price], system_prompt="Be brief.", checkpointer=InMemorySaver(), **more)
    for question in questions:
        agent.invoke({"messages": [("user", question)]}, {"configurable": {"thread_id": "c"}})


def test_every_call_of_an_agent_is_exact_over_several_turns(path: Path, sent: Any):
    observe.init(local=path)
    replies = [asks("track"), "In the van.", asks("track", "price", number=1), "12.50", "Bye."]
    run_agent(ScriptedChatModel(replies=replies), ["Where?", "And the price?", "Thanks"])
    found = delivered(path)
    check_equal(found, sent)
    assert [one.returned.content for one in found] == ["Let me look.", "In the van.", "Let me look.", "12.50", "Bye."]
    assert found[0].properties["tools"] == ["track", "price"]
    assert found[0].prompt is not None
    assert found[0].prompt.version.text == "Be brief."


def test_a_chat_whose_program_keeps_the_history_is_exact(path: Path, sent: Any):
    observe.init(local=path)
    prompt = ChatPromptTemplate([("system", "You teach {name}."), ("placeholder", "{history}"), ("user", "{question}")])
    chain = prompt | ScriptedChatModel(replies=["one", "two", "three"])
    history: list[BaseMessage] = []
    with observe.conversation("c"):
        for question in ("a", "b", "c"):
            answer = chain.invoke({"name": "Ada", "history": history, "question": question})
            history += [HumanMessage(question), answer]
    found = delivered(path)
    check_equal(found, sent)
    assert found[2].prompt is not None
    assert found[2].prompt.variables["name"] == "Ada"


def test_another_process_continues_an_exact_history(path: Path, sent: Any):
    saver, model = InMemorySaver(), ScriptedChatModel(replies=[asks("price"), "12.50", "Bye."])
    for question in ("How much?", "Thanks"):
        observe.init(local=path)  # as after a restart: nothing of the first turn is known
        agent = create_agent(model, [price], checkpointer=saver)
        agent.invoke({"messages": [("user", question)]}, {"configurable": {"thread_id": "c"}})
        observe.shutdown()
    check_equal(delivered(path), sent)


def test_a_shortened_history_is_reconstructed_with_its_last_messages(path: Path):
    observe.init(local=path)
    model = ScriptedChatModel(replies=["one", "two", "three"])
    history: list[BaseMessage] = [SystemMessage("Be kind.")]
    with observe.conversation("c"):
        for number in range(3):
            history.append(HumanMessage(f"q{number}"))
            history.append(model.invoke([history[0], *history[-3:]] if number == 2 else history))
    found = delivered(path)
    assert [one.is_exact for one in found] == [True, True, False]
    assert (found[2].count, [message.content for message in found[2].messages]) == (4, ["q1", "two", "q2"])


def test_a_history_whose_earlier_results_were_cleared_is_not_called_exact(path: Path, sent: Any):
    observe.init(local=path)
    clearing = ContextEditingMiddleware(edits=[ClearToolUsesEdit(trigger=100, keep=1)])
    replies = [asks("track"), asks("track", number=1), asks("track", number=2), "Done."]
    run_agent(ScriptedChatModel(replies=replies), ["Where?"], middleware=[clearing])
    found = delivered(path)
    cleared = [any(message.text == "[cleared]" for message in messages) for messages in sent]
    assert any(cleared)
    assert [one.is_exact for one, was_cleared in zip(found, cleared, strict=True) if was_cleared] == [False] * sum(
        cleared
    )


@pytest.mark.parametrize("option", [{"mask": lambda text: text}, {"capture_content": False}])
def test_there_is_no_hash_of_texts_that_must_not_be_delivered(path: Path, option: dict[str, Any]):
    observe.init(local=path, **option)
    with observe.conversation("c"):
        ScriptedChatModel(replies=["one"]).invoke("q")
    (found,) = delivered(path)
    assert (found.count, found.is_exact) == (1, False)
    assert "input_hash" not in found.properties


def test_events_of_a_gati_backend_are_exact(sent: Any):
    with studio_server() as studio:
        observe.init(backend_url=studio.address, backend_api_key=studio.api_key, local=False)
        run_agent(ScriptedChatModel(replies=[asks("track"), "In the van.", "Bye."]), ["Where?", "Thanks"])
        observe.shutdown()
        check_equal(inputs(studio.store, "c"), sent)


def test_messages_of_other_clients_are_reconstructed():
    with studio_server() as studio:
        post(studio, [
            {"role": "user", "content": "Where?"},
            {"messageType": "llm", "externalMessageId": "m1", "model": "x", "output": {"tool_calls": [{"name": "track", "args": {"order": "1"}, "id": "k"}]}},
            {"messageType": "tool_call", "externalMessageId": "k", "toolName": "track", "input": {"order": "1"}},
            {"messageType": "observation", "externalMessageId": "k:r", "parentExternalMessageId": "k", "output": {"output": "here"}},
            {"messageType": "llm", "externalMessageId": "m2", "model": "x"},
            {"role": "assistant", "content": "It is here."},
        ])  # fmt: skip
        first, second = inputs(studio.store, "c")
    assert [(m.role, m.content) for m in first.messages] == [("user", "Where?")]
    assert [(m.role, m.content) for m in second.messages] == [("user", "Where?"), ("assistant", ""), ("tool", "here")]
    assert second.returned.content == "It is here."
    assert not first.is_exact
    assert "did not report" in first.note


def post(studio: LocalServer, messages: list[dict[str, Any]]) -> None:
    studio.store.ingest({"externalUserId": "u", "externalConversationId": "c", "messages": messages})
