"""A human in the loop: the question is kept, the decision is told once, and nothing of it is an error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from gati._runtime import runtime
from tests.optional import create_agent, middleware
from tests.scenarios.harness import Config, Program, Watch
from tests.scenarios.scripts import asks, call, model

ASKED = {"messages": [HumanMessage("Draw a cat.", id="h1")]}


def turns(make: Any, *inputs: Any, only: str = "invoke ainvoke stream") -> list[Program]:
    """Programs that run each input in one thread, one after the other."""

    def own(config: Config) -> Config:
        return {**config, "configurable": {"thread_id": "c-1"}}

    def given(graph: Any, one: Any, config: Config) -> Any:
        return one(graph, own(config)) if callable(one) else one

    def last(state: Any) -> Any:
        return state["messages"][-1].text if state.get("messages") else state

    def invoke(config: Config) -> Any:
        graph = make()
        return [last(graph.invoke(given(graph, one, config), own(config))) for one in inputs]

    async def ainvoke(config: Config) -> Any:
        graph = make()
        return [last(await graph.ainvoke(given(graph, one, config), own(config))) for one in inputs]

    def stream(config: Config) -> Any:
        graph = make()
        return [len(list(graph.stream(given(graph, one, config), own(config)))) for one in inputs]

    return [program for program in (invoke, ainvoke, stream) if program.__name__ in only.split()]


def painter(*questions: Any) -> Any:
    """A graph that asks these questions, one after the other, in one node."""

    def draw(state: MessagesState) -> dict[str, Any]:
        answers = [interrupt(question) for question in questions]
        return {"messages": [AIMessage(f"A cat: {answers}.", id="a1")]}

    builder = StateGraph(MessagesState)
    builder.add_node("draw", draw)
    builder.add_edge(START, "draw")
    return builder.compile(name="painter", checkpointer=InMemorySaver())


def test_a_question_in_a_node_and_its_answer_are_words(watch: Watch):
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


def test_a_graph_that_is_resumed_twice(watch: Watch):
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


def test_a_question_that_is_data_is_no_text(watch: Watch):
    watch(
        """
        conversation c-1 of anonymous
        user_message   "Draw a cat."
        chain_start    painter
          task         draw waiting
          callback     interrupt waiting {"value":{"choose":["red","blue"]},"id":"~"}
          chain_end    waiting
        chain_start    painter
          callback     resume resumed {"value":{"colour":"blue"}}
          task         draw
          final_response "A cat: [{'colour': 'blue'}]."
          chain_end    completed
        """,
        *turns(lambda: painter({"choose": ["red", "blue"]}), ASKED, Command(resume={"colour": "blue"})),
    )


def test_a_refusal_is_a_decision_too(watch: Watch):
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
    """A graph whose parallel nodes each ask a question."""

    def asking(name: str) -> Any:
        return lambda state: {"messages": [AIMessage(f"{name}: {interrupt(f'Which {name}?')}", id=name)]}

    builder = StateGraph(MessagesState)
    for name in names:
        builder.add_node(name, asking(name))
        builder.add_edge(START, name)
    return builder.compile(name="pair", checkpointer=InMemorySaver())


def test_several_questions_at_once_are_answered_by_their_ids(watch: Watch):
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
          task         colour
          task         size
          final_response "size: big"
          chain_end    completed
        """,
        *turns(lambda: pair("colour", "size"), ASKED, answers, only="invoke"),
        unordered=True,
    )


def test_one_question_of_two_is_answered_and_the_other_waits(watch: Watch):
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
          task         colour
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


def test_a_question_in_a_tool(watch: Watch):
    def shop() -> Any:
        @tool
        def buy(item: str) -> str:
            """Buy something."""
            return f"bought {item}" if interrupt(f"Really buy {item}?") == "yes" else "nothing bought"

        return create_agent(
            model(asks(call("buy", item="a bike")), "It is yours."), [buy], checkpointer=InMemorySaver(), name="shop"
        )

    seen = watch(
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
    first, second = seen.of("tool_call")
    assert first["properties"]["tool_call_id"] == second["properties"]["tool_call_id"] == "c1"
    assert first["properties"]["requested_by"] == second["properties"]["requested_by"]


# -- approvals of middleware ------------------------------------------------------------------------


@tool
def delete(path: str) -> str:
    """Delete a file."""
    return f"deleted {path}"


def keeper(*replies: Any) -> Any:
    """An agent that may delete files only when a human says so."""
    return create_agent(
        model(*(replies or (asks(call("delete", path="/a")), "Done."))),
        [delete],
        middleware=[middleware("HumanInTheLoopMiddleware", {"delete": True}, description_prefix="May I?")],
        checkpointer=InMemorySaver(),
        name="keeper",
    )


WAITING = """
        conversation c-1 of anonymous
        user_message   "Draw a cat."
        chain_start    keeper
          task         model
            llm        gpt-4o-mini 10>5 $ calls=delete
          task         HumanInTheLoopMiddleware.after_model waiting
          callback     interrupt waiting {"value":{"action_requests":[{"name":"delete","args":{"path":"/a"},\
"description":"May I?\\n\\nTool: delete\\nArgs: {'path': '/a'}"}],"review_configs":[{"action_name":"delete",\
"allowed_decisions":["approve","edit","reject","respond"]}]},"id":"~"}
          chain_end    waiting
"""


def decided(decision: dict[str, Any]) -> Command[Any]:
    return Command(resume={"decisions": [decision]})


def test_an_approval(watch: Watch):
    watch(
        WAITING
        + """\
        chain_start    keeper
          callback     resume resumed {"value":{"decisions":[{"type":"approve"}]}}
          task         HumanInTheLoopMiddleware.after_model
          task         tools
            tool_call  delete {"path":"/a"}
              observation {"output":"deleted /a"}
          task         model
            llm        gpt-4o-mini 10>5 $
          task         HumanInTheLoopMiddleware.after_model
          final_response "Done."
          chain_end    completed
        """,
        *turns(keeper, ASKED, decided({"type": "approve"})),
    )


def test_an_edit(watch: Watch):
    edit = {"type": "edit", "edited_action": {"name": "delete", "args": {"path": "/b"}}}
    watch(
        WAITING
        + """\
        chain_start    keeper
          callback     resume resumed {"value":{"decisions":[{"type":"edit","edited_action":{"name":"delete",\
"args":{"path":"/b"}}}]}}
          task         HumanInTheLoopMiddleware.after_model => {"hitl_edited_tool_calls":{"c1":{"name":"delete",\
"args":{"path":"/b"}}}}
          task         tools
            tool_call  delete {"path":"/b"}
              observation {"output":"deleted /b"}
          task         model
            llm        gpt-4o-mini 10>5 $
          task         HumanInTheLoopMiddleware.after_model
          final_response "Done."
          chain_end    completed
        """,
        *turns(keeper, ASKED, decided(edit), only="invoke ainvoke"),
    )


def test_a_rejection_is_visible_as_a_call_that_was_not_run(watch: Watch):
    seen = watch(
        WAITING
        + """\
        chain_start    keeper
          callback     resume resumed {"value":{"decisions":[{"type":"reject","message":"Too risky."}]}}
          tool_call    delete {"path":"/a"}
            tool_error ToolNotRun: User rejected the tool call for `delete` with reason: Too risky. handled
          task         HumanInTheLoopMiddleware.after_model
          task         model
            llm        gpt-4o-mini 10>5 $
          task         HumanInTheLoopMiddleware.after_model
          final_response "Done."
          chain_end    completed
        """,
        *turns(keeper, ASKED, decided({"type": "reject", "message": "Too risky."}), only="invoke ainvoke"),
    )
    (called,) = seen.of("tool_call")
    assert called["properties"]["requested_by"] == seen.of("llm")[0]["externalMessageId"]


def test_an_answer_of_the_human_in_the_tools_place(watch: Watch):
    watch(
        WAITING
        + """\
        chain_start    keeper
          callback     resume resumed {"value":{"decisions":[{"type":"respond","message":"It is gone already."}]}}
          tool_call    delete {"path":"/a"}
            observation {"output":"It is gone already."}
          task         HumanInTheLoopMiddleware.after_model
          task         model
            llm        gpt-4o-mini 10>5 $
          task         HumanInTheLoopMiddleware.after_model
          final_response "Done."
          chain_end    completed
        """,
        *turns(keeper, ASKED, decided({"type": "respond", "message": "It is gone already."}), only="invoke ainvoke"),
    )


# -- static interrupts --------------------------------------------------------------------------------


def careful(**when: Any) -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("think", lambda s: {"messages": [model("I shall draw.").invoke(s["messages"])]})
    builder.add_node("draw", lambda s: {"messages": [AIMessage("A cat.", id="a2")]})
    builder.add_edge(START, "think")
    builder.add_edge("think", "draw")
    return builder.compile(name="careful", checkpointer=InMemorySaver(), **when)


@pytest.mark.parametrize("when", [{"interrupt_before": ["draw"]}, {"interrupt_after": ["think"]}])
def test_a_static_interrupt_pauses_the_turn(watch: Watch, when: dict[str, Any]):
    """LangGraph tells of it only handlers that were handed to it; an injected one sees a turn that ends."""
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


def test_a_pause_before_the_tools_waits(watch: Watch):
    """Requests that nobody answered tell of the pause to every handler."""

    def shop() -> Any:
        return create_agent(
            model(asks(call("delete", path="/a")), "Done."),
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


# -- another process ----------------------------------------------------------------------------------

RESUMES = """
import sys
sys.path[:0] = [{root!r}]
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command
from gati import observe
from tests.scenarios.test_interrupts import keeper_with, thread

if {traced!r}:
    observe.init(api_key={key!r}, base_url={url!r}, product_id={product!r}, agent_name="agent")
with SqliteSaver.from_conn_string({path!r}) as saver:
    state = keeper_with(saver, "Done.").invoke(Command(resume={{"decisions": [{decision!r}]}}), thread)
    print(state["messages"][-1].text)
observe.flush(20)
observe.shutdown(20)
"""

thread = {"configurable": {"thread_id": "c-1"}}


def keeper_with(saver: Any, *replies: Any) -> Any:
    return create_agent(
        model(*replies), [delete], middleware=[middleware("HumanInTheLoopMiddleware", {"delete": True}, description_prefix="May I?")],
        checkpointer=saver, name="keeper",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("decision", "told"),
    [
        (
            {"type": "approve"},
            """\
          task         HumanInTheLoopMiddleware.after_model
          task         tools
            tool_call  delete {"path":"/a"}
              observation {"output":"deleted /a"}
""",
        ),
        (
            {"type": "reject", "message": "No."},
            """\
          tool_call    delete {"path":"/a"}
            tool_error ToolNotRun: User rejected the tool call for `delete` with reason: No. handled
          task         HumanInTheLoopMiddleware.after_model
""",
        ),
        (
            {"type": "respond", "message": "Gone."},
            """\
          tool_call    delete {"path":"/a"}
            observation {"output":"Gone."}
          task         HumanInTheLoopMiddleware.after_model
""",
        ),
    ],
    ids=["approve", "reject", "respond"],
)
def test_a_resume_in_another_process_is_the_same_conversation(
    watch: Watch, tmp_path: Path, decision: dict[str, Any], told: str
):
    from langgraph.checkpoint.sqlite import SqliteSaver

    def program(config: Config) -> Any:
        path = str(tmp_path / f"{os.urandom(4).hex()}.db")
        with SqliteSaver.from_conn_string(path) as saver:
            keeper_with(saver, asks(call("delete", path="/a"))).invoke(ASKED, {**config, **thread})
        settings = runtime.settings if runtime.pipeline is not None else None
        script = RESUMES.format(
            root=str(Path(__file__).parents[2]), traced=settings is not None, key=watch.server.api_key,
            url=watch.server.url, product=settings and settings.product_id, path=path, decision=decision,
        )  # fmt: skip
        if settings is not None:
            runtime.pipeline.flush(20)  # type: ignore[union-attr]  # it is there, see above
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    (kind,) = {decision["type"]}
    message = f',"message":"{decision["message"]}"' if "message" in decision else ""
    watch(
        WAITING
        + f"""\
        chain_start    keeper
          callback     resume resumed {{"value":{{"decisions":[{{"type":"{kind}"{message}}}]}}}}
{told}\
          task         model
            llm        gpt-4o-mini 10>5 $
          task         HumanInTheLoopMiddleware.after_model
          final_response "Done."
          chain_end    completed
        """,
        program,
        explicit=False,
        compare=kind == "approve",  # each run starts a process
    )


# -- what only looks like control flow ------------------------------------------------------------------


def test_an_error_of_the_users_that_is_named_like_an_interrupt_stays_an_error(watch: Watch):
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
