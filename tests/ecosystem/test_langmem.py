"""Memory of langmem: tools of an agent, extraction in the background, summaries."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.store.memory import InMemoryStore

from gati import observe
from tests.optional import import_optional
from tests.scenarios.harness import Config, Watch, each_method
from tests.scenarios.scripts import call, model, tool_request

pytest.importorskip("langmem", reason="needs langmem")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ASKED = {"messages": [HumanMessage("I live in Oslo. Remember that.", id="h1")]}


def test_memory_tools_are_tool_calls(watch: Watch):
    manage = import_optional("langmem", "create_manage_memory_tool")
    search = import_optional("langmem", "create_search_memory_tool")

    def make() -> Any:
        tools = [manage(namespace=("memories",)), search(namespace=("memories",))]
        replies = [
            tool_request(call("manage_memory", "m1", content="Lives in Oslo.", action="create")),
            tool_request(call("search_memory", "m2", query="Oslo")),
            "I will remember.",
        ]
        return create_agent(model(*replies), tools, store=InMemoryStore(), system_prompt="You remember.")

    def without_times(program: Any) -> Any:
        return lambda config: program(config)["messages"][-1].text

    traced = watch.trace(without_times(each_method(make, ASKED, only="invoke")[0]))
    assert [m["toolName"] for m in traced.of_type("tool_call")] == ["manage_memory", "search_memory"]
    saved, found = (m["output"] for m in traced.of_type("observation"))
    assert "created memory" in str(saved)
    assert "Lives in Oslo." in str(found)
    assert traced.transcript() == [("user", "I live in Oslo. Remember that."), ("assistant", "I will remember.")]


@pytest.mark.slow
def test_a_memory_manager_in_a_conversation_is_internal(watch: Watch):
    manager = import_optional("langmem", "create_memory_manager")

    def program(config: Config) -> Any:
        extracted = tool_request(call("Memory", "m1", content="Lives in Oslo."))
        with observe.internal():
            made = manager(model(extracted), instructions="Extract memories.").invoke(
                {"messages": [*ASKED["messages"], AIMessage("Noted.", id="a1")]},
                config | {"metadata": {"thread_id": "c-1"}},
            )
        return [memory.content for memory in made]

    watch(
        """
        conversation c-1 of anonymous
        prompt agent/TrustCall/extract "You are a memory subroutine for an AI."
        workflow       TrustCall
          task         extract => {"attempts":1,"msg_id":"lc_run--~-0"}
            llm        gpt-4o-mini 10>5 $ internal calls=Memory input human:"Extract memories.\\n\\nEnrich, prune, and organize memories based on any new information. If an existing memory is incorrect or outdated, update it based on the new information. All operations must be done in single parallel multi-tool call. Avoid duplicate extractions. \\n\\n<session_~>\\n================================ Human Message =================================\\n\\nI live in Oslo. Remember that.\\n\\n================================== Ai Message ==================================\\n\\nNoted.\\n</session_~>"
              tool_call Memory {"content":"Lives in Oslo."}
                observation {"output":"{\\"content\\":\\"Lives in Oslo.\\"}"}
          task         validate
          task         del_tool_call => {"messages":{"op":"delete","target":"~"}}
        """,
        program,
    )


@pytest.mark.slow
def test_a_memory_manager_inside_a_node_is_no_answer(watch: Watch):
    manager = import_optional("langmem", "create_memory_manager")

    def make() -> Any:
        extracted = tool_request(call("Memory", "m1", content="Lives in Oslo."))

        def answer(state: MessagesState) -> dict[str, Any]:
            return {"messages": [model("Noted.").invoke([("system", "You help."), *state["messages"]])]}

        async def remember(state: MessagesState) -> dict[str, Any]:
            await manager(model(extracted), instructions="Extract memories.").ainvoke({"messages": state["messages"]})
            return {}

        builder = StateGraph(MessagesState)
        builder.add_node("answer", answer)
        builder.add_node("remember", remember)
        builder.add_edge(START, "answer")
        builder.add_edge("answer", "remember")
        return builder.compile(name="bot")

    watch(
        """
        prompt @1 agent/answer "You help."
        prompt @2 agent/TrustCall/extract "You are a memory subroutine for an AI."
        user_message   "I live in Oslo. Remember that."
        chain_start    bot
          task         answer
            llm        gpt-4o-mini 10>5 $ @1
          task         remember
            workflow   TrustCall
              task     extract => {"attempts":1,"msg_id":"lc_run--~-0"}
                llm    gpt-4o-mini 10>5 $ calls=Memory input human:"Extract memories.\\n\\nEnrich, prune, and organize memories based on any new information. If an existing memory is incorrect or outdated, update it based on the new information. All operations must be done in single parallel multi-tool call. Avoid duplicate extractions. \\n\\n<session_~>\\n================================ Human Message =================================\\n\\nI live in Oslo. Remember that.\\n\\n================================== Ai Message ==================================\\n\\nNoted.\\n</session_~>" @2
                  tool_call Memory {"content":"Lives in Oslo."}
                    observation {"output":"{\\"content\\":\\"Lives in Oslo.\\"}"}
              task     validate
              task     del_tool_call => {"messages":{"op":"delete","target":"~"}}
          final_response "Noted." @1
          chain_end    completed
        """,
        *each_method(make, ASKED, only="ainvoke"),
    )


@pytest.mark.slow
def test_a_summarization_node_is_internal(watch: Watch):
    node = import_optional("langmem.short_term", "SummarizationNode")
    history = [
        HumanMessage("Hello. " + "word " * 30, id="h0"),
        AIMessage("Hello, how can I help?", id="a0"),
        HumanMessage("How is the weather?", id="h1"),
    ]

    class State(MessagesState):
        summarized: list[Any]
        context: dict[str, Any]

    def make() -> Any:
        def answer(state: State) -> dict[str, Any]:
            return {"messages": [model("It is sunny.").invoke(state["summarized"])]}

        summarize = node(
            model=model("They said hello."),
            max_tokens=100,
            max_tokens_before_summary=50,
            max_summary_tokens=20,
            output_messages_key="summarized",
        )
        builder = StateGraph(State)
        builder.add_node("summarize", summarize)
        builder.add_node("answer", answer)
        builder.add_edge(START, "summarize")
        builder.add_edge("summarize", "answer")
        return builder.compile(name="bot")

    watch(
        """
        prompt @1 agent/answer[summary]
          system "Summary of the conversation so far: {{summary}}"
          summary = "They said hello."
        prompt @2 agent/summarize
          user "Create a summary of the conversation above:"
        user_message   "How is the weather?"
        chain_start    bot
          task         summarize => {"context":{"running_summary":{"summary":"They said hello.","summarized_message_ids":["h0","a0"],"last_summarized_message_id":"a0"}}}
            llm        gpt-4o-mini 10>5 $ internal input human:"Hello. word word word word word word word word word word word word word word word word word word word word word word word word word word word word word word " input ai:"Hello, how can I help?" input human:"Create a summary of the conversation above:" => "They said hello." @2
          task         answer
            llm        gpt-4o-mini 10>5 $ @1
          final_response "It is sunny." @1
          chain_end    completed
        """,
        *each_method(make, {"messages": history}, only="invoke ainvoke"),
    )
