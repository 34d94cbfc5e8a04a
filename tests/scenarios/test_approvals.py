"""Approvals by middleware: the decision is recorded, in the same process or in another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from gati._api.runtime import runtime
from gati.testing import capture
from tests.optional import create_agent, import_optional, middleware
from tests.scenarios.harness import Config, Watch
from tests.scenarios.reading import THREAD, asked
from tests.scenarios.scripts import ASKED, call, delete, model, tool_request, turns


def keeper(*replies: Any) -> Any:
    """Return an agent that may delete files only after approval."""
    return create_agent(
        model(*(replies or (tool_request(call("delete", path="/a")), "Done."))),
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


def test_an_approved_tool_call_runs(watch: Watch):
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


def test_an_edited_tool_call_runs_with_the_new_arguments(watch: Watch):
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


def test_a_rejected_tool_call_is_reported_as_not_run(watch: Watch):
    traced = watch(
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
    (called,) = traced.of_type("tool_call")
    assert [end["properties"]["tool_calls"] for end in traced.of_type("chain_end")] == [0, 1]
    assert called["properties"]["requested_by"] == traced.of_type("llm")[0]["externalMessageId"]


def test_a_human_can_answer_in_place_of_the_tool(watch: Watch):
    watch(
        WAITING
        + """\
        user_message   "It is gone already." resumed
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


@pytest.mark.parametrize(("goes_on", "status"), [(False, "completed"), (True, "waiting")])
def test_an_agent_that_ends_on_a_decision_about_its_request_waits_only_for_a_new_request(
    goes_on: bool, status: str
) -> None:
    def review(state: MessagesState) -> Any:
        is_new = len(state["messages"]) > 2
        return Command(goto="think" if not is_new and interrupt({"action": "delete"}) == "reject" and goes_on else END)

    writer = model(tool_request(call("delete", path="/a")), tool_request(call("delete", path="/b")))
    builder = StateGraph(MessagesState)
    builder.add_node("think", lambda state: {"messages": [writer.invoke(state["messages"])]})
    builder.add_node("review", review, destinations=("think", END))
    builder.add_edge(START, "think")
    builder.add_edge("think", "review")
    graph = builder.compile(checkpointer=InMemorySaver())
    with capture() as captured:
        for value in (asked("Delete it."), Command(resume="reject")):
            graph.invoke(value, THREAD)
    assert [turn.status for turn in captured.turns] == ["waiting", status]


# -- another process ----------------------------------------------------------------------------------

RESUMES = """
import sys
sys.path[:0] = [{root!r}]
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command
from gati import observe
from tests.scenarios.test_approvals import keeper_with, thread

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
    ("decision", "expected"),
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
    watch: Watch, tmp_path: Path, decision: dict[str, Any], expected: str
):
    SqliteSaver = import_optional("langgraph.checkpoint.sqlite", "SqliteSaver")  # noqa: N806  a class

    def program(config: Config) -> Any:
        path = str(tmp_path / f"{os.urandom(4).hex()}.db")
        with SqliteSaver.from_conn_string(path) as saver:
            keeper_with(saver, tool_request(call("delete", path="/a"))).invoke(ASKED, {**config, **thread})
        settings = runtime.settings if runtime.pipeline is not None else None
        script = RESUMES.format(
            root=str(Path(__file__).parents[2]), traced=settings is not None, key=watch.server.api_key,
            url=watch.server.url, product=settings and settings.product_id, path=path, decision=decision,
        )  # fmt: skip
        if settings is not None:
            runtime.pipeline.flush(20)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    (kind,) = {decision["type"]}
    message = f',"message":"{decision["message"]}"' if "message" in decision else ""
    words = '        user_message   "Gone." resumed\n' if kind == "respond" else ""
    watch(
        WAITING
        + f"""\
{words}\
        chain_start    keeper
          callback     resume resumed {{"value":{{"decisions":[{{"type":"{kind}"{message}}}]}}}}
{expected}\
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
