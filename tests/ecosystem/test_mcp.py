"""Tools of a real MCP server, which langchain-mcp-adapters starts and talks to over stdio."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage

from tests.optional import import_optional
from tests.scenarios.harness import Config, Program, Watch
from tests.scenarios.scripts import call, model, tool_request

pytest.importorskip("langchain_mcp_adapters", reason="needs langchain-mcp-adapters")
pytest.importorskip("mcp", reason="needs mcp")

SERVER = Path(__file__).parent / "mcp_server.py"


def agent_with_tools(*replies: Any) -> Program:
    """Return a program that asks an agent with the tools of the server."""
    client_class = import_optional("langchain_mcp_adapters.client", "MultiServerMCPClient")
    load_mcp_tools = import_optional("langchain_mcp_adapters.tools", "load_mcp_tools")

    async def program(config: Config) -> Any:
        started = {"transport": "stdio", "command": sys.executable, "args": [str(SERVER)]}
        async with client_class({"tools": started}).session("tools") as session:
            agent = create_agent(
                model(*replies), await load_mcp_tools(session), system_prompt="You calculate.", name="calculator"
            )
            state = await agent.ainvoke({"messages": [HumanMessage("What is 2 + 3?", id="h1")]}, config)
        return [message.text for message in state["messages"]]

    return program


def test_a_tool_of_a_server_is_a_tool_call(watch: Watch):
    watch(
        """
        prompt calculator/model "You calculate."
        user_message   "What is 2 + 3?"
        chain_start    calculator
          task         model
            llm        gpt-4o-mini 10>5 $ calls=add
          task         tools
            tool_call  add {"a":2,"b":3}
              observation {"output":[{"type":"text","text":"2 + 3 = 5"}],"artifact":{"structured_content":{"result":"2 + 3 = 5"}}}
          task         model
            llm        gpt-4o-mini 10>5 $
          final_response "It is 5."
          chain_end    completed
        """,
        agent_with_tools(tool_request(call("add", a=2, b=3)), "It is 5."),
    )


@pytest.mark.slow
def test_a_failing_tool_of_a_server_is_a_tool_error(watch: Watch):
    watch(
        """
        prompt calculator/model "You calculate."
        user_message   "What is 2 + 3?"
        chain_start    calculator
          task         model
            llm        gpt-4o-mini 10>5 $ calls=fail
          task         tools
            tool_call  fail {"reason":"no numbers"}
              tool_error ToolError: Error executing tool fail: no numbers handled
          task         model
            llm        gpt-4o-mini 10>5 $
          final_response "I could not."
          chain_end    completed
        """,
        agent_with_tools(tool_request(call("fail", reason="no numbers")), "I could not."),
    )


@pytest.mark.slow
def test_a_picture_of_a_server_is_media_without_its_data(watch: Watch):
    watch(
        """
        prompt calculator/model "You calculate."
        user_message   "What is 2 + 3?"
        chain_start    calculator
          task         model
            llm        gpt-4o-mini 10>5 $ calls=picture
          task         tools
            tool_call  picture {}
              observation {"output":[{"type":"image","base64":{"mime":"image/png","bytes":3008,"sha256":"~~"},"mime_type":"image/png"}]}
          task         model
            llm        gpt-4o-mini 10>5 $
          final_response "Here it is."
          chain_end    completed
        """,
        agent_with_tools(tool_request(call("picture")), "Here it is."),
    )
