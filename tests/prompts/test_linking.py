"""Model calls are linked to managed prompts by the texts that these rendered, in real programs."""

from __future__ import annotations

import hashlib
import pickle
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import TodoListMiddleware, dynamic_prompt, wrap_model_call
from langchain_core.messages import AnyMessage, HumanMessage, SystemMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

from gati import observe, prompts
from gati.testing import ScriptedChatModel
from gati.trace import managed_prompts
from tests.prompts.conftest import ManagedProgram

TEXT = 'You are the support agent of {{company}}. Answer {{who}} in JSON: {"answer": …}'
REFERENCE = {"externalPromptId": "support/agent", "variables": {"company": "A & B", "who": "Ada"}}
VALUES = {"company": "A & B", "who": "Ada"}


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


def model() -> ScriptedChatModel:
    return ScriptedChatModel(replies=["Hello."])


def ask(runnable: Any) -> None:
    with observe.conversation("c", user_id="u"):
        runnable.invoke({"messages": [HumanMessage("Hi")]})


def managed() -> prompts.ManagedPrompt:
    return prompts.get("support/agent")


def agent_with_system_prompt() -> Any:
    return create_agent(model(), [], system_prompt=managed().text(**VALUES))


def agent_with_dynamic_prompt() -> Any:
    @dynamic_prompt
    def prompt(request: Any) -> str:
        return managed().text(**VALUES)

    return create_agent(model(), [], middleware=[prompt])


def agent_with_middleware() -> Any:
    @wrap_model_call
    def prompt(request: Any, handler: Any) -> Any:
        return handler(request.override(system_prompt=managed().text(**VALUES)))

    return create_agent(model(), [], system_prompt="Another one.", middleware=[prompt])


def graph_with_a_node() -> Any:
    def node(state: State) -> Any:
        return {"messages": [model().invoke([SystemMessage(managed().text(**VALUES)), *state["messages"]])]}

    graph = StateGraph(State)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    graph.add_edge("node", END)
    return graph.compile()


def node_with_blocks_and_white_space() -> Any:
    def node(state: State) -> Any:
        text = f"  {managed().text(**VALUES)}\n"
        system = SystemMessage([{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}])
        return {"messages": [model().invoke([system, *state["messages"]])]}

    graph = StateGraph(State)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    return graph.compile()


def chain_with_a_template() -> Any:
    template = managed().template() + MessagesPlaceholder("messages")
    return (lambda state: {**state, **VALUES}) | template | model()


def chain_with_messages_of_a_template() -> Any:
    messages = [*managed().template().messages, MessagesPlaceholder("messages")]
    return (lambda state: {**state, **VALUES}) | ChatPromptTemplate.from_messages(messages) | model()


def chain_with_another_template_around_the_text() -> Any:
    template = ChatPromptTemplate.from_messages(
        [SystemMessage(managed().text(**VALUES)), MessagesPlaceholder("messages")]
    )
    return template | model()


PROGRAMS = [
    agent_with_system_prompt, agent_with_dynamic_prompt, agent_with_middleware, graph_with_a_node,
    node_with_blocks_and_white_space, chain_with_a_template, chain_with_messages_of_a_template,
    chain_with_another_template_around_the_text,
]  # fmt: skip


@pytest.mark.parametrize("make", PROGRAMS, ids=lambda make: make.__name__)
def test_a_call_refers_to_the_managed_prompt_with_its_variables(program: ManagedProgram, make: Any):
    program.add_version("support/agent", TEXT)
    ask(make())
    assert program.system_prompts() == [REFERENCE]
    (call,) = program.model_calls()
    assert call["prompt_id"] == "support/agent"
    assert call["prompt_version"] == hashlib.sha256(TEXT.encode()).hexdigest()[:12] == managed().version
    assert observe.stats().faults == {}


@pytest.mark.parametrize("make", [agent_with_system_prompt, graph_with_a_node], ids=lambda make: make.__name__)
async def test_a_call_of_an_async_program_refers_to_the_prompt(program: ManagedProgram, make: Any):
    program.add_version("support/agent", TEXT)
    assert (await prompts.aget("support/agent")).content == TEXT
    async with observe.conversation("c"):
        await make().ainvoke({"messages": [HumanMessage("Hi")]})
    assert program.system_prompts() == [REFERENCE]


def test_a_template_renders_the_same_text_without_escaping(program: ManagedProgram):
    program.add_version("support/agent", TEXT)
    (message,) = managed().template().invoke(VALUES).to_messages()
    assert message.content == managed().text(**VALUES) == TEXT.replace("{{company}}", "A & B").replace("{{who}}", "Ada")


def test_the_store_keeps_one_version_whatever_the_values_are(program: ManagedProgram):
    program.add_version("support/agent", TEXT)
    for who in ("Ada", "Bob", "Cyd"):
        with observe.conversation(who):
            create_agent(model(), [], system_prompt=managed().text(company="X", who=who)).invoke({"messages": "Hi"})
    assert observe.flush(timeout=20.0)
    db = program.server.store.connections
    with db.reading() as reading:
        rows = reading.execute("SELECT managed, uses FROM prompt_versions").fetchall()
    assert [(row["managed"], row["uses"]) for row in rows] == [(1, 3)]


def test_a_fallback_is_reported_under_a_name_of_its_own(program: ManagedProgram):
    text = prompts.get("support/agent", fallback="Help {{who}} with everything.").text(who="Ada")
    ask(create_agent(model(), [], system_prompt=text))
    assert program.system_prompts() == [
        {
            "externalPromptId": "support/agent:fallback",
            "components": [{"content": "Help {{who}} with everything.", "type": "system"}],
            "variables": {"who": "Ada"},
        }
    ]


def test_a_text_rendered_long_ago_is_recognized_by_its_template(
    program: ManagedProgram, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(managed_prompts, "MAX_TEXTS", 8)
    program.add_version("support/agent", TEXT)
    agent = agent_with_system_prompt()
    for number in range(100):
        managed().text(company="Z", who=str(number))
    assert len(managed_prompts.managed_prompts._texts) <= 8
    ask(agent)
    assert program.system_prompts() == [REFERENCE]


def test_a_text_that_another_process_rendered_is_recognized_by_its_template(program: ManagedProgram):
    program.add_version("support/agent", TEXT)
    text = managed().text(**VALUES)
    managed_prompts.managed_prompts.clear()
    managed().template()
    ask(create_agent(model(), [], system_prompt=text))
    assert program.system_prompts() == [REFERENCE]


@pytest.mark.parametrize("who", ["Ada", "Bob"])
def test_text_that_middleware_adds_makes_another_prompt_with_the_same_variables(program: ManagedProgram, who: str):
    program.add_version("support/agent", TEXT)
    text = managed().text(company="X", who=who)
    ask(create_agent(model(), [], system_prompt=text, middleware=[TodoListMiddleware()]))
    (prompt,) = program.system_prompts()
    first, second = prompt["components"]
    assert (first["content"], first["name"]) == (TEXT, "support/agent")
    assert "write_todos" in second["content"]
    assert prompt["externalPromptId"] == "support/model"
    assert prompt["variables"] == {"company": "X", "who": who}


def test_text_before_a_managed_prompt_makes_another_prompt_with_the_same_variables(program: ManagedProgram):
    program.add_version("support/agent", TEXT)
    system = f"Be kind.\n\n{managed().text(**VALUES)}"
    ask(create_agent(model(), [], system_prompt=system))
    (prompt,) = program.system_prompts()
    assert [part["content"] for part in prompt["components"]] == ["Be kind.", f"\n\n{TEXT}"]
    assert prompt["variables"] == VALUES


def test_other_prompts_are_not_taken_for_managed_ones(program: ManagedProgram):
    program.add_version("any", "{{all}}")
    prompts.get("any").text(all="x")
    ask(create_agent(model(), [], system_prompt="You are a poet."))
    (prompt,) = program.system_prompts()
    assert prompt["content"] == "You are a poet."


def test_a_template_with_sections_keeps_its_plain_values(program: ManagedProgram):
    program.add_version("support/agent", "Be kind.{{#vip}} {{name}} is a VIP.{{/vip}}")
    prompt = managed()
    assert prompt.text(vip=True, name="Ada") == "Be kind. Ada is a VIP."
    chain = prompt.template() + MessagesPlaceholder("messages") | model()
    with observe.conversation("c"):
        chain.invoke({"vip": {"name": "Bob"}, "messages": [HumanMessage("Hi")]})
    assert program.system_prompts() == [{"externalPromptId": "support/agent"}]


@pytest.mark.parametrize(
    ("fault", "rest"), [("unknown_prompt", [None]), ("no_prompt_variables", [{"externalPromptId": "support/agent"}])]
)
def test_messages_are_delivered_if_the_server_refuses_the_reference(
    program: ManagedProgram, fault: str, rest: list[Any]
):
    program.add_version("support/agent", TEXT)
    agent = agent_with_system_prompt()
    program.server.faults.add(program.server.faults.create(fault))
    ask(agent)
    result = observe.flush(timeout=20.0)
    assert result
    assert result.rejected == 0
    (call,) = program.model_calls()
    assert call["prompt_id"] == "support/agent"
    assert [body.get("systemPrompt") for body in program.server.bodies()] == rest


def test_the_embedded_store_gets_the_text_beside_greenflash(greenflash: Any, program: ManagedProgram, tmp_path: Any):
    from gati.store.store import Store

    observe.init(
        api_key=greenflash.api_key, base_url=greenflash.url, product_id="0b9f1c5e-7a44-4c63-9f0e-5f2b1f7c3a10",
        local=tmp_path / "store.db",
    )  # fmt: skip
    program.add_version("support/agent", TEXT)
    ask(agent_with_system_prompt())
    assert REFERENCE in program.system_prompts()
    store = Store(tmp_path / "store.db")
    with store.connections.reading() as db:
        (row,) = db.execute("SELECT body FROM prompt_versions").fetchall()
    store.close()
    assert TEXT in row["body"].replace('\\"', '"')


def test_a_managed_prompt_can_be_pickled(program: ManagedProgram):
    program.add_version("support/agent", TEXT)
    copied = pickle.loads(pickle.dumps(managed()))
    assert copied == managed()
    assert copied.text(**VALUES) == managed().text(**VALUES)
