"""Agents of deepagents: files, to-do lists, sub-agents, memory, approvals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from tests.optional import import_optional
from tests.scenarios.harness import Config, Watch, each_method
from tests.scenarios.scripts import call, delete, model, tool_request, turns, weather

pytest.importorskip("deepagents", reason="needs deepagents")

ASKED = {"messages": [HumanMessage("How is the weather in Oslo?", id="h1")]}
BOTH = "invoke ainvoke"


def deep_agent(*replies: Any, **more: Any) -> Any:
    return import_optional("deepagents", "create_deep_agent")(model(*replies), **more)


def test_a_sub_agent_answers_inside_its_tool(watch: Watch):
    def make() -> Any:
        forecaster = {
            "name": "forecaster",
            "description": "Knows the weather.",
            "system_prompt": "You forecast.",
            "model": model(tool_request(call("weather", "w1", city="Oslo")), "Sunny all day.", model_name="gpt-4o"),
            "tools": [weather],
        }
        asked = call("task", description="The weather in Oslo", subagent_type="forecaster")
        return deep_agent(
            tool_request(asked), "Take a walk.", system_prompt="You plan days.", subagents=[forecaster], name="planner"
        )

    watch(
        """
        prompt @1 planner/model "You plan days."
        prompt @2 forecaster/model "You forecast."
        user_message   "How is the weather in Oslo?"
        chain_start    planner
          task         PatchToolCallsMiddleware.before_agent
          task         model
            llm        gpt-4o-mini 10>5 $ calls=task @1
          task         tools
            tool_call  task {"description":"The weather in Oslo","subagent_type":"forecaster"}
              workflow forecaster
                task   PatchToolCallsMiddleware.before_agent
                task   model
                  llm  gpt-4o 10>5 $ internal calls=weather input human:"The weather in Oslo" @2
                task   tools
                  tool_call weather {"city":"Oslo"}
                    observation {"output":"sunny in Oslo"}
                task   model
                  llm  gpt-4o 10>5 $ internal => "Sunny all day." @2
              observation {"output":"Sunny all day."}
          task         model
            llm        gpt-4o-mini 10>5 $ @1
          task         _ParentNotifierMiddleware.after_agent
          final_response "Take a walk." @1
          chain_end    completed
        """,
        *each_method(make, ASKED, only=BOTH),
    )


@pytest.mark.slow
def test_two_sub_agents_at_once_keep_their_prompts(watch: Watch):
    def make() -> Any:
        def expert(name: str, text: str) -> dict[str, Any]:
            return {
                "name": name,
                "description": name,
                "system_prompt": f"You are the {name}.",
                "model": model(text),
                "tools": [],
            }

        asked = [
            call("task", f"t-{name}", description=f"The {name} of Oslo?", subagent_type=name)
            for name in ("cook", "guide")
        ]
        return deep_agent(
            tool_request(*asked),
            "Eat and walk.",
            system_prompt="You plan days.",
            subagents=[expert("cook", "Eat fish."), expert("guide", "See the opera.")],
        )

    watch(
        """
        prompt @1 cook/model "You are the cook."
        prompt @2 guide/model "You are the guide."
        prompt @3 agent/model "You plan days."
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         PatchToolCallsMiddleware.before_agent
          task         _ParentNotifierMiddleware.after_agent
          task         model
            llm        gpt-4o-mini 10>5 $ @3
          task         model
            llm        gpt-4o-mini 10>5 $ calls=task,task @3
          task         tools
            tool_call  task {"description":"The cook of Oslo?","subagent_type":"cook"}
              observation {"output":"Eat fish."}
              workflow cook
                task   PatchToolCallsMiddleware.before_agent
                task   model
                  llm  gpt-4o-mini 10>5 $ internal input human:"The cook of Oslo?" => "Eat fish." @1
          task         tools
            tool_call  task {"description":"The guide of Oslo?","subagent_type":"guide"}
              observation {"output":"See the opera."}
              workflow guide
                task   PatchToolCallsMiddleware.before_agent
                task   model
                  llm  gpt-4o-mini 10>5 $ internal input human:"The guide of Oslo?" => "See the opera." @2
          final_response "Eat and walk." @3
          chain_end    completed
        """,
        *each_method(make, ASKED, only=BOTH),
        unordered=True,
    )


@pytest.mark.slow
def test_files_are_tool_calls_and_changes_of_the_state(watch: Watch):
    def program(config: Config) -> Any:
        agent = deep_agent(
            tool_request(call("write_file", "f1", file_path="/notes.md", content="Oslo is sunny.")),
            tool_request(call("read_file", "f2", file_path="/notes.md")),
            "I wrote it down.",
            system_prompt="You take notes.",
        )
        return agent.invoke(ASKED, config)["messages"][-1].text  # the files have times

    watch(
        """
        prompt agent/model "You take notes."
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         PatchToolCallsMiddleware.before_agent
          task         model
            llm        gpt-4o-mini 10>5 $ calls=write_file
          task         tools
            tool_call  write_file {"file_path":"/notes.md","content":"Oslo is sunny."}
              observation {"output":"Updated file /notes.md"}
          task         model
            llm        gpt-4o-mini 10>5 $ calls=read_file
          task         tools
            tool_call  read_file {"file_path":"/notes.md"}
              observation {"output":"@@ lines 1-1 of 1 @@\\nOslo is sunny."}
          task         model
            llm        gpt-4o-mini 10>5 $
          task         _ParentNotifierMiddleware.after_agent
          final_response "I wrote it down."
          chain_end    completed
        """,
        program,
    )


@pytest.mark.slow
def test_a_person_approves_a_call_in_the_next_turn(watch: Watch):
    def make() -> Any:
        return deep_agent(
            tool_request(call("delete", path="/a")),
            "Deleted.",
            tools=[delete],
            system_prompt="You keep files.",
            interrupt_on={"delete": True},
            checkpointer=InMemorySaver(),
        )

    watch(
        """
        conversation c-1 of anonymous
        prompt agent/model "You keep files."
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         PatchToolCallsMiddleware.before_agent
          task         model
            llm        gpt-4o-mini 10>5 $ calls=delete
          task         HumanInTheLoopMiddleware.after_model waiting
          callback     interrupt waiting {"value":{"action_requests":[{"name":"delete","args":{"path":"/a"},"description":"Tool execution requires approval\\n\\nTool: delete\\nArgs: {'path': '/a'}"}],"review_configs":[{"action_name":"delete","allowed_decisions":["approve","edit","reject","respond"]}]},"id":"~"}
          chain_end    waiting
        chain_start    LangGraph
          callback     resume resumed {"value":{"decisions":[{"type":"approve"}]}}
          task         HumanInTheLoopMiddleware.after_model
          task         tools
            tool_call  delete {"path":"/a"}
              observation {"output":"deleted /a"}
          task         model
            llm        gpt-4o-mini 10>5 $
          task         HumanInTheLoopMiddleware.after_model
          task         _ParentNotifierMiddleware.after_agent
          final_response "Deleted."
          chain_end    completed
        """,
        *turns(make, ASKED, Command(resume={"decisions": [{"type": "approve"}]}), only=BOTH),
    )


@pytest.mark.slow
def test_memory_from_a_file_is_part_of_the_prompt(watch: Watch, tmp_path: Path):
    (tmp_path / "AGENTS.md").write_text("The user lives in Oslo.\n", "utf-8")
    backend = import_optional("deepagents.backends", "FilesystemBackend")

    def make() -> Any:
        return deep_agent(
            "It is sunny.",
            system_prompt="You help.",
            memory=["/AGENTS.md"],
            backend=backend(root_dir=tmp_path, virtual_mode=True),
        )

    traced = watch.trace(each_method(make, ASKED, only="invoke")[0])
    assert traced.transcript() == [("user", "How is the weather in Oslo?"), ("assistant", "It is sunny.")]
    (prompt,) = {str(m["prompt"]) for m in traced.of_type("llm")}
    assert "You help." in prompt
    assert "The user lives in Oslo." in prompt


@pytest.mark.slow
def test_a_second_turn_is_the_same_conversation(watch: Watch):
    def make() -> Any:
        return deep_agent("It is sunny.", "It rains.", system_prompt="You help.", checkpointer=InMemorySaver())

    watch(
        """
        conversation c-1 of anonymous
        prompt agent/model "You help."
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         PatchToolCallsMiddleware.before_agent
          task         model
            llm        gpt-4o-mini 10>5 $
          task         _ParentNotifierMiddleware.after_agent
          final_response "It is sunny."
          chain_end    completed
        user_message   "And in Rome?"
        chain_start    LangGraph
          task         PatchToolCallsMiddleware.before_agent
          task         model
            llm        gpt-4o-mini 10>5 $
          task         _ParentNotifierMiddleware.after_agent
          final_response "It rains."
          chain_end    completed
        """,
        *turns(make, ASKED, {"messages": [HumanMessage("And in Rome?", id="h2")]}),
    )
