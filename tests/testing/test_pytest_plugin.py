"""The pytest plugin, in test runs of imaginary users: each starts a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

PLUGIN = "gati.testing.pytest_plugin"

PROGRAM = """
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.prebuilt import ToolNode
from langgraph.graph import MessagesState, StateGraph, START

from gati import observe
from gati.testing import ScriptedChatModel


@tool
def weather(city: str, unit: str = "C") -> str:
    "The weather."
    return f"sunny in {city}"


def agent():
    call = AIMessage("", tool_calls=[{"name": "weather", "args": {"city": "Paris"}, "id": "c-1"}])
    model = ScriptedChatModel(replies=[call, "It is sunny."])
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_node("tools", ToolNode([weather]))
    graph.add_node("answer", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_edge(START, "model")
    graph.add_edge("model", "tools")
    graph.add_edge("tools", "answer")
    return graph.compile()


def ask(conversation="c-1"):
    with observe.conversation(conversation, user_id="u-7"):
        agent().invoke({"messages": [("user", "Weather in Paris?")]})
"""


def run(folder: Path, tests: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run pytest with the plugin in a folder that contains the program and these tests.

    Loads no other plugins, which take seconds, unless the environment says otherwise.
    """
    (folder / "program.py").write_text(PROGRAM, "utf-8")
    (folder / "test_program.py").write_text(tests, "utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n", "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    environment = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment}
    is_installed = any(found.value == PLUGIN for found in entry_points(group="pytest11"))
    if environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] or not is_installed:  # an older editable installation
        command += ["-p", PLUGIN]
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(folder)])
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": path, **environment}, capture_output=True, text=True
    )
    print(done.stdout, done.stderr)
    return done


ASSERTIONS = """
import pytest
from program import ask

def test_assertions_that_hold(gati):
    ask()
    conversation = gati.conversation()
    assert conversation.transcript() == [("user", "Weather in Paris?"), ("assistant", "It is sunny.")]
    assert (conversation.id, conversation.user_id) == ("c-1", "u-7")
    assert conversation.tools_called("weather", args={"city": "Paris"})
    assert conversation.answered_without("sorry", "cannot")
    assert conversation.cost_below(0.01)

@pytest.mark.parametrize(("check", "message"), [
    (lambda c: c.tools_called("search"), "'search' was not called"),
    (lambda c: c.tools_called("weather", args={"city": "Rome"}), "Rome"),
    (lambda c: c.answered_without("SUNNY"), "an answer contains 'SUNNY'"),
    (lambda c: c.cost_below(0.0), "2 model calls cost"),
    (lambda c: c.matches_golden("none"), "--gati-update"),
])
def test_assertions_that_fail(gati, check, message):
    ask()
    with pytest.raises(AssertionError, match=message):
        check(gati.conversation())

def test_each_test_has_its_own_conversations(gati):
    assert gati.conversations == []
    with pytest.raises(AssertionError, match="expected one conversation, recorded: none"):
        gati.conversation()

def test_several_conversations(gati):
    ask("a")
    ask("b")
    assert [c.id for c in gati.conversations] == ["a", "b"]
    assert gati.conversation("b").tools_called("weather")
    with pytest.raises(AssertionError, match="'a', 'b'"):
        gati.conversation()
"""


def test_the_fixture_captures_conversations_and_offers_assertions(tmp_path: Path):
    assert "8 passed" in run(tmp_path, ASSERTIONS, PYTEST_DISABLE_PLUGIN_AUTOLOAD="").stdout


def test_golden_conversations_are_written_and_compared(tmp_path: Path):
    tests = "from program import ask\n\ndef test_weather(gati):\n    ask()\n    gati.conversation().matches_golden()\n"
    missing = run(tmp_path, tests)
    assert missing.returncode == 1
    assert "pytest --gati-update" in missing.stdout
    assert run(tmp_path, tests, "--gati-update").returncode == 0
    golden = tmp_path / "goldens" / "test_program" / "test_weather.txt"
    assert golden.read_text("utf-8").splitlines() == [
        "user: Weather in Paris?",
        '  tool weather {"city": "Paris"} → {"output": "sunny in Paris"}',
        "assistant: It is sunny.",
    ]
    assert run(tmp_path, tests).returncode == 0
    golden.write_text(golden.read_text("utf-8").replace("It is sunny", "It rains"), "utf-8")
    changed = run(tmp_path, tests)
    assert changed.returncode == 1
    assert "-assistant: It rains." in changed.stdout


INITS = """
import os
from gati import observe
import program

observe.init(local={path!r}, agent_name="tutor", enabled=True)

def test_without_the_fixture():
    program.ask()
    assert observe.flush().delivered == {delivered}

def test_options_of_an_earlier_init_apply(gati):
    program.ask()
    assert gati.conversation().turns[0].agent_name == "tutor"

def test_an_init_in_the_test_changes_the_options_only(gati):
    observe.init(local={path!r}, agent_name="other", enabled=False)
    program.ask()
    assert gati.conversation().turns[0].agent_name == "other"

def test_options_of_another_test_do_not_apply(gati):
    program.ask()
    assert gati.conversation().turns[0].agent_name == "tutor"
"""


def test_nothing_is_delivered_in_a_test_run(tmp_path: Path):
    store = tmp_path / "store.db"
    done = run(tmp_path, INITS.format(path=str(store), delivered=0), "-v", GATI_ENABLED="true")
    assert "4 passed" in done.stdout
    assert "gati: nothing is delivered" in done.stdout
    assert not store.exists()


def test_an_option_keeps_the_delivery(tmp_path: Path):
    store = tmp_path / "store.db"
    tests = f"from gati import observe\nfrom program import ask\nobserve.init(local={str(store)!r}, spool=False)\n"
    tests += "def test_it():\n    ask()\n    assert observe.flush().delivered\n"
    assert run(tmp_path, tests, "--gati-deliver").returncode == 0
    assert store.exists()


@pytest.mark.parametrize("value", ["false", "0", "off"])
def test_the_fixture_captures_while_the_environment_switches_gati_off(tmp_path: Path, value: str):
    tests = "from program import ask\n\ndef test_it(gati):\n    ask()\n    assert gati.conversation()\n"
    assert run(tmp_path, tests, GATI_ENABLED=value).returncode == 0
