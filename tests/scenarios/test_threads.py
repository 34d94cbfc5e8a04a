"""Conversations of several turns: each turn reports only new messages, however history is kept."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage, SystemMessage, trim_messages
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES

from gati import observe
from tests.scenarios.harness import Config, Program, Watch
from tests.scenarios.scripts import call, model, tool_request, weather

ASKED = ["Hello.", "How is Oslo?", "yes", "And Rome?", "yes"]
ANSWERED = [
    "Hello, shall I look up the weather?",
    "Sunny. Shall I go on?",
    "Fine.",
    "Rainy. Anything else?",
    "Good bye.",
]


def golden(name: str = "chat", tools: bool = False) -> str:
    """Return the golden of five turns, each with only its own messages."""
    lines = ["conversation c-1 of anonymous"]
    for text, answer in zip(ASKED, ANSWERED, strict=True):
        lines += [f'user_message   "{text}"', f"chain_start    {name}"]
        if tools:
            lines += [
                "  task         model",
                "    llm        gpt-4o-mini 10>5 $ calls=weather",
                "  task         tools",
                '    tool_call  weather {"city":"Oslo"}',
                '      observation {"output":"sunny in Oslo"}',
            ]
        lines += ["  task         model", "    llm        gpt-4o-mini 10>5 $"]
        lines += [f'  final_response "{answer}"', "  chain_end    completed"]
    return "\n".join(lines)


def own(config: Config, **more: Any) -> Config:
    return {**config, "configurable": {"thread_id": "c-1", **more}}


def chat(saver: Any = None, speaker: Any = None) -> Any:
    """Return a graph in which a model answers."""
    speaking = speaker or model(*ANSWERED)
    builder = StateGraph(MessagesState)
    builder.add_node("model", lambda state: {"messages": [speaking.invoke(state["messages"])]})
    builder.add_edge(START, "model")
    return builder.compile(name="chat", checkpointer=saver)


def both(turns: Any) -> list[Program]:
    """Return `turns` as two programs: one invokes the graph, the other streams it."""

    def invoke(config: Config) -> Any:
        return turns(config, lambda graph, given, own: graph.invoke(given, own))

    def stream(config: Config) -> Any:
        return turns(config, lambda graph, given, own: list(graph.stream(given, own, stream_mode="values"))[-1])

    return [invoke, stream]


def test_a_checkpointed_graph_reports_only_new_messages(watch: Watch):
    def turns(config: Config, ask: Any) -> Any:
        graph = chat(InMemorySaver())
        return [ask(graph, {"messages": [("user", text)]}, own(config))["messages"][-1].text for text in ASKED]

    watch(golden(), *both(turns))


def test_a_checkpointed_agent_reports_only_new_messages(watch: Watch):
    def turns(config: Config, ask: Any) -> Any:
        replies = [r for n, a in enumerate(ANSWERED) for r in (tool_request(call("weather", f"c{n}", city="Oslo")), a)]
        agent = create_agent(model(*replies), [weather], checkpointer=InMemorySaver(), name="chat")
        return [ask(agent, {"messages": [("user", text)]}, own(config))["messages"][-1].text for text in ASKED]

    watch(golden(tools=True), *both(turns))


@pytest.mark.parametrize("form", ["objects", "dicts", "tuples"])
def test_a_program_that_passes_the_whole_history_reports_only_new_messages(watch: Watch, form: str):
    def in_form(message: AnyMessage) -> Any:
        if form == "objects":
            return message
        role = "user" if message.type == "human" else "assistant"
        return (role, message.text) if form == "tuples" else {"role": role, "content": message.text}

    def turns(config: Config, ask: Any) -> Any:
        graph, history, answers = chat(), [], []
        for text in ASKED:
            history.append(in_form(HumanMessage(text)))
            answers.append(ask(graph, {"messages": history}, {**config, "metadata": {"conversation_id": "c-1"}}))
            history.append(in_form(answers[-1]["messages"][-1]))
        return [state["messages"][-1].text for state in answers]

    watch(golden(), *both(turns))


def test_a_trimmed_history_reports_only_new_messages(watch: Watch):
    def turns(config: Config, ask: Any) -> Any:
        history: list[AnyMessage] = []
        graph, answers = chat(), []
        for text in ASKED:
            history.append(HumanMessage(text))
            kept = trim_messages(history, max_tokens=3, token_counter=len, start_on="human")
            state = ask(graph, {"messages": kept}, {**config, "metadata": {"conversation_id": "c-1"}})
            history.append(state["messages"][-1])
            answers.append(history[-1].text)
        return answers

    watch(golden(), *both(turns))


def test_a_history_trimmed_inside_the_graph_reports_only_new_messages(watch: Watch):
    def turns(config: Config, ask: Any) -> Any:
        speaking = model(*ANSWERED)

        def answer(state: MessagesState) -> dict[str, Any]:
            kept = trim_messages(state["messages"], max_tokens=1, token_counter=len, start_on="human")
            return {"messages": [speaking.invoke(kept)]}

        builder = StateGraph(MessagesState)
        builder.add_node("model", answer)
        builder.add_edge(START, "model")
        graph = builder.compile(name="chat", checkpointer=InMemorySaver())
        return [ask(graph, {"messages": [("user", text)]}, own(config))["messages"][-1].text for text in ASKED]

    watch(golden(), *both(turns))


def test_removed_messages_are_not_reported_again(watch: Watch):
    def turns(config: Config, ask: Any) -> Any:
        speaking = model(*ANSWERED)

        def forget(state: MessagesState) -> dict[str, Any]:
            return {"messages": [RemoveMessage(REMOVE_ALL_MESSAGES), state["messages"][-1]]}

        builder = StateGraph(MessagesState)
        builder.add_node("forget", forget)
        builder.add_node("model", lambda state: {"messages": [speaking.invoke(state["messages"])]})
        builder.add_edge(START, "forget")
        builder.add_edge("forget", "model")
        graph = builder.compile(name="chat", checkpointer=InMemorySaver())
        return [ask(graph, {"messages": [("user", text)]}, own(config))["messages"][-1].text for text in ASKED]

    watch(golden().replace("  task         model", "  task         forget\n  task         model"), *both(turns))


def test_a_state_update_between_turns_is_not_a_turn(watch: Watch):
    def turns(config: Config, ask: Any) -> Any:
        graph = chat(InMemorySaver(), model("Hello.", "It is noted."))
        ask(graph, {"messages": [HumanMessage("Hi.", id="h1")]}, own(config))
        note = [HumanMessage("(the customer moved to Rome)", id="h2"), AIMessage("Understood.", id="a2")]
        graph.update_state(own(config), {"messages": note})
        return ask(graph, {"messages": [HumanMessage("Thanks.", id="h3")]}, own(config))["messages"][-1].text

    watch(
        """
        conversation c-1 of anonymous
        user_message   "Hi."
        chain_start    chat
          task         model
            llm        gpt-4o-mini 10>5 $
          final_response "Hello."
          chain_end    completed
        user_message   "Thanks."
        chain_start    chat
          task         model
            llm        gpt-4o-mini 10>5 $ input human:"(the customer moved to Rome)" input ai:"Understood."
          final_response "It is noted."
          chain_end    completed
        """,
        *both(turns),
    )


def test_several_user_messages_in_one_turn_are_each_reported(watch: Watch):
    def turns(config: Config, ask: Any) -> Any:
        graph = chat(InMemorySaver(), model("Hello."))
        given = [HumanMessage("Hi.", id="h1"), HumanMessage("Are you there?", id="h2")]
        return ask(graph, {"messages": given}, own(config))["messages"][-1].text

    watch(
        """
        conversation c-1 of anonymous
        user_message   "Hi."
        user_message   "Are you there?"
        chain_start    chat
          task         model
            llm        gpt-4o-mini 10>5 $
          final_response "Hello."
          chain_end    completed
        """,
        *both(turns),
    )


def test_a_system_message_in_a_later_turn_is_reported(watch: Watch):
    def turns(config: Config, ask: Any) -> Any:
        graph = chat(InMemorySaver(), model("Hello.", "Bonjour."))
        ask(graph, {"messages": [HumanMessage("Hi.", id="h1")]}, own(config))
        given = [HumanMessage("In French, please.", id="h2"), SystemMessage("Speak French from now on.", id="s1")]
        return ask(graph, {"messages": given}, own(config))["messages"][-1].text

    traced = watch(
        """
        conversation c-1 of anonymous
        user_message   "Hi."
        chain_start    chat
          task         model
            llm        gpt-4o-mini 10>5 $
          final_response "Hello."
          chain_end    completed
        user_message   "In French, please."
        system_message "Speak French from now on."
        chain_start    chat
          task         model
            llm        gpt-4o-mini 10>5 $
          final_response "Bonjour."
          chain_end    completed
        """,
        *both(turns),
    )
    assert len(traced.of_type("system_message")) == 1


def test_a_history_from_before_gati_is_imported_once(watch: Watch):
    def turns(config: Config, ask: Any) -> Any:
        graph = chat(speaker=model("Fine.", "Sunny."))
        history: list[Any] = [("user", "Hello."), ("assistant", "Hello, who are you?"), ("user", "I am Ada. And you?")]
        identity_of = {**config, "metadata": {"conversation_id": "c-1"}}
        first = ask(graph, {"messages": history}, identity_of)["messages"][-1].text
        history += [("assistant", first), ("user", "How is Oslo?")]
        return ask(graph, {"messages": history}, identity_of)["messages"][-1].text

    watch(
        """
        conversation c-1 of anonymous
        user_message   "Hello." imported
        assistant_message "Hello, who are you?" imported
        user_message   "I am Ada. And you?"
        chain_start    chat
          task         model
            llm        gpt-4o-mini 10>5 $
          final_response "Fine."
          chain_end    completed
        user_message   "How is Oslo?"
        chain_start    chat
          task         model
            llm        gpt-4o-mini 10>5 $
          final_response "Sunny."
          chain_end    completed
        """,
        *both(turns),
        import_history=True,
    )


def test_a_checkpointed_thread_continues_in_another_process(watch: Watch):
    """Another process delivered the earlier turns. Nothing of them is delivered again."""

    def unseen(config: Config) -> Any:
        graph = chat(InMemorySaver(), model("Hello.", "Sunny."))
        with observe.paused():
            graph.invoke({"messages": [("user", "Hello?")]}, own({}))
        return graph.invoke({"messages": [("user", "How is Oslo?")]}, own(config))["messages"][-1].text

    watch(
        """
        conversation c-1 of anonymous
        user_message   "How is Oslo?"
        chain_start    chat
          task         model
            llm        gpt-4o-mini 10>5 $
          final_response "Sunny."
          chain_end    completed
        """,
        unseen,
    )
