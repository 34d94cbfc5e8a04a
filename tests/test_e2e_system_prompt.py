"""A separate process with a real `ChatOpenAI` delivers the same system prompt to the model, Greenflash and a GATI backend.

The program contains two lines of gati.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.openai_server import OpenAIServer, Reply, openai_server
from tests.servers import LocalServer

pytest.importorskip("langchain_openai", reason="needs langchain_openai")

PRODUCT = "7f3a9f0e-6f57-4b7e-9f5e-2f4d2a6f8f11"
HEAD = """
from gati import observe
observe.init(agent_name="school", conversation_id="lesson")

import asyncio
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

model = ChatOpenAI(model="gpt-4o-mini")
tutor = ChatPromptTemplate([("system", "You are a {subject} tutor."), ("human", "{question}")], name="tutor") | model
asked = {"subject": "math", "question": "What is 5+3?"}
"""
TEMPLATE = {
    "components": [{"content": "You are a {{subject}} tutor.", "type": "system"}],
    "externalPromptId": "tutor",
    "variables": {"subject": "math"},
}
TEXT = "You are a math tutor."


@pytest.fixture
def openai() -> Iterator[OpenAIServer]:
    with openai_server(Reply("It is 8.")) as server:
        yield server


@pytest.fixture
def run(openai: OpenAIServer, greenflash: LocalServer, backend: LocalServer, tmp_path: Path):
    """Run a program whose environment configures its destinations; its exit delivers the remaining turns."""

    def run(program: str) -> str:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")])),
            "HOME": str(tmp_path),
            "OPENAI_API_KEY": "k",
            "OPENAI_BASE_URL": openai.url,
            "GREENFLASH_API_KEY": greenflash.api_key,
            "GREENFLASH_BASE_URL": greenflash.url,
            "GATI_PRODUCT_ID": PRODUCT,
            "GATI_BACKEND_URL": backend.url,
            "GATI_BACKEND_API_KEY": backend.api_key,
        }
        done = subprocess.run(
            [sys.executable, "-c", HEAD + program],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return run


def prompts(server: LocalServer) -> list[object]:
    """Return the distinct system prompts of all requests, in order of arrival."""
    found: list[object] = []
    for body in server.bodies():
        if body.get("systemPrompt") not in [*found, None]:
            found.append(body["systemPrompt"])
    return found


def calls(server: LocalServer) -> list[tuple[str, str, str]]:
    told = [event for event in server.events() if event["event_type"] == "llm_call"]
    return [(event["system_prompt"], event["prompt"], event["completion"]) for event in told]


def test_a_template_prompt_reaches_the_model_and_both_destinations(
    run, openai: OpenAIServer, greenflash: LocalServer, backend: LocalServer
):
    said = run(
        """
print(tutor.invoke(asked).content)
print("".join(chunk.content for chunk in tutor.stream(asked)))
print(asyncio.run(tutor.ainvoke(asked)).content)
print(tutor.batch([asked])[0].content)
"""
    )
    assert said.splitlines() == ["It is 8."] * 4
    assert [request["messages"][0] for request in openai.requests] == [{"role": "system", "content": TEXT}] * 4
    assert prompts(greenflash) == [TEMPLATE]
    assert calls(backend) == [(TEXT, "What is 5+3?", "It is 8.")] * 4


def test_an_agents_prompt_is_recorded_under_the_agents_name(run, greenflash: LocalServer, backend: LocalServer):
    run(
        f"""
from langchain.agents import create_agent

agent = create_agent(model, [], system_prompt="{TEXT}", name="teacher")
agent.invoke({{"messages": [("user", "What is 5+3?")]}})
"""
    )
    assert prompts(greenflash) == [{"content": TEXT, "externalPromptId": "teacher/model"}]
    assert calls(backend) == [(TEXT, "What is 5+3?", "It is 8.")]


def test_agents_of_one_conversation_keep_their_prompts(run, greenflash: LocalServer, backend: LocalServer):
    run(
        """
from langchain.agents import create_agent

with observe.conversation("c-1", user_id="u-1"):
    for name in ("algebra", "geometry"):
        create_agent(model, [], system_prompt=f"Teach {name}.", name=name).invoke({"messages": [("user", name + "?")]})
"""
    )
    by_name = {one["externalPromptId"]: one["content"] for one in prompts(greenflash)}
    assert by_name == {"algebra/model": "Teach algebra.", "geometry/model": "Teach geometry."}
    assert [call[0] for call in calls(backend)] == ["Teach algebra.", "Teach geometry."]
    assert {message["conversation"] for message in greenflash.messages()} == {"c-1"}


def test_several_system_messages_are_joined_with_a_blank_line(
    run, openai: OpenAIServer, greenflash: LocalServer, backend: LocalServer
):
    run('model.invoke([SystemMessage("Be helpful."), SystemMessage("Be brief."), HumanMessage("Hello")])')
    assert [message["role"] for message in openai.requests[0]["messages"]] == ["system", "system", "user"]
    assert prompts(greenflash) == [{"content": "Be helpful.\n\nBe brief.", "externalPromptId": "school"}]
    assert calls(backend) == [("Be helpful.\n\nBe brief.", "Hello", "It is 8.")]


def test_a_call_without_a_system_prompt_has_none(run, greenflash: LocalServer, backend: LocalServer):
    run('model.invoke("Hello")')
    assert prompts(greenflash) == []
    assert calls(backend) == [("", "Hello", "It is 8.")]
