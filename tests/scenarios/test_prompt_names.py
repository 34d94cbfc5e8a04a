"""One prompt, one name: prompts that are used side by side have ids of their own, in every process and turn."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from langchain_core.messages import AIMessage, SystemMessage
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph

from tests.scenarios.harness import Config, TracedRun, Watch
from tests.scenarios.scripts import model

ASKED = {"messages": [("user", "2+3?")]}


def asks(name: str, **arguments: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": "c1", "type": "tool_call"}])


def prompts_of(traced: TracedRun) -> dict[str, set[str]]:
    """Return the names of the prompts, each with the texts of its versions."""
    found: dict[str, set[str]] = {}
    for message in traced.of_type("llm"):
        prompt = message["prompt"]
        text = prompt.get("content") or "".join(part["content"] for part in prompt["components"])
        found.setdefault(prompt["externalPromptId"], set()).add(text)
    return found


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@tool
def subtract(a: int, b: int) -> int:
    """Subtract."""
    return a - b


@pytest.mark.filterwarnings("ignore")  # `create_react_agent` is deprecated, and still used
def test_a_supervisor_and_its_expert_have_names_of_their_own(watch: Watch):
    supervisor = pytest.importorskip("langgraph_supervisor")
    prebuilt = pytest.importorskip("langgraph.prebuilt")

    def program(config: Config) -> None:
        expert = prebuilt.create_react_agent(model("Five."), [add], name="maths", prompt="You do maths.")
        boss = model(asks("transfer_to_maths"), "It is five.")
        supervisor.create_supervisor([expert], model=boss, prompt="You supervise.").compile().invoke(ASKED, config)

    assert prompts_of(watch.trace(program)) == {
        "agent/supervisor/agent": {"You supervise."},
        "agent/maths/agent": {"You do maths."},
    }


def test_a_tool_selector_and_its_agent_have_names_of_their_own(watch: Watch):
    agents = pytest.importorskip("langchain.agents")
    middleware = pytest.importorskip("langchain.agents.middleware")

    def program(config: Config) -> None:
        selector = middleware.LLMToolSelectorMiddleware(
            model=model(asks("ToolSelectionResponse", tools=["add"])), max_tools=1
        )
        agents.create_agent(
            model("Five."), [add, subtract], system_prompt="You calculate.", middleware=[selector]
        ).invoke(ASKED, config)

    traced = watch.trace(program)
    assert {name: len(texts) for name, texts in prompts_of(traced).items()} == {
        "agent/model": 1,
        "agent/model/tool_selection": 1,
    }
    assert [bool(m["properties"].get("internal")) for m in traced.of_type("llm")] == [True, False]


def test_a_sub_agent_in_a_tool_has_the_name_of_the_tool(watch: Watch):
    agents = pytest.importorskip("langchain.agents")

    @tool
    def ask_expert(question: str) -> str:
        """Ask."""
        inner = agents.create_agent(model("Five."), [], system_prompt="You research.")
        return str(inner.invoke({"messages": [("user", question)]})["messages"][-1].text)

    def program(config: Config) -> None:
        boss = model(asks("ask_expert", question="2+3?"), "It is five.")
        agents.create_agent(boss, [ask_expert], system_prompt="You lead.").invoke(ASKED, config)

    assert prompts_of(watch.trace(program)) == {
        "agent/model": {"You lead."},
        "agent/tools/ask_expert/model": {"You research."},
    }


def template(text: str, **more: Any) -> ChatPromptTemplate:
    return ChatPromptTemplate([("system", text), ("human", "{q}")], **more)


def test_templates_of_one_chain_are_named_by_their_variables(watch: Watch):
    def program(config: Config) -> None:
        rewrite = template("Rewrite for {audience}.") | model("Rewritten.") | (lambda m: {"q": m.text, "lang": "en"})
        (rewrite | template("Answer in {lang}.") | model("Five.")).invoke({"q": "2+3?", "audience": "kids"}, config)

    assert prompts_of(watch.trace(program)) == {
        "agent[audience]": {"Rewrite for {{audience}}."},
        "agent[lang]": {"Answer in {{lang}}."},
    }


def test_templates_with_the_same_variables_are_numbered(watch: Watch):
    def program(config: Config) -> None:
        rewrite = template("Rewrite.") | model("Rewritten.") | (lambda m: {"q": m.text})
        (rewrite | template("Answer.") | model("Five.")).invoke({"q": "2+3?"}, config)

    assert prompts_of(watch.trace(program)) == {"agent": {"Rewrite."}, "agent#2": {"Answer."}}


def test_a_fallback_chain_has_a_name_of_its_own_and_a_fallback_model_has_not(watch: Watch):
    broken = RuntimeError("overloaded")

    def program(config: Config) -> None:
        (template("A.") | model(broken)).with_fallbacks([template("B.") | model("b")]).invoke({"q": "?"}, config)
        (template("A.") | model(broken)).with_fallbacks([template("A.") | model("a")]).invoke({"q": "?"}, config)
        (template("A.") | model(broken).with_fallbacks([model("a")])).invoke({"q": "?"}, config)

    assert prompts_of(watch.trace(program)) == {"agent": {"A."}, "agent/fallback-1": {"B."}}


@pytest.mark.parametrize("labels", [("", ""), ("router", ""), ("router", "poet")])
def test_two_texts_in_one_node_have_names_of_their_own(watch: Watch, labels: tuple[str, str]):
    def node(state: MessagesState) -> dict[str, Any]:
        given = [{"run_name": label} if label else {} for label in labels]
        model("poem").invoke([SystemMessage("You are a router."), *state["messages"]], given[0])
        return {"messages": [model("Roses.").invoke([SystemMessage("You are a poet."), *state["messages"]], given[1])]}

    graph = StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile()
    expected = {
        ("", ""): ["agent/node", "agent/node#2"],
        ("router", ""): ["agent/node/router", "agent/node"],
        ("router", "poet"): ["agent/node/router", "agent/node/poet"],
    }
    traced = watch.trace(lambda config: graph.invoke(ASKED, config))
    assert prompts_of(traced) == dict(zip(expected[labels], [{"You are a router."}, {"You are a poet."}], strict=True))


@pytest.mark.parametrize("as_template", [True, False])
def test_a_prompt_keeps_its_name_when_another_one_in_its_node_is_called_sometimes(watch: Watch, as_template: bool):
    def call(instructions: str) -> str:
        if not as_template:
            return str(model("Yes.").invoke([SystemMessage(instructions), ("user", "2+3?")]).text)
        prompt = ChatPromptTemplate.from_messages([("system", instructions), ("user", "2+3?")])
        return str((prompt | model("Yes.")).invoke({}).text)

    def program(config: Config) -> None:
        for calls in (("Answer.",), ("Summarize.", "Answer."), ("Summarize.",), ("Guard.", "Summarize.", "Answer.")):

            def work(state: MessagesState, calls: tuple[str, ...] = calls) -> Config:
                return {"messages": [AIMessage([call(text) for text in calls][-1])]}

            graph = StateGraph(MessagesState).add_node("work", work).add_edge(START, "work").compile()
            graph.invoke(ASKED, config)

    assert prompts_of(watch.trace(program)) == {
        "agent/work": {"Answer."}, "agent/work#2": {"Summarize."}, "agent/work#3": {"Guard."},
    }  # fmt: skip


def test_a_prompt_that_a_loop_fills_with_data_is_one_prompt(watch: Watch):
    def summarize(pages: list[str]) -> str:
        texts = [f"You are an expert who writes summaries. Summarize in one line: {page}" for page in pages]
        return " ".join(str(model("ok").invoke([SystemMessage(text), ("user", "go")]).text) for text in texts)

    traced = watch.trace(lambda config: RunnableLambda(summarize).invoke(["first page", "other one", "end"], config))
    assert list(prompts_of(traced)) == ["agent"]


def test_the_names_stay_when_texts_change_and_steps_are_added(watch: Watch):
    def program(text: str, steps: int) -> Any:
        builder = StateGraph(MessagesState)
        names = [f"step{n}" for n in range(steps)]
        for name in names:
            builder.add_node(name, lambda state: {})
        builder.add_node("write", lambda s: {"messages": [model("ok").invoke([SystemMessage(text), *s["messages"]])]})
        builder.add_edge(START, ([*names, "write"])[0])
        for first, second in pairwise([*names, "write"]):
            builder.add_edge(first, second)
        return lambda config: builder.compile().invoke(ASKED, config)

    assert prompts_of(watch.trace(program("You write.", 0))) == {"agent/write": {"You write."}}
    assert prompts_of(watch.trace(program("Write well.", 2))) == {"agent/write": {"Write well."}}


@dataclass
class Context:
    name: str
    plan: str = "free"


def test_ten_users_in_a_dynamic_prompt_are_one_version(watch: Watch):
    agents = pytest.importorskip("langchain.agents")
    middleware = pytest.importorskip("langchain.agents.middleware")

    @middleware.dynamic_prompt
    def prompt(request: Any) -> str:
        context = request.runtime.context
        return f"You help {context.name} ({context.plan}). It is {datetime.now(UTC)}. Feel free to ask."

    def program(config: Config) -> None:
        for number in range(10):
            agent = agents.create_agent(model("Five."), [], middleware=[prompt], context_schema=Context)
            agent.invoke(ASKED, config, context=Context(f"User {number}"))

    traced = watch.trace(program)
    assert prompts_of(traced) == {"agent/model": {"You help {{name}} (free). It is {{datetime}}. Feel free to ask."}}
    assert len({m["properties"]["prompt_version"] for m in traced.of_type("llm")}) == 1
    assert {m["prompt"]["variables"]["name"] for m in traced.of_type("llm")} == {f"User {n}" for n in range(10)}


def test_values_of_state_configuration_and_metadata_are_variables(watch: Watch):
    class State(MessagesState):
        customer: dict[str, str]

    def node(state: State, config: Any) -> dict[str, Any]:
        given, tenant = config["configurable"], config["metadata"]["tenant"]
        text = f"Help {state['customer']['name']} of {tenant} in {given['language']} ({given['user_id']})."
        return {"messages": [model("ok").invoke([SystemMessage(text), *state["messages"]])]}

    node.__annotations__["config"] = __import__("langchain_core.runnables", fromlist=["RunnableConfig"]).RunnableConfig
    graph = StateGraph(State).add_node("node", node).add_edge(START, "node").compile()

    def program(config: Config) -> None:
        for name in ("Anna", "Bob"):
            more = {"configurable": {"language": "English", "user_id": f"u-{name}"}, "metadata": {"tenant": "ACME"}}
            graph.invoke({**ASKED, "customer": {"name": name}}, {**config, **more})

    text = "Help {{customer_name}} of {{tenant}} in {{language}} ({{user_id}})."
    assert prompts_of(watch.trace(program)) == {"agent/node": {text}}


RAG = "You are a clerk. Use the context.\nContext: {context}\nQuestion: {question}"


def test_a_template_of_a_user_message_is_a_prompt_of_type_user(watch: Watch):
    given = {"context": "Open at 9.", "question": "When?"}
    traced = watch.trace(
        lambda config: (ChatPromptTemplate.from_template(RAG) | model("At nine.")).invoke(given, config)
    )
    assert traced.of_type("llm")[0]["prompt"] == {
        "externalPromptId": "agent[context,question]",
        "components": [
            {"content": RAG.replace("{", "{{").replace("}", "}}"), "type": "user"},
        ],
        "variables": given,
    }


def test_user_templates_are_found_in_every_form(watch: Watch):
    def program(config: Config) -> None:
        (PromptTemplate.from_template("Tell me of {topic}.") | model("ok")).invoke({"topic": "cats"}, config)
        (PromptTemplate.from_template("Tell me of {topic}.") | model("ok")).invoke("cats", config)
        model("ok").invoke(
            PromptTemplate.from_template("Tell me of {topic}.").invoke({"topic": "cats"}, config), config
        )
        (ChatPromptTemplate([("human", "{topic}")]) | model("ok")).invoke({"topic": "cats"}, config)

    prompts = [message["prompt"] for message in watch.trace(program).of_type("llm")]
    expected = {
        "externalPromptId": "agent[topic]",
        "components": [{"content": "Tell me of {{topic}}.", "type": "user"}],
        "variables": {"topic": "cats"},
    }
    # The calls are conversations of their own, which arrive in any order.
    assert sorted(prompts, key=lambda prompt: prompt is None) == [expected, expected, expected, None]
