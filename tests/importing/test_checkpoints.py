from __future__ import annotations

from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph

from gati.events import AgentEndEvent, LLMCallEvent, ToolCallEvent, Turn
from gati.importing.checkpoints import read_checkpoints
from gati.importing.importer import import_turns
from gati.settings import load
from gati.testing import ScriptedChatModel
from tests.importing.kit import Collector


def imported(saver: BaseCheckpointSaver[Any], *threads: str) -> list[Turn]:
    collector = Collector()
    assert import_turns(read_checkpoints(saver, threads), "langgraph", load(spool=False), [collector]).lost == 0
    return collector.turns


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def talk(saver: BaseCheckpointSaver[Any], thread: str, *texts: str) -> None:
    call = AIMessage("Let me see", tool_calls=[{"name": "add", "args": {"a": 1, "b": 2}, "id": "c1"}])
    agent = create_agent(ScriptedChatModel(replies=[call, "It is 3", "You are welcome"]), [add], checkpointer=saver)
    for text in texts:
        agent.invoke({"messages": [("user", text)]}, {"configurable": {"thread_id": thread, "user_id": "ada"}})


def transcript(turn: Turn) -> list[str]:
    return [message.text for message in turn.messages] + [turn.answer.text if turn.answer else ""]


def test_a_thread_becomes_a_conversation_with_one_turn_for_each_question():
    saver = InMemorySaver()
    talk(saver, "t1", "What is 1 + 2?", "Thanks")
    turns = imported(saver)
    assert [transcript(turn) for turn in turns] == [["What is 1 + 2?", "It is 3"], ["Thanks", "You are welcome"]]
    assert {(turn.conversation.id, turn.conversation.user_id) for turn in turns} == {("t1", "ada")}
    assert turns[0].conversation.properties == {"imported_from": "langgraph"}
    (tool,) = (event for event in turns[0].events if isinstance(event, ToolCallEvent))
    assert (tool.tool_name, tool.input, tool.output) == ("add", {"a": 1, "b": 2}, {"output": "3"})
    first, second = (event for event in turns[0].events if isinstance(event, LLMCallEvent))
    assert tool.requested_by == first.event_id
    assert first.tokens_in is not None
    assert second.is_answer
    assert first.started_ns <= tool.started_ns <= second.started_ns


def test_durations_are_unknown():
    saver = InMemorySaver()
    talk(saver, "t1", "What is 1 + 2?")
    (turn,) = imported(saver)
    timed = [event for event in turn.events if isinstance(event, (LLMCallEvent, ToolCallEvent))]
    assert {event.latency_ms for event in timed} == {None}
    assert [event.total_duration_ms for event in turn.events if isinstance(event, AgentEndEvent)] == [None]


def test_a_second_import_has_the_same_ids():
    saver = InMemorySaver()
    talk(saver, "t1", "What is 1 + 2?", "Thanks")

    def ids() -> list[list[str]]:
        return [[turn.run_id, *(event.event_id for event in turn.events)] for turn in imported(saver)]

    assert ids() == ids()


def test_only_the_given_threads_are_read():
    saver = InMemorySaver()
    talk(saver, "t1", "One")
    talk(saver, "t2", "Two")
    assert [turn.conversation.id for turn in imported(saver, "t2")] == ["t2"]
    assert sorted(turn.conversation.id for turn in imported(saver)) == ["t1", "t2"]


def test_messages_that_the_program_removed_are_part_of_the_conversation():
    def answer(state: MessagesState) -> dict[str, Any]:
        removed = [RemoveMessage(id=message.id or "") for message in state["messages"][:-1]]
        return {"messages": [*removed, AIMessage(f"Answer to {state['messages'][-1].text}")]}

    graph = StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").add_edge("answer", END)
    saver = InMemorySaver()
    app = graph.compile(checkpointer=saver)
    for text in ("one", "two", "three"):
        app.invoke({"messages": [HumanMessage(text)]}, {"configurable": {"thread_id": "t1"}})
    turns = imported(saver)
    assert [transcript(turn) for turn in turns] == [[text, f"Answer to {text}"] for text in ("one", "two", "three")]


def test_a_thread_without_messages_is_no_conversation():
    from typing import TypedDict

    class State(TypedDict):
        number: int

    graph = StateGraph(State).add_node("inc", lambda state: {"number": state["number"] + 1}).add_edge(START, "inc")
    saver = InMemorySaver()
    graph.compile(checkpointer=saver).invoke({"number": 1}, {"configurable": {"thread_id": "t1"}})
    assert imported(saver) == []
