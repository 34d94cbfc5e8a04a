"""Human in the loop: the question and the decision are recorded once, and neither is an error."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from gati.testing import capture
from tests.optional import create_agent, import_optional, requires_static_interrupts
from tests.scenarios.harness import Config, Watch
from tests.scenarios.reading import READERS, answers, asked
from tests.scenarios.scripts import ASKED, call, delete, model, tool_request, turns


def painter(*questions: Any) -> Any:
    """Return a graph whose only node asks these questions in order."""

    def draw(state: MessagesState) -> dict[str, Any]:
        answers = [interrupt(question) for question in questions]
        return {"messages": [AIMessage(f"A cat: {answers}.", id="a1")]}

    builder = StateGraph(MessagesState)
    builder.add_node("draw", draw)
    builder.add_edge(START, "draw")
    return builder.compile(name="painter", checkpointer=InMemorySaver())


def test_a_question_asked_by_a_node_and_its_answer_are_messages(watch: Watch):
    watch(
        """
        conversation c-1 of anonymous
        user_message   "Draw a cat."
        chain_start    painter
          task         draw waiting
          assistant_message "What colour?" waiting
          chain_end    waiting
        user_message   "red" resumed
        chain_start    painter
          task         draw
          final_response "A cat: ['red']."
          chain_end    completed
        """,
        *turns(lambda: painter("What colour?"), ASKED, Command(resume="red")),
    )


def test_a_graph_can_be_resumed_twice(watch: Watch):
    watch(
        """
        conversation c-1 of anonymous
        user_message   "Draw a cat."
        chain_start    painter
          task         draw waiting
          assistant_message "What colour?" waiting
          chain_end    waiting
        user_message   "red" resumed
        chain_start    painter
          task         draw waiting
          assistant_message "How big?" waiting
          chain_end    waiting
        user_message   "small" resumed
        chain_start    painter
          task         draw
          final_response "A cat: ['red', 'small']."
          chain_end    completed
        """,
        *turns(lambda: painter("What colour?", "How big?"), ASKED, Command(resume="red"), Command(resume="small")),
    )


def test_an_interrupt_whose_data_has_no_text_is_not_a_message_and_a_reply_with_one_text_is(watch: Watch):
    watch(
        """
        conversation c-1 of anonymous
        user_message   "Draw a cat."
        chain_start    painter
          task         draw waiting
          callback     interrupt waiting {"value":{"choose":["red","blue"]},"id":"~"}
          chain_end    waiting
        user_message   "blue" resumed
        chain_start    painter
          callback     resume resumed {"value":{"colour":"blue"}}
          task         draw
          final_response "A cat: [{'colour': 'blue'}]."
          chain_end    completed
        """,
        *turns(lambda: painter({"choose": ["red", "blue"]}), ASKED, Command(resume={"colour": "blue"})),
    )


def test_a_false_resume_value_is_a_decision(watch: Watch):
    watch(
        """
        conversation c-1 of anonymous
        user_message   "Draw a cat."
        chain_start    painter
          task         draw waiting
          assistant_message "May I?" waiting
          chain_end    waiting
        chain_start    painter
          callback     resume resumed {"value":false}
          task         draw
          final_response "A cat: [False]."
          chain_end    completed
        """,
        *turns(lambda: painter("May I?"), ASKED, Command(resume=False), only="invoke ainvoke"),
    )


def pair(*names: str) -> Any:
    """Return a graph whose parallel nodes each ask a question."""

    def asking(name: str) -> Any:
        return lambda state: {"messages": [AIMessage(f"{name}: {interrupt(f'Which {name}?')}", id=name)]}

    builder = StateGraph(MessagesState)
    for name in names:
        builder.add_node(name, asking(name))
        builder.add_edge(START, name)
    return builder.compile(name="pair", checkpointer=InMemorySaver())


def test_simultaneous_questions_are_answered_by_id(watch: Watch):
    def answers(graph: Any, config: Config) -> Any:
        asked = graph.get_state(config).interrupts
        return Command(resume={one.id: "big" if "size" in one.value else "red" for one in asked})

    watch(
        """
        conversation c-1 of anonymous
        user_message   "Draw a cat."
        chain_start    pair
          task         colour waiting
          task         size waiting
          assistant_message "Which colour?\\n\\nWhich size?" waiting
          chain_end    waiting
        user_message   "red" resumed
        user_message   "big" resumed
        chain_start    pair
          task         colour => {"messages":[{"role":"ai","content":"colour: red"}]}
          task         size
          final_response "size: big"
          chain_end    completed
        """,
        *turns(lambda: pair("colour", "size"), ASKED, answers, only="invoke"),
        unordered=True,
    )


def test_one_of_two_questions_may_stay_open(watch: Watch):
    def answer(graph: Any, config: Config) -> Any:
        first = next(one for one in graph.get_state(config).interrupts if "colour" in one.value)
        return Command(resume={first.id: "red"})

    def other(graph: Any, config: Config) -> Any:
        return Command(resume="big")

    watch(
        """
        conversation c-1 of anonymous
        user_message   "Draw a cat."
        chain_start    pair
          task         colour waiting
          task         size waiting
          assistant_message "Which colour?\\n\\nWhich size?" waiting
          chain_end    waiting
        user_message   "red" resumed
        chain_start    pair
          task         colour => {"messages":[{"role":"ai","content":"colour: red"}]}
          task         size waiting
          assistant_message "Which size?" waiting
          chain_end    waiting
        user_message   "big" resumed
        chain_start    pair
          task         size
          final_response "size: big"
          chain_end    completed
        """,
        *turns(lambda: pair("colour", "size"), ASKED, answer, other, only="invoke"),
        unordered=True,
    )


def test_a_question_in_a_subgraph_is_asked_once(watch: Watch):
    def studio() -> Any:
        inner = StateGraph(MessagesState)
        inner.add_node("mix", lambda s: {"messages": [AIMessage(f"A {interrupt('What colour?')} cat.", id="a1")]})
        inner.add_edge(START, "mix")
        builder = StateGraph(MessagesState)
        builder.add_node("paint", inner.compile(name="colours"))
        builder.add_edge(START, "paint")
        return builder.compile(name="studio", checkpointer=InMemorySaver())

    watch(
        """
        conversation c-1 of anonymous
        user_message   "Draw a cat."
        chain_start    studio
          task         paint waiting
            workflow   colours waiting
              task     mix waiting
          assistant_message "What colour?" waiting
          chain_end    waiting
        user_message   "red" resumed
        chain_start    studio
          task         paint
            workflow   colours
              task     mix
          final_response "A red cat."
          chain_end    completed
        """,
        *turns(studio, ASKED, Command(resume="red")),
    )


def test_a_tool_can_ask_a_question(watch: Watch):
    def shop() -> Any:
        @tool
        def buy(item: str) -> str:
            """Buy something."""
            return f"bought {item}" if interrupt(f"Really buy {item}?") == "yes" else "nothing bought"

        return create_agent(
            model(tool_request(call("buy", item="a bike")), "It is yours."),
            [buy],
            checkpointer=InMemorySaver(),
            name="shop",
        )

    traced = watch(
        """
        conversation c-1 of anonymous
        user_message   "Draw a cat."
        chain_start    shop
          task         model
            llm        gpt-4o-mini 10>5 $ calls=buy
          task         tools waiting
            tool_call  buy {"item":"a bike"} waiting
          assistant_message "Really buy a bike?" waiting
          chain_end    waiting
        user_message   "yes" resumed
        chain_start    shop
          task         tools
            tool_call  buy {"item":"a bike"}
              observation {"output":"bought a bike"}
          task         model
            llm        gpt-4o-mini 10>5 $
          final_response "It is yours."
          chain_end    completed
        """,
        *turns(shop, ASKED, Command(resume="yes")),
    )
    first, second = traced.of_type("tool_call")
    assert first["properties"]["tool_call_id"] == second["properties"]["tool_call_id"] == "c1"
    assert first["properties"]["requested_by"] == second["properties"]["requested_by"]


# -- static interrupts --------------------------------------------------------------------------------


def careful(**when: Any) -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("think", lambda s: {"messages": [model("I shall draw.").invoke(s["messages"])]})
    builder.add_node("draw", lambda s: {"messages": [AIMessage("A cat.", id="a2")]})
    builder.add_edge(START, "think")
    builder.add_edge("think", "draw")
    return builder.compile(name="careful", checkpointer=InMemorySaver(), **when)


@requires_static_interrupts
@pytest.mark.parametrize("when", [{"interrupt_before": ["draw"]}, {"interrupt_after": ["think"]}])
def test_a_static_interrupt_pauses_the_turn(watch: Watch, when: dict[str, Any]):
    """LangGraph reports static interrupts to explicit handlers only. An injected handler sees a turn that ends."""
    resumed = """\
        chain_start    careful
          callback     resume resumed {"value":null}
          task         draw
          final_response "A cat."
          chain_end    completed
        """
    watch(
        """
        conversation c-1 of anonymous
        user_message   "Draw a cat."
        chain_start    careful
          task         think
            llm        gpt-4o-mini 10>5 $
          final_response "I shall draw."
          chain_end    completed
"""
        + resumed,
        *turns(lambda: careful(**when), ASKED, None),
        explicit=f"""
        conversation c-1 of anonymous
        user_message   "Draw a cat."
        chain_start    careful
          task         think
            llm        gpt-4o-mini 10>5 $
          callback     interrupt waiting {{"value":{{"paused":"{next(iter(when))}"}}}}
          assistant_message "I shall draw." waiting
          chain_end    waiting
"""
        + resumed,
    )


@requires_static_interrupts
def test_a_pause_before_the_tools_leaves_the_turn_waiting(watch: Watch):
    """Unanswered tool calls reveal the pause to every handler."""

    def shop() -> Any:
        return create_agent(
            model(tool_request(call("delete", path="/a")), "Done."),
            [delete],
            checkpointer=InMemorySaver(),
            interrupt_before=["tools"],
            name="shop",
        )

    head = """
        conversation c-1 of anonymous
        user_message   "Draw a cat."
        chain_start    shop
          task         model
            llm        gpt-4o-mini 10>5 $ calls=delete
"""
    tail = """\
          chain_end    waiting
        chain_start    shop
          callback     resume resumed {"value":null}
          task         tools
            tool_call  delete {"path":"/a"}
              observation {"output":"deleted /a"}
          task         model
            llm        gpt-4o-mini 10>5 $
          final_response "Done."
          chain_end    completed
        """
    watch(
        head + tail,
        *turns(shop, ASKED, None),
        explicit=head + '          callback     interrupt waiting {"value":{"paused":"interrupt_before"}}\n' + tail,
    )


def confirming(text: str, node_says_it: bool) -> Any:
    """Return a graph that pauses after a request for a tool, beside which a node or its model says something."""
    request = tool_request(call("delete", path="/a"), text="" if node_says_it else text)
    writer = model(request, "Done.")

    def confirm(state: MessagesState) -> dict[str, Any]:
        requested = state["messages"][-1]
        return {"messages": [AIMessage(text, tool_calls=requested.tool_calls)]} if node_says_it else {}

    builder = StateGraph(MessagesState)
    builder.add_node("think", lambda state: {"messages": [writer.invoke(state["messages"])]})
    builder.add_node("confirm", confirm)
    builder.add_node("delete", lambda state: {"messages": [AIMessage("Deleted.")]})
    for start, end in itertools.pairwise([START, "think", "confirm", "delete"]):
        builder.add_edge(start, end)
    return builder.compile(checkpointer=InMemorySaver(), interrupt_after=["confirm"])


@READERS
@pytest.mark.parametrize("node_says_it", [True, False])
def test_what_a_node_says_beside_its_request_is_said_to_the_person_but_what_a_model_says_is_a_thought(
    read: Callable[[Any, Any], None], node_says_it: bool
) -> None:
    text = "Please confirm that I may delete it."
    told = answers(read, confirming(text, node_says_it), asked("Delete it."), None)
    assert told == ([text] if node_says_it else []) + ["Deleted."]


# -- errors that look like control flow -----------------------------------------------------------------


def test_an_application_error_named_like_an_interrupt_is_an_error(watch: Watch):
    class GraphInterrupt(Exception):
        pass

    def graph() -> Any:
        def broken(state: MessagesState) -> dict[str, Any]:
            raise GraphInterrupt("out of ink")

        builder = StateGraph(MessagesState)
        builder.add_node("draw", broken)
        builder.add_edge(START, "draw")
        return builder.compile(name="painter", checkpointer=InMemorySaver())

    watch(
        """
        conversation c-1 of anonymous
        user_message   "Draw a cat."
        chain_start    painter
          task         draw error GraphInterrupt: out of ink
          chain_end    error GraphInterrupt: out of ink
        """,
        *turns(graph, ASKED, only="invoke ainvoke"),
    )


@pytest.mark.parametrize("nested", [False, True], ids=["graph", "subgraph"])
def test_a_drained_graph_waits_and_goes_on_later(watch: Watch, nested: bool):
    drained = import_optional("langgraph.errors", "GraphDrained")
    new_control = import_optional("langgraph.runtime", "RunControl")

    def program(config: Config) -> Any:
        control = new_control()

        def first(state: MessagesState) -> Config:
            control.request_drain("deploy")
            return {}

        def second(state: MessagesState) -> Config:
            return {"messages": [model("The answer.").invoke(state["messages"])]}

        builder = StateGraph(MessagesState).add_node("first", first).add_node("second", second)
        builder.add_edge(START, "first").add_edge("first", "second")
        made: Any = builder.compile(checkpointer=None if nested else InMemorySaver())
        if nested:
            outer = StateGraph(MessagesState).add_node("inner", made).add_edge(START, "inner")
            made = outer.compile(checkpointer=InMemorySaver())
        own = {**config, "configurable": {"thread_id": "c-1"}}
        with pytest.raises(drained):
            made.invoke(ASKED, own, control=control)
        return made.invoke(None, own)["messages"][-1].text

    inside = (
        """
          task         inner waiting
            workflow   LangGraph waiting
              task     first
          callback     interrupt waiting {"value":{"paused":"drained","reason":"deploy"}}
          chain_end    waiting
        chain_start    LangGraph
          callback     resume resumed {"value":null}
          task         inner
            workflow   LangGraph
              task     second
                llm    gpt-4o-mini 10>5 $
          final_response "The answer."
          chain_end    completed
        """
        if nested
        else """
          task         first
          callback     interrupt waiting {"value":{"paused":"drained","reason":"deploy"}}
          chain_end    waiting
        chain_start    LangGraph
          callback     resume resumed {"value":null}
          task         second
            llm        gpt-4o-mini 10>5 $
          final_response "The answer."
          chain_end    completed
        """
    )
    watch(
        """
        conversation c-1 of anonymous
        user_message   "Draw a cat."
        chain_start    LangGraph
        """.rstrip()
        + inside,
        program,
    )


@pytest.mark.parametrize("paused", [1, 2])
@pytest.mark.parametrize(
    ("payload", "asked"),
    [
        ({"question": "{words}", "instruction": "May I answer this?"}, ["May I answer this?"]),
        ({"type": "approval", "question": " {words}\n", "instruction": "May I?", "reason": "It asks a model."}, []),
        ({"query": "{words}"}, []),
        ({"question": "May I answer this?", "input": "{words}"}, ["May I answer this?"]),
        ("{words}", ["What is a cat?"]),
    ],
)
def test_the_words_of_the_person_in_an_interrupt_are_no_question_to_the_person(
    payload: Any, asked: list[str], paused: int
) -> None:
    def node(state: MessagesState) -> Any:
        words = state["messages"][-1].text
        is_text = isinstance(payload, str)
        shown = words if is_text else {key: text.replace("{words}", words) for key, text in payload.items()}
        for _ in range(paused):
            interrupt(shown)
        return {"messages": [AIMessage("An animal.")]}

    builder = StateGraph(MessagesState).add_node("node", node).add_edge(START, "node")
    graph = builder.compile(checkpointer=InMemorySaver())
    with capture() as captured:
        for given in ({"messages": [("user", "What is a cat?")]}, *[Command(resume=True)] * paused):
            graph.invoke(given, {"configurable": {"thread_id": "t"}})
    assert captured.transcript() == [
        ("user", "What is a cat?"), *[("assistant", text) for text in asked * paused], ("assistant", "An animal."),
    ]  # fmt: skip
