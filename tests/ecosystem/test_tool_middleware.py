"""Middleware of langchain around tools: what ran, what was blocked, and what people decided."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    FilesystemFileSearchMiddleware,
    HostExecutionPolicy,
    HumanInTheLoopMiddleware,
    LLMToolEmulator,
    ShellToolMiddleware,
    TodoListMiddleware,
    ToolCallLimitMiddleware,
    ToolRetryMiddleware,
)
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from tests.ecosystem.deciders import decider
from tests.optional import middleware
from tests.scenarios.harness import Watch, each_method
from tests.scenarios.scripts import call, delete, model, tool_request, turns, weather

ASKED = {"messages": [HumanMessage("Tidy up.", id="h1")]}
BOTH = "invoke ainvoke"
DELETE = tool_request(call("delete", path="/a"))


@tool
def shaky(path: str) -> str:
    """Fail."""
    raise ConnectionError("gone")


def test_a_person_approves_and_rejects_calls(watch: Watch):
    """The first call is rejected with a reason, the second one approved."""

    def make() -> Any:
        both = tool_request(call("delete", "c1", path="/a"), call("delete", "c2", path="/b"))
        return create_agent(
            model(both, "I deleted /b."),
            [delete],
            middleware=[HumanInTheLoopMiddleware({"delete": True}, description_prefix="May I?")],
            checkpointer=InMemorySaver(),
            name="keeper",
        )

    decisions = [{"type": "reject", "message": "Keep it."}, {"type": "approve"}]
    watch(
        """
        conversation c-1 of anonymous
        user_message   "Tidy up."
        chain_start    keeper
          task         model
            llm        gpt-4o-mini 10>5 $ calls=delete,delete
          task         HumanInTheLoopMiddleware.after_model waiting
          callback     interrupt waiting {"value":{"action_requests":[{"name":"delete","args":{"path":"/a"},"description":"May I?\\n\\nTool: delete\\nArgs: {'path': '/a'}"},{"name":"delete","args":{"path":"/b"},"description":"May I?\\n\\nTool: delete\\nArgs: {'path': '/b'}"}],"review_configs":[{"action_name":"delete","allowed_decisions":["approve","edit","reject","respond"]},{"action_name":"delete","allowed_decisions":["approve","edit","reject","respond"]}]},"id":"~"}
          chain_end    waiting
        chain_start    keeper
          callback     resume resumed {"value":{"decisions":[{"type":"reject","message":"Keep it."},{"type":"approve"}]}}
          tool_call    delete {"path":"/a"}
            tool_error ToolNotRun: User rejected the tool call for `delete` with reason: Keep it. handled
          task         HumanInTheLoopMiddleware.after_model
          task         tools
            tool_call  delete {"path":"/b"}
              observation {"output":"deleted /b"}
          task         model
            llm        gpt-4o-mini 10>5 $
          task         HumanInTheLoopMiddleware.after_model
          final_response "I deleted /b."
          chain_end    completed
        """,
        *turns(make, ASKED, Command(resume={"decisions": decisions}), only=BOTH),
    )


@pytest.mark.slow
def test_an_edited_call_runs_as_the_person_wrote_it(watch: Watch):
    def make() -> Any:
        return create_agent(
            model(DELETE, "Done."),
            [delete],
            middleware=[HumanInTheLoopMiddleware({"delete": True}, description_prefix="May I?")],
            checkpointer=InMemorySaver(),
        )

    decision = {"type": "edit", "edited_action": {"name": "delete", "args": {"path": "/tmp"}}}
    watch(
        """
        conversation c-1 of anonymous
        user_message   "Tidy up."
        chain_start    LangGraph
          task         model
            llm        gpt-4o-mini 10>5 $ calls=delete
          task         HumanInTheLoopMiddleware.after_model waiting
          callback     interrupt waiting {"value":{"action_requests":[{"name":"delete","args":{"path":"/a"},"description":"May I?\\n\\nTool: delete\\nArgs: {'path': '/a'}"}],"review_configs":[{"action_name":"delete","allowed_decisions":["approve","edit","reject","respond"]}]},"id":"~"}
          chain_end    waiting
        chain_start    LangGraph
          callback     resume resumed {"value":{"decisions":[{"type":"edit","edited_action":{"name":"delete","args":{"path":"/tmp"}}}]}}
          task         HumanInTheLoopMiddleware.after_model => {"hitl_edited_tool_calls":{"c1":{"name":"delete","args":{"path":"/tmp"}}}}
          task         tools
            tool_call  delete {"path":"/tmp"}
              observation {"output":"deleted /tmp"}
          task         model
            llm        gpt-4o-mini 10>5 $
          task         HumanInTheLoopMiddleware.after_model
          final_response "Done."
          chain_end    completed
        """,
        *turns(make, ASKED, Command(resume={"decisions": [decision]}), only=BOTH),
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*beta")
@pytest.mark.parametrize(
    ("probability", "golden"),
    [
        (
            0.1,
            """
            prompt agent/model "You help."
            user_message   "Tidy up."
            chain_start    LangGraph
              task         model
                llm        gpt-4o-mini 10>5 $ calls=delete
              task         tools
                llm        decider-1 120>3 internal input decision:{"messages":[{"role":"human","content":"Tidy up."},{"role":"ai","content":"","tool_calls":[{"name":"delete","args":{"path":"/a"},"id":"c1","type":"tool_call"}]}],"tool_call":{"id":"c1","name":"delete","args":{"path":"/a"}},"tool_description":"Delete a file."}
                tool_call  delete {"path":"/a"}
                  observation {"output":"deleted /a"}
              task         model
                llm        gpt-4o-mini 10>5 $
              final_response "Done."
              chain_end    completed
            """,
        ),
        (
            0.9,
            """
            prompt agent/model "You help."
            user_message   "Tidy up."
            chain_start    LangGraph
              task         model
                llm        gpt-4o-mini 10>5 $ calls=delete
                  tool_call delete {"path":"/a"}
                    tool_error ToolNotRun: The tool call `delete` was blocked because it was classified as risky (probability: 0.90). The tool was not executed. handled
              task         tools
                llm        decider-1 120>3 internal input decision:{"messages":[{"role":"human","content":"Tidy up."},{"role":"ai","content":"","tool_calls":[{"name":"delete","args":{"path":"/a"},"id":"c1","type":"tool_call"}]}],"tool_call":{"id":"c1","name":"delete","args":{"path":"/a"}},"tool_description":"Delete a file."}
              task         model
                llm        gpt-4o-mini 10>5 $
              final_response "Done."
              chain_end    completed
            """,
        ),
    ],
    ids=["allowed", "blocked"],
)
def test_auto_mode_asks_a_decision_model(watch: Watch, probability: float, golden: str):
    def make() -> Any:
        mode = middleware(
            "AutoModeMiddleware", tools=[delete], classifier=decider("noul", noul=probability, confidence=0.8)
        )
        return create_agent(model(DELETE, "Done."), [delete], middleware=[mode], system_prompt="You help.")

    watch(golden, *each_method(make, ASKED, only=BOTH))


@pytest.mark.slow
def test_a_call_beyond_the_limit_did_not_run(watch: Watch):
    def make() -> Any:
        return create_agent(
            model(
                tool_request(call("weather", "c1", city="Oslo")),
                tool_request(call("weather", "c2", city="Rome")),
                "Ok.",
            ),
            [weather],
            middleware=[ToolCallLimitMiddleware(run_limit=1)],
        )

    watch(
        """
        user_message   "Tidy up."
        chain_start    LangGraph
          task         model
            llm        gpt-4o-mini 10>5 $ calls=weather
          task         ToolCallLimitMiddleware.after_model => {"thread_tool_call_count":{"__all__":1},"run_tool_call_count":{"__all__":1}}
          task         tools
            tool_call  weather {"city":"Oslo"}
              observation {"output":"sunny in Oslo"}
          task         model
            llm        gpt-4o-mini 10>5 $ calls=weather
              tool_call weather {"city":"Rome"}
                tool_error ToolNotRun: Tool call limit exceeded. Do not make additional tool calls. handled
          task         ToolCallLimitMiddleware.after_model => {"thread_tool_call_count":{"__all__":1},"run_tool_call_count":{"__all__":2}}
          task         model
            llm        gpt-4o-mini 10>5 $
          task         ToolCallLimitMiddleware.after_model
          final_response "Ok."
          chain_end    completed
        """,
        *each_method(make, ASKED, only=BOTH),
    )


@pytest.mark.slow
def test_an_emulated_tool_has_the_result_that_a_model_made(watch: Watch):
    def make() -> Any:
        return create_agent(
            model(tool_request(call("weather", city="Oslo")), "It snows."),
            [weather],
            middleware=[LLMToolEmulator(tools=["weather"], model=model("snow in Oslo", model_name="gpt-4o"))],
            system_prompt="You help.",
        )

    watch(
        """
        prompt agent/model "You help."
        user_message   "Tidy up."
        chain_start    LangGraph
          task         model
            llm        gpt-4o-mini 10>5 $ calls=weather
              tool_call weather {"city":"Oslo"}
                observation {"output":"snow in Oslo"}
          task         tools
            llm        gpt-4o 10>5 $ internal input human:"You are emulating a tool call for testing purposes.\\n\\nTool: weather\\nDescription: Return the weather of a city.\\nArguments: {'city': 'Oslo'}\\n\\nGenerate a realistic response that this tool would return given these arguments.\\nReturn ONLY the tool's output, no explanation or preamble. Introduce variation into your responses." => "snow in Oslo"
          task         model
            llm        gpt-4o-mini 10>5 $
          final_response "It snows."
          chain_end    completed
        """,
        *each_method(make, ASKED, only=BOTH),
    )


@pytest.mark.slow
def test_an_error_that_middleware_turns_into_a_result_is_handled(watch: Watch):
    def make() -> Any:
        errors = middleware("ToolErrorMiddleware", lambda error, request: f"{type(error).__name__}: try another path.")
        return create_agent(model(tool_request(call("shaky", path="/a")), "It is gone."), [shaky], middleware=[errors])

    watch(
        """
        user_message   "Tidy up."
        chain_start    LangGraph
          task         model
            llm        gpt-4o-mini 10>5 $ calls=shaky
          task         tools
            tool_call  shaky {"path":"/a"}
              tool_error ConnectionError: gone handled
          task         model
            llm        gpt-4o-mini 10>5 $
          final_response "It is gone."
          chain_end    completed
        """,
        *each_method(make, ASKED, only=BOTH),
    )


@pytest.mark.slow
def test_a_tool_that_fails_at_every_attempt_reports_all_of_them(watch: Watch):
    def make() -> Any:
        retry = ToolRetryMiddleware(max_retries=1, initial_delay=0.0, jitter=False)
        return create_agent(model(tool_request(call("shaky", path="/a")), "It is gone."), [shaky], middleware=[retry])

    watch(
        """
        user_message   "Tidy up."
        chain_start    LangGraph
          task         model
            llm        gpt-4o-mini 10>5 $ calls=shaky
          task         tools
            tool_call  shaky {"path":"/a"}
              tool_error ConnectionError: gone handled
            tool_call  shaky {"path":"/a"}
              tool_error ConnectionError: gone handled
          task         model
            llm        gpt-4o-mini 10>5 $
          final_response "It is gone."
          chain_end    completed
        """,
        *each_method(make, ASKED, only=BOTH),
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves a pipe open
def test_a_shell_session_is_tool_calls(watch: Watch, tmp_path: Path):
    def make() -> Any:
        return create_agent(
            model(
                tool_request(call("shell", "c1", command="echo one > file")),
                tool_request(call("shell", "c2", command="cat file")),
                "One.",
            ),
            middleware=[ShellToolMiddleware(tmp_path, execution_policy=HostExecutionPolicy())],
        )

    watch(
        """
        user_message   "Tidy up."
        chain_start    LangGraph
          task         ShellToolMiddleware.before_agent => {"shell_session_resources":{"session":"<langchain.agents.middleware.shell_tool.ShellSession>","tempdir":null,"policy":{"command_timeout":30.0,"startup_timeout":30.0,"termination_timeout":10.0,"max_output_lines":100,"max_output_bytes":null,"cpu_time_seconds":null,"memory_bytes":null,"create_process_group":true,"_limits_requested":false},"finalizer":"<weakref.finalize>"}}
          task         model
            llm        gpt-4o-mini 10>5 $ calls=shell
          task         tools
            tool_call  shell {"command":"echo one > file"}
              observation {"output":"<no output>","artifact":{"timed_out":false,"exit_code":0,"truncated_by_lines":false,"truncated_by_bytes":false,"total_lines":0,"total_bytes":0,"redaction_matches":{}}}
          task         model
            llm        gpt-4o-mini 10>5 $ calls=shell
          task         tools
            tool_call  shell {"command":"cat file"}
              observation {"output":"one\\n","artifact":{"timed_out":false,"exit_code":0,"truncated_by_lines":false,"truncated_by_bytes":false,"total_lines":1,"total_bytes":4,"redaction_matches":{}}}
          task         model
            llm        gpt-4o-mini 10>5 $
          task         ShellToolMiddleware.after_agent
          final_response "One."
          chain_end    completed
        """,
        *each_method(make, ASKED, only=BOTH),
    )


@pytest.mark.slow
def test_file_search_is_tool_calls(watch: Watch, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("buy milk\n")

    def make() -> Any:
        return create_agent(
            model(
                tool_request(call("glob_search", "c1", pattern="*.txt")),
                tool_request(call("grep_search", "c2", pattern="milk")),
                "Buy milk.",
            ),
            middleware=[FilesystemFileSearchMiddleware(root_path=str(tmp_path), use_ripgrep=False)],
        )

    watch(
        """
        user_message   "Tidy up."
        chain_start    LangGraph
          task         model
            llm        gpt-4o-mini 10>5 $ calls=glob_search
          task         tools
            tool_call  glob_search {"pattern":"*.txt"}
              observation {"output":"/notes.txt"}
          task         model
            llm        gpt-4o-mini 10>5 $ calls=grep_search
          task         tools
            tool_call  grep_search {"pattern":"milk"}
              observation {"output":"/notes.txt"}
          task         model
            llm        gpt-4o-mini 10>5 $
          final_response "Buy milk."
          chain_end    completed
        """,
        *each_method(make, ASKED, only=BOTH),
    )


@pytest.mark.slow
def test_a_to_do_list_is_a_tool_call_and_part_of_the_state(watch: Watch):
    def make() -> Any:
        todos = [{"content": "Delete /a", "status": "in_progress"}]
        return create_agent(
            model(tool_request(call("write_todos", todos=todos)), "Done."),
            middleware=[TodoListMiddleware(system_prompt="Keep a list.")],
            system_prompt="You help.",
        )

    watch(
        """
        prompt agent/model "You help.\\n\\n\\nKeep a list."
        user_message   "Tidy up."
        chain_start    LangGraph
          task         model
            llm        gpt-4o-mini 10>5 $ calls=write_todos
          task         TodoListMiddleware.after_model
          task         tools => {"todos":[{"content":"Delete /a","status":"in_progress"}]}
            tool_call  write_todos {"todos":[{"content":"Delete /a","status":"in_progress"}]}
              observation {"output":"Updated todo list to [{'content': 'Delete /a', 'status': 'in_progress'}]"}
          task         model
            llm        gpt-4o-mini 10>5 $
          task         TodoListMiddleware.after_model
          final_response "Done."
          chain_end    completed
        """,
        *each_method(make, ASKED, only=BOTH),
    )


def test_every_middleware_of_langchain_has_a_program():
    """New middleware needs a program in this folder."""
    import langchain.agents.middleware as shipped

    names = {n for n in shipped.__all__ if n.endswith("Middleware") and n != "AgentMiddleware"} | {"LLMToolEmulator"}
    programs = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*_middleware.py"))
    assert {name for name in names if f"{name}(" not in programs and f'"{name}"' not in programs} == set()
