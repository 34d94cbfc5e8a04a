"""What a program makes beside its answer is not the answer: labels, grades, queries, logs, drafts and notes."""

from __future__ import annotations

import json
import operator
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langgraph.graph import START, MessagesState, StateGraph, add_messages

from gati import observe
from gati.testing import capture
from tests.scenarios.reading import READERS, answers, asked, invoke
from tests.scenarios.scripts import model
from tests.scenarios.test_texts_beside_the_thread import structured

REPLY = "Your order arrives on Monday."
JOKE = "Why do cats purr? Because they can."


def say(text: str, prompt: Any = "Write.") -> str:
    """Return what a model writes."""
    return str(model(text).invoke(prompt).text)


def field(kind: str, name: str, text: str) -> str:
    """Return a text that a model writes as it is, as JSON, or as the only field of a structured output."""
    if kind == "text":
        return say(text)
    return str(
        json.loads(say(json.dumps({name: text})))[name] if kind == "json" else structured("Side", **{name: text})[name]
    )


def in_a_row(state: Any, **nodes: Any) -> Any:
    """Return a graph that runs these nodes one after the other."""
    builder = StateGraph(state)
    before = START
    for name, node in nodes.items():
        builder.add_node(name, node)
        builder.add_edge(before, name)
        before = name
    return builder.compile()


def state_of(**entries: Any) -> Any:
    make: Any = TypedDict
    return make("State", {"topic": str, **entries}, total=False)


def thread_of(**entries: Any) -> Any:
    return state_of(messages=Annotated[list[Any], add_messages], **entries)


def agent(values: Any) -> Any:
    return {"messages": [model(REPLY).invoke(values["messages"])]}


@READERS
@pytest.mark.parametrize("kind", ["text", "json", "structured"])
@pytest.mark.parametrize(
    ("key", "word"), [("response", "safe"), ("answer", "yes"), ("final_decision", "approved"), ("final_score", "9/10")]
)
def test_a_verdict_after_the_last_message_is_not_the_answer(read: Any, kind: str, key: str, word: str) -> None:
    graph = in_a_row(thread_of(**{key: str}), agent=agent, guard=lambda s: {key: field(kind, "grade", word)})
    assert answers(read, graph, asked("Where is it?")) == [REPLY]


@READERS
@pytest.mark.parametrize("key", ["final_summary", "final_topic", "summary"])
def test_a_note_after_the_last_message_is_not_the_answer(read: Any, key: str) -> None:
    graph = in_a_row(thread_of(**{key: str}), agent=agent, memo=lambda s: {key: say("The user asks about an order.")})
    assert answers(read, graph, asked("Where is it?")) == [REPLY]


@pytest.mark.parametrize(
    "form", [lambda m: [m], lambda m: m, lambda m: ("ai", m.text), lambda m: {"role": "ai", "content": m.text}]
)
@pytest.mark.parametrize("key", ["answer", "final_answer"])
def test_a_draft_before_the_last_message_is_not_the_answer(form: Any, key: str) -> None:
    graph = in_a_row(
        thread_of(**{key: str}),
        draft=lambda s: {key: say("A rough draft of the answer.")},
        respond=lambda s: {"messages": form(model(REPLY).invoke(s["messages"]))},
    )
    assert answers(invoke, graph, asked("Where is it?")) == [REPLY]


@pytest.mark.parametrize("footer", ["", "\nSource: handbook"])
def test_a_node_that_calls_a_graph_answers_with_what_it_writes_itself(footer: str) -> None:
    inner = in_a_row(state_of(answer=str), find=lambda s: {"answer": say("It is in the handbook.")})

    def respond(values: Any) -> Any:
        found = inner.invoke({"topic": values["messages"][-1].text})["answer"]
        said = AIMessage(found + footer) if footer else model(f"Gladly: {found}").invoke("Polish it.")
        return {"messages": [said], "answer": found}

    expected = "It is in the handbook." + footer if footer else "Gladly: It is in the handbook."
    assert answers(invoke, in_a_row(thread_of(answer=str), respond=respond), asked("Where is it?")) == [expected]


@READERS
@pytest.mark.parametrize("key", ["final_topic", "final_query"])
def test_what_a_model_refines_for_later_nodes_is_not_the_answer(read: Any, key: str) -> None:
    graph = in_a_row(
        state_of(**{key: str, "joke": str}),
        refine=lambda s: {key: say("Cats who purr in winter")},
        write=lambda s: {"joke": say(JOKE)},
    )
    assert answers(read, graph, {"topic": "cats"}) == [JOKE]


def test_a_label_of_a_node_beside_the_agent_is_not_the_answer() -> None:
    builder = StateGraph(thread_of(response=str))
    builder.add_node("agent", agent)
    builder.add_node("classify", lambda s: {"response": say("category: shipping and returns")})
    builder.add_edge(START, "agent")
    builder.add_edge(START, "classify")
    assert answers(invoke, builder.compile(), asked("Where is it?")) == [REPLY]


@pytest.mark.parametrize("key", ["response", "output", "answer"])
@pytest.mark.parametrize("way", ["graph", "step", "lambda", "sequence", "assign"])
def test_the_label_of_a_router_is_not_the_answer_of_the_program_around_it(key: str, way: str) -> None:
    graph = in_a_row(thread_of(**{key: str}), route=lambda s: {key: say("billing")}, agent=agent)
    label = RunnablePassthrough.assign(**{key: RunnableLambda(lambda values: say("billing"))})
    reply = RunnablePassthrough.assign(
        messages=lambda values: [*values["messages"], model(REPLY).invoke(values["messages"])]
    )
    programs: dict[str, Any] = {
        "graph": lambda text: graph.invoke(asked(text)),
        "step": observe.step(lambda text: graph.invoke(asked(text))),
        "lambda": RunnableLambda(lambda text: graph.invoke(asked(text))).invoke,
        "sequence": (RunnableLambda(asked) | graph).invoke,
        "assign": lambda text: (label | reply).invoke(asked(text)),
    }
    with capture() as captured, observe.conversation("c"):
        programs[way]("Where is it?")
    assert [text for role, text in captured.transcript() if role == "assistant"] == [REPLY]


SIDES = [(kind, "grade", text) for kind in ("text", "json", "structured") for text in ("funny", "8/10")]
SIDES += [
    (kind, name, text)
    for kind in ("json", "structured")
    for name, text in (("title", "Cats purr"), ("query", "a cat purring"))
]


@pytest.mark.parametrize("way", ["graph", "chain", "step"])
@pytest.mark.parametrize(("kind", "name", "text"), SIDES)
def test_a_grade_or_a_title_after_the_text_is_not_the_answer(way: str, kind: str, name: str, text: str) -> None:
    def judge(joke: str) -> str:
        return say(text, "Rate: " + joke) if kind == "text" else field(kind, name, text)

    def work(topic: str) -> Any:
        return {"joke": (joke := say(JOKE)), "side": judge(joke)}

    with capture() as captured, observe.conversation("c"):
        if way == "graph":
            in_a_row(
                state_of(joke=str, side=str),
                write=lambda s: {"joke": say(JOKE)},
                judge=lambda s: {"side": judge(s["joke"])},
            ).invoke({"topic": "cats"})
        elif way == "chain":
            first = RunnablePassthrough.assign(joke=RunnableLambda(lambda values: say(JOKE)))
            (first | RunnablePassthrough.assign(side=lambda values: judge(values["joke"]))).invoke({"topic": "cats"})
        else:
            observe.step(work)("cats")
    assert [said for role, said in captured.transcript() if role == "assistant"] == [JOKE]


@READERS
@pytest.mark.parametrize("key", ["result", "content", "text", "joke"])
@pytest.mark.parametrize("by_reducer", [False, True])
@pytest.mark.parametrize("log_first", [False, True])
def test_a_log_of_what_the_models_wrote_is_not_the_answer(
    read: Any, key: str, by_reducer: bool, log_first: bool
) -> None:
    log: Any = Annotated[str, operator.add] if by_reducer else str
    entries = {"log": log, key: str} if log_first else {key: str, "log": log}

    def finish(values: Any) -> Any:
        final = say(JOKE)
        return {key: final, "log": final if by_reducer else values["log"] + "\n" + final}

    graph = in_a_row(state_of(**entries), draft=lambda s: {"log": say("A first draft about cats.")}, finish=finish)
    assert answers(read, graph, {"topic": "cats"}) == [JOKE]


@pytest.mark.parametrize("old", ["No", "Yes", "Ann is a friend of mine."])
def test_an_answer_that_the_program_carries_from_turn_to_turn_is_told_once(old: str) -> None:
    new = f"Not known to me, nobody called Bob. Yesterday I said: {old} So it is."

    def respond(values: Any) -> Any:
        is_new = "Bob" in values["topic"]
        return {"reply" if is_new else "answer": say(new if is_new else old)}

    graph = in_a_row(state_of(history=list, answer=str, reply=str), respond=respond)
    with capture() as captured, observe.conversation("c"):
        state = graph.invoke({"topic": "Who is Ann?", "history": []})
        graph.invoke({**state, "topic": "Who is Bob?", "history": [HumanMessage("Who is Ann?"), AIMessage(old)]})
    assert [text for role, text in captured.transcript() if role == "assistant"] == [old, new]


@pytest.mark.parametrize("sources_first", [False, True])
def test_sections_and_sources_of_the_same_nodes_do_not_hide_the_sections(sources_first: bool) -> None:
    lists: Any = Annotated[list[Any], operator.add]
    entries = {"sources": lists, "sections": lists} if sources_first else {"sections": lists, "sources": lists}
    builder = StateGraph(state_of(**entries))
    for number in (1, 2):
        text = f"Section number {number}."
        builder.add_node(f"n{number}", lambda s, text=text: {"sections": [say(text)], "sources": [{"url": text}]})
        builder.add_edge(START, f"n{number}")
    (told,) = answers(invoke, builder.compile(), {"topic": "cats"})
    assert sorted(json.loads(told)) == ["Section number 1.", "Section number 2."]


def test_examples_beside_the_question_are_no_history() -> None:
    examples = [[HumanMessage("2 + 2?"), AIMessage("It is 4.")], [HumanMessage("3 + 3?"), AIMessage("It is 6.")]]
    chain = RunnableLambda(
        lambda values: [*[m for e in values["examples"] for m in e], HumanMessage(values["input"])]
    ) | model("It is 8.")
    with capture(import_history=True) as captured, observe.conversation("c"):
        chain.invoke({"input": "4 + 4?", "examples": examples})
    assert captured.transcript() == [("user", "4 + 4?"), ("assistant", "It is 8.")]


@pytest.mark.parametrize("window", [2, 4])
def test_an_answer_at_the_beginning_of_a_window_is_no_greeting(window: int) -> None:
    builder = StateGraph(MessagesState)
    builder.add_node(
        "say", lambda s: {"messages": [model(s["messages"][-1].text.replace("?", "!")).invoke(s["messages"])]}
    )
    builder.add_edge(START, "say")
    graph, history = builder.compile(), []
    with capture() as captured:
        for number in range(4):
            history.append(HumanMessage(f"Question {number}?"))
            history.append(graph.invoke({"messages": history[-window:]})["messages"][-1])
    told = [text for role, text in captured.transcript() if role == "assistant"]
    assert sorted(told) == [f"Question {number}!" for number in range(4)]


@pytest.mark.parametrize(
    "nested", [{"settings": {"tone": "friendly and warm always"}}, {"profile": {"bio": "Twenty years of work. " * 9}}]
)
def test_a_request_is_the_users_message_beside_objects_of_the_program(nested: dict[str, Any]) -> None:
    def frame(values: Any) -> str:
        context = values["settings"]["tone"] if "settings" in values else values["profile"]["bio"]
        return f"Context: {context} Do: {values['request']}"

    with capture() as captured:
        (RunnableLambda(frame) | model(REPLY)).invoke({"name": "Ann", "request": "Plan my trip to Rome", **nested})
    assert captured.transcript() == [("user", "Plan my trip to Rome"), ("assistant", REPLY)]
