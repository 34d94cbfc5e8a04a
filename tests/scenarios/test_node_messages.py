"""Messages that nodes write themselves: canned lines, answers of other clients, and agents' messages with a name."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command

from tests.scenarios.harness import Config, Program, Watch, each_method
from tests.scenarios.scripts import model

ASK = {"messages": [HumanMessage("Where is it?", id="h1")]}


def say(*texts: str, **more: Any) -> Any:
    return lambda state: {"messages": [AIMessage(text, **more) for text in texts]}


def think(*replies: Any) -> Any:
    speaker = model(*replies)
    return lambda state: {"messages": [speaker.invoke(state["messages"])]}


def line(*nodes: Any, **more: Any) -> Any:
    """Return a graph that runs these nodes one after the other."""
    builder, before = StateGraph(MessagesState), START
    for number, node in enumerate(nodes):
        name = f"n{number}"
        builder.add_node(name, node)
        builder.add_edge(before, name)
        before = name
    return builder.compile(name="line", **more)


def texts_only(make: Any, given: Any) -> list[Program]:
    def program(config: Config) -> Any:
        return [m.text for m in make().invoke(given, config)["messages"]]

    async def asynchronous(config: Config) -> Any:
        return [m.text for m in (await make().ainvoke(given, config))["messages"]]

    return [program, asynchronous]


def test_a_line_before_the_answer_is_in_its_task(watch: Watch) -> None:
    watch(
        """
        user_message   "Where is it?"
        chain_start    line
          task         n0 => {"messages":[{"role":"ai","content":"One moment."}]}
          task         n1
          final_response "It comes today."
          chain_end    completed
        """,
        *texts_only(lambda: line(say("One moment."), say("It comes today.")), ASK),
    )


def test_a_pair_is_a_message_of_the_user_and_a_line_of_a_node(watch: Watch) -> None:
    def program(config: Config) -> Any:
        builder = StateGraph(MessagesState)
        builder.add_node("greet", lambda _: {"messages": ("assistant", "Welcome!")})
        builder.add_node("answer", lambda _: {"messages": ("assistant", model("Twelve.").invoke("What is 144?").text)})
        graph = builder.add_edge(START, "greet").add_edge("greet", "answer").compile()
        return graph.invoke({"messages": ("user", "144?")}, config)["messages"][-1].text

    traced = watch.trace(program)
    assert traced.transcript() == [("user", "144?"), ("assistant", "Twelve.")]
    outputs = [task.get("output") for task in traced.of_type("task")]
    assert outputs == [{"messages": [{"role": "assistant", "content": "Welcome!"}]}, None]


def test_lines_after_a_model_are_in_their_tasks(watch: Watch) -> None:
    watch(
        """
        user_message   "Where is it?"
        chain_start    line
          task         n0
            llm        gpt-4o-mini 10>5 $ internal => "Here."
          task         n1 => {"messages":[{"role":"ai","content":"Anything else?"}]}
          task         n2
          final_response "Bye."
          chain_end    completed
        """,
        *texts_only(lambda: line(think("Here."), say("Anything else?"), say("Bye.")), ASK),
    )


def test_a_line_that_a_later_model_receives_is_in_its_input_only(watch: Watch) -> None:
    traced = watch(
        """
        user_message   "Where is it?"
        chain_start    line
          task         n0
          task         n1
            llm        gpt-4o-mini 10>5 $ input ai:"One moment."
          final_response "Here."
          chain_end    completed
        """,
        *texts_only(lambda: line(say("One moment."), think("Here.")), ASK),
    )
    assert len([m for m in traced.messages if "One moment." in str((m.get("input"), m.get("output")))]) == 1


def test_the_nodes_of_a_subgraph_have_their_lines_once(watch: Watch) -> None:
    traced = watch.trace(
        texts_only(lambda: line(line(say("One moment."), say("Still looking.")), say("Here.")), ASK)[0]
    )
    lines = [m["output"]["messages"] for m in traced.of_type("task") if "messages" in m.get("output", {})]
    assert [[item["content"] for item in group] for group in lines] == [["One moment."], ["Still looking."]]
    assert traced.transcript()[-1] == ("assistant", "Here.")


def test_a_repeated_line_is_reported_in_each_turn(watch: Watch) -> None:
    def program(config: Config) -> Any:
        own = {**config, "configurable": {"thread_id": "c-1"}}
        graph = line(say("One moment."), say("Here."), checkpointer=InMemorySaver())
        for question in ("Where?", "And now?"):
            graph.invoke({"messages": [("user", question)]}, own)

    for options in ({}, {"submission": "incremental"}):
        traced = watch.trace(program, **options)
        assert [m["properties"]["node"] for m in traced.of_type("task") if "output" in m] == ["n0", "n0"]


def test_other_values_and_pictures_of_a_node_are_kept(watch: Watch) -> None:
    picture = {"type": "image", "base64": "aGVsbG8=", "mime_type": "image/png"}

    def draw(state: MessagesState) -> Any:
        return {"messages": [AIMessage([picture]), SystemMessage("Drawn.")]}

    traced = watch.trace(lambda config: line(draw, say("Here.")).invoke(ASK, config))
    (first, system) = traced.of_type("task")[0]["output"]["messages"]
    assert first["content"][0]["base64"]["bytes"] == 5
    assert system == {"role": "system", "content": "Drawn."}


def test_texts_of_models_tools_and_users_are_not_repeated(watch: Watch) -> None:
    speaker = model("Here.")

    def wrap(state: MessagesState) -> Any:
        text = speaker.invoke(state["messages"]).text
        return {"messages": [HumanMessage("Where is it?"), ToolMessage("12", tool_call_id="c1"), AIMessage(text)]}

    traced = watch.trace(lambda config: line(wrap, say("Bye.")).invoke(ASK, config))
    assert all("messages" not in m.get("output", {}) for m in traced.of_type("task"))


# -- agents ---------------------------------------------------------------------------------------


def team(*picks: str, post: str = "{}", models: bool = True) -> Any:
    """Return a supervisor's graph whose workers answer with the user's role and their name."""
    boss = model(*picks)
    builder = StateGraph(MessagesState)

    def supervisor(state: MessagesState) -> Command[Literal["researcher", "coder", "__end__"]]:
        goto: Any = boss.invoke([SystemMessage("You supervise."), *state["messages"]]).text
        return Command(goto="__end__" if goto == "FINISH" else goto)

    def worker(name: str, text: str) -> Any:
        speaker = model(text)

        def work(state: MessagesState) -> Command[Literal["supervisor"]]:
            said = speaker.invoke(state["messages"]).text if models else text
            return Command(update={"messages": [HumanMessage(post.format(said), name=name)]}, goto="supervisor")

        return work

    builder.add_node("supervisor", supervisor)
    builder.add_node("researcher", worker("researcher", "2.1m people."))
    builder.add_node("coder", worker("coder", "1449."))
    builder.add_edge(START, "supervisor")
    return builder.compile(name="team")


QUESTION = {"messages": [HumanMessage("Root of the population?", id="h1")]}


def test_the_last_agents_message_is_the_answer(watch: Watch) -> None:
    traced = watch(
        """
        prompt agent/supervisor "You supervise."
        user_message   "Root of the population?"
        chain_start    team
          task         supervisor
            llm        gpt-4o-mini 10>5 $ internal => "researcher"
          task         researcher
            llm        gpt-4o-mini 10>5 $ internal => "2.1m people."
          task         supervisor
            llm        gpt-4o-mini 10>5 $ internal input ai:"2.1m people." => "coder"
          task         coder
            llm        gpt-4o-mini 10>5 $
          task         supervisor
            llm        gpt-4o-mini 10>5 $ internal input ai:"1449." => "FINISH"
          final_response "1449."
          chain_end    completed
        """,
        *texts_only(lambda: team("researcher", "coder", "FINISH"), QUESTION),
    )
    assert traced.transcript() == [("user", "Root of the population?"), ("assistant", "1449.")]


@pytest.mark.parametrize("models", [True, False], ids=["models", "other clients"])
@pytest.mark.parametrize("post", ["{}", "Result: {}"])
def test_agents_words_are_never_the_users(watch: Watch, post: str, models: bool) -> None:
    def program(config: Config) -> Any:
        own = {**config, "metadata": {"conversation_id": "c-1"}}
        graph = team("researcher", "coder", "FINISH", "coder", "FINISH", post=post, models=models)
        history: list[BaseMessage] = graph.invoke(QUESTION, own)["messages"]
        graph.invoke({"messages": [*history, ("user", "Again?")]}, own)

    answer = post.format("1449.")
    traced = watch.trace(program)
    assert traced.transcript() == [
        ("user", "Root of the population?"), ("assistant", answer), ("user", "Again?"), ("assistant", answer),
    ]  # fmt: skip
    assert "2.1m people." in str([(m.get("input"), m.get("output")) for m in traced.messages])


@pytest.mark.parametrize("role", [{"role": "user"}, {"type": "human"}], ids=["role", "type"])
@pytest.mark.parametrize("has_thread", [True, False], ids=["thread", "history"])
def test_an_agents_message_in_a_dict_is_an_answer(watch: Watch, role: dict[str, str], has_thread: bool) -> None:
    speaker = model("2.1m people.")

    def work(state: MessagesState) -> Any:
        said = speaker.invoke(state["messages"]).text
        return {"messages": [{**role, "content": f"Result: {said}", "name": "researcher"}]}

    def program(config: Config) -> Any:
        graph = line(work, checkpointer=InMemorySaver() if has_thread else None)
        own = {**config, "configurable": {"thread_id": "t-1"}}
        history = graph.invoke({"messages": [("user", "How many?")]}, own)["messages"]
        graph.invoke({"messages": [*([] if has_thread else history), HumanMessage("Again?")]}, own)

    answer = ("assistant", "Result: 2.1m people.")
    assert watch.trace(program).transcript() == [("user", "How many?"), answer, ("user", "Again?"), answer]


def test_persons_with_names_stay_users(watch: Watch) -> None:
    def program(config: Config) -> Any:
        own = {**config, "configurable": {"thread_id": "c-1"}}
        graph = line(think("Hello Ada.", "Hello Bob."), checkpointer=InMemorySaver())
        for name in ("Ada", "Bob"):
            graph.invoke({"messages": [HumanMessage(f"I am {name}", name=name)]}, own)

    assert watch.trace(program).transcript() == [
        ("user", "I am Ada"), ("assistant", "Hello Ada."), ("user", "I am Bob"), ("assistant", "Hello Bob."),
    ]  # fmt: skip


def test_each_way_to_call_a_team_is_the_same(watch: Watch) -> None:
    for program in each_method(lambda: team("coder", "FINISH"), QUESTION):
        assert watch.trace(program).transcript() == [("user", "Root of the population?"), ("assistant", "1449.")]
