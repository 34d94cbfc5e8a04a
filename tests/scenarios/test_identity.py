"""Conversation and user ids: order of precedence, and isolation between requests."""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, TypedDict

import httpx
import pytest
from langchain_core.callbacks import AsyncCallbackManager
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.runnables.config import var_child_runnable_config
from langchain_core.tools import StructuredTool
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from gati import observe
from gati.studio.server import listen, uvicorn_server
from gati.testing import capture
from tests.scenarios.harness import Config, TracedRun, Watch
from tests.scenarios.scripts import model
from tests.servers import LocalServer

LEVELS = ("scope", "metadata", "configurable", "defaults")
DEFAULTS: Config = {"conversation_id": "c-defaults", "user_id": "u-defaults", "organization_id": "o-defaults"}
TYPES: dict[str, Callable[[str], Any]] = {
    "str": lambda name: name,
    "int": lambda name: uuid.uuid5(uuid.NAMESPACE_URL, name).int % 10**12,
    "uuid": lambda name: uuid.uuid5(uuid.NAMESPACE_URL, name),
}


def bare_model() -> Runnable[Any, Any]:
    return model("Hello.")


def chain() -> Runnable[Any, Any]:
    return ChatPromptTemplate([("human", "{text}")]) | model("Hello.") | StrOutputParser()


def graph() -> Any:
    def answer(state: MessagesState) -> Config:
        return {"messages": [model("Hello.").invoke(state["messages"])]}

    return StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").compile()


KINDS: dict[str, tuple[Callable[[], Any], Callable[[str], Any]]] = {
    "model": (bare_model, lambda text: text),
    "chain": (chain, lambda text: {"text": text}),
    "graph": (graph, lambda text: {"messages": [("user", text)]}),
}


def run_with(runnable: Any, given: Any, config: Config, way: str) -> None:
    async def consume() -> None:
        async for _ in runnable.astream(given, config):
            pass

    if way == "invoke":
        runnable.invoke(given, config)
    elif way == "ainvoke":
        asyncio.run(runnable.ainvoke(given, config))
    elif way == "stream":
        list(runnable.stream(given, config))
    else:
        asyncio.run(consume())


def ids(label: str, kind: str) -> Config:
    make = TYPES[kind]
    return {f"{what}_id": make(f"{what}-{label}") for what in ("conversation", "user", "organization")}


def identity_of(traced: TracedRun, text: str) -> tuple[str, str, str | None]:
    """Return conversation, user and organization of the turn with this user message."""
    (message,) = [m for m in traced.of_type("user_message") if m["content"] == text]
    envelope = message["envelope"]
    return message["conversation"], envelope["externalUserId"], envelope.get("externalOrganizationId")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("auto_inject", [True, False], ids=["injected", "explicit"])
def test_the_most_specific_source_of_identity_wins(watch: Watch, kind: str, auto_inject: bool):
    make, given = KINDS[kind]
    cases = [
        (level, way, of)
        for level in LEVELS
        for way in ("invoke", "ainvoke", "stream", "astream")
        for of in (TYPES if way == "invoke" else ["str"])
    ]

    def program(config: Config) -> None:
        for level, way, of in cases:
            label = f"{level} {way} {of}"
            sources = LEVELS[LEVELS.index(level) :]  # this level and those that it overrides
            own = {source: ids(label if source == level else f"overridden {source}", of) for source in sources}
            full = {**config, "metadata": own.get("metadata", {}), "configurable": own.get("configurable", {})}
            with observe.conversation(**own["scope"]) if "scope" in own else nullcontext():
                run_with(make(), given(label), full, way)

    traced = watch.trace(program, auto_inject=auto_inject, **DEFAULTS)
    for level, way, of in cases:
        label = f"{level} {way} {of}"
        if level == "defaults" or (level == "configurable" and kind == "model"):
            # LangChain does not pass `configurable` to the callbacks of a bare model. Older versions copied it
            # into the metadata, from which gati reads it.
            expected = tuple(DEFAULTS.values())
            if kind == "model" and identity_of(traced, label) != expected:
                expected = tuple(str(value) for value in ids(label, of).values())
        else:
            expected = tuple(str(value) for value in ids(label, of).values())
        assert identity_of(traced, label) == expected, label


def test_without_identity_a_turn_is_an_anonymous_conversation(watch: Watch):
    traced = watch.trace(lambda config: [chain().invoke({"text": text}, config) for text in ("one", "two")])
    one, two = identity_of(traced, "one"), identity_of(traced, "two")
    assert one[0] != two[0]
    assert one[1:] == two[1:] == ("anonymous", None)


@pytest.mark.parametrize("key", ["conversation_id", "thread_id", "session_id", "langfuse_session_id"])
def test_common_metadata_keys_for_conversations_are_recognized(watch: Watch, key: str):
    traced = watch.trace(lambda config: chain().invoke({"text": "hi"}, {**config, "metadata": {key: "c-9"}}))
    assert identity_of(traced, "hi")[0] == "c-9"


def test_common_metadata_keys_for_users_are_recognized(watch: Watch):
    traced = watch.trace(lambda config: chain().invoke({"text": "hi"}, {**config, "metadata": {"langfuse_user_id": 7}}))
    assert identity_of(traced, "hi")[1] == "7"


def test_each_identity_field_is_resolved_independently(watch: Watch):
    config = {"metadata": {"thread_id": "c-meta"}, "configurable": {"thread_id": "c-conf", "user_id": "u-conf"}}

    def program(extra: Config) -> None:
        with observe.conversation(organization_id="o-scope"):
            graph().invoke({"messages": [("user", "hi")]}, {**extra, **config})

    traced = watch.trace(program, user_id="u-defaults")
    assert identity_of(traced, "hi") == ("c-meta", "u-conf", "o-scope")


def test_inner_scopes_add_to_outer_ones(watch: Watch):
    def program(config: Config) -> None:
        with observe.conversation("c-1", user_id="ada", properties={"plan": "pro"}):
            with observe.conversation(organization_id="acme", properties={"page": "home"}):
                chain().invoke({"text": "inside"}, config)
            chain().invoke({"text": "outside"}, config)

    traced = watch.trace(program)
    assert identity_of(traced, "inside") == ("c-1", "ada", "acme")
    assert identity_of(traced, "outside") == ("c-1", "ada", None)
    properties = {m["content"]: m["envelope"]["properties"] for m in traced.of_type("user_message")}
    assert properties["inside"] == {"agent_name": "agent", "plan": "pro", "page": "home"}
    assert properties["outside"] == {"agent_name": "agent", "plan": "pro"}


def test_a_decorated_function_is_a_conversation(watch: Watch):
    @observe.conversation("c-1", user_id="ada")
    def ask(text: str, config: Config) -> Any:
        return chain().invoke({"text": text}, config)

    @observe.conversation("c-2", user_id="bob")
    async def aask(text: str, config: Config) -> Any:
        return await chain().ainvoke({"text": text}, config)

    def program(config: Config) -> None:
        ask("one", config)
        asyncio.run(aask("two", config))
        chain().invoke({"text": "three"}, config)

    traced = watch.trace(program)
    assert identity_of(traced, "one")[:2] == ("c-1", "ada")
    assert identity_of(traced, "two")[:2] == ("c-2", "bob")
    assert identity_of(traced, "three")[1] == "anonymous"


@pytest.mark.parametrize(
    "attach",
    [
        lambda runnable: runnable.invoke({"text": "hi"}, {"callbacks": observe.get_callbacks(), "metadata": META}),
        lambda runnable: runnable.with_config(callbacks=observe.get_callbacks(), metadata=META).invoke({"text": "hi"}),
        lambda runnable: runnable.with_config(callbacks=observe.get_callbacks()).invoke(
            {"text": "hi"}, {"metadata": META}
        ),
    ],
    ids=["at invoke", "both by with_config", "handler by with_config"],
)
def test_the_handler_may_be_attached_anywhere(watch: Watch, attach: Callable[[Any], Any]):
    traced = watch.trace(lambda config: attach(chain()), auto_inject=False)
    assert identity_of(traced, "hi") == ("c-1", "ada", None)
    assert [m["messageType"] for m in traced.messages] == [
        "user_message", "chain_start", "llm", "assistant_message", "chain_end",
    ]  # fmt: skip


META = {"conversation_id": "c-1", "user_id": "ada"}


def test_a_handler_on_the_model_records_only_its_calls(watch: Watch):
    def program(config: Config) -> Any:
        watched = model("Hello.", callbacks=observe.get_callbacks())
        return (ChatPromptTemplate([("human", "{text}")]) | watched).invoke({"text": "hi"}, {"metadata": META})

    traced = watch.trace(program, auto_inject=False)
    assert identity_of(traced, "hi") == ("c-1", "ada", None)
    assert [m["messageType"] for m in traced.messages] == ["user_message", "llm", "assistant_message"]


# -- requests of a web server --------------------------------------------------------------------


async def answer(request: Request) -> JSONResponse:
    given = dict(request.query_params)
    text, user = given["text"], given.get("user")
    with observe.conversation(f"c-{user}", user_id=user) if user else nullcontext():
        if request.url.path == "/threads":
            await run_in_threadpool(chain().invoke, {"text": text})
        else:
            await chain().ainvoke({"text": text})
    return JSONResponse("done")


@pytest.fixture
def app() -> Iterator[str]:
    listener = listen()
    routes = [Route("/async", answer), Route("/threads", answer)]
    runner = uvicorn_server(Starlette(routes=routes))
    thread = threading.Thread(target=runner.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    runner.should_exit = True
    thread.join(10)
    listener.close()


@pytest.mark.parametrize("path", ["async", "threads"])
def test_identity_does_not_leak_into_the_next_request_of_a_connection(watch: Watch, app: str, path: str):
    def program(config: Config) -> None:
        with httpx.Client(base_url=app) as client:
            for user in ("ada", "", "bob", ""):
                client.get(f"/{path}", params={"text": f"I am {user or 'nobody'}", **({"user": user} if user else {})})

    traced = watch.trace(program)
    users = sorted((m["content"], m["envelope"]["externalUserId"]) for m in traced.of_type("user_message"))
    assert users == [
        ("I am ada", "ada"), ("I am bob", "bob"), ("I am nobody", "anonymous"), ("I am nobody", "anonymous"),
    ]  # fmt: skip
    assert len({m["conversation"] for m in traced.of_type("user_message")}) == 4


# -- who, inside a graph -----------------------------------------------------------------------------


@dataclass
class Context:
    user_id: str
    organization_id: str | None = None


@dataclass(slots=True)
class SlotsContext:
    user_id: str


class ModelContext(BaseModel):
    user_id: str


class DictContext(TypedDict):
    user_id: str


@contextmanager
def servers_config(config: Any) -> Iterator[None]:
    """Set a running config that belongs to no run, as LangGraph Server does around everything."""
    token = var_child_runnable_config.set(config)
    try:
        yield
    finally:
        var_child_runnable_config.reset(token)


AMBIENT: list[Any] = [
    None,
    {},
    {"configurable": {"__pregel_runtime": None}},
    {"configurable": {"user_id": "u-somebody-else", "organization_id": "o-somebody-else"}},
    {"callbacks": AsyncCallbackManager([], parent_run_id=uuid.uuid4()), "configurable": {"user_id": "u-else"}},
]


@pytest.mark.parametrize("ambient", AMBIENT, ids=["none", "empty", "runtime", "user", "callbacks"])
@pytest.mark.parametrize("kind", ["chain", "graph"])
@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
def test_only_the_config_of_a_run_names_the_user(watch: Watch, ambient: Any, way: str, kind: str):
    make, given = KINDS[kind]
    own: Config = {"configurable": {"thread_id": "c-1", "user_id": "u-1", "organization_id": "o-1"}}

    def program(config: Config) -> None:
        with servers_config(ambient):
            run_with(make(), given("hi"), {**config, **own}, way)

    traced = watch.trace(program)
    assert identity_of(traced, "hi") == ("c-1", "u-1", "o-1")


def in_batch(made: Any, value: Any, configs: list[Any]) -> None:
    made.batch([value] * len(configs), configs)


def in_abatch(made: Any, value: Any, configs: list[Any]) -> None:
    asyncio.run(made.abatch([value] * len(configs), configs))


def with_config(made: Any, value: Any, configs: list[Any]) -> None:
    for config in configs:
        made.with_config(config).invoke(value)


def one_by_one(way: str) -> Callable[[Any, Any, list[Any]], None]:
    def call(made: Any, value: Any, configs: list[Any]) -> None:
        for config in configs:
            run_with(made, value, config, way)

    return call


def in_a_step(made: Any, value: Any, configs: list[Any]) -> None:
    for config in configs:
        observe.step(lambda text, config=config: made.invoke(value, config))("hi")


CALLS = {way: one_by_one(way) for way in ("invoke", "ainvoke", "stream", "astream")}
CALLS |= {call.__name__: call for call in (in_batch, in_abatch, with_config, in_a_step)}


@pytest.mark.parametrize("ambient", AMBIENT, ids=["none", "empty", "runtime", "user", "callbacks"])
@pytest.mark.parametrize(
    ("call", "kind"), [(c, k) for c in CALLS for k in ("model", "chain") if (c, k) != ("in_a_step", "model")]
)
def test_the_config_of_a_call_names_the_conversation_without_a_running_config(call: str, kind: str, ambient: Any):
    made, value = (model("Hello.", "Hello."), "hi") if kind == "model" else (chain(), {"text": "hi"})
    configs = [{"configurable": {"thread_id": key, "user_id": f"u-{key}", "organization_id": "o"}} for key in "ab"]
    with capture() as captured, servers_config(ambient):
        CALLS[call](made, value, configs)
    told = sorted((c.id, c.user_id, c.organization_id) for c in (turn.conversation for turn in captured.turns))
    assert told == [("a", "u-a", "o"), ("b", "u-b", "o")]


@pytest.mark.parametrize("call", ["invoke", "ainvoke"])
def test_the_config_that_a_server_sets_names_nothing_of_a_model_that_is_called_directly(call: str):
    with capture() as captured, servers_config({"configurable": {"thread_id": "else", "user_id": "u-else"}}):
        CALLS[call](model("Hello."), "hi", [{}])
    (turn,) = captured.turns
    assert (turn.conversation.id, turn.conversation.user_id) == (turn.run_id, "anonymous")


def test_the_user_authenticated_by_a_server_counts_if_nothing_else_names_one(watch: Watch):
    authenticated = {"langgraph_auth_user_id": "u-auth"}

    def program(config: Config) -> None:
        for name, own in {
            "metadata": {"metadata": authenticated},
            "configurable": {"configurable": {"thread_id": "c-1", **authenticated}},
            "overridden": {"metadata": authenticated, "configurable": {"user_id": "u-1"}},
            "langfuse": {"metadata": {**authenticated, "langfuse_user_id": "u-2"}},
        }.items():
            graph().invoke({"messages": [("user", name)]}, {**config, **own})

    traced = watch.trace(program, user_id="u-defaults")
    users = {name: identity_of(traced, name)[1] for name in ("metadata", "configurable", "overridden", "langfuse")}
    assert users == {"metadata": "u-auth", "configurable": "u-auth", "overridden": "u-1", "langfuse": "u-2"}


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
@pytest.mark.parametrize(
    "context",
    [Context("u-context", "o-context"), SlotsContext("u-context"), ModelContext(user_id="u-context"),
     DictContext(user_id="u-context")],
    ids=["dataclass", "slots", "pydantic", "dict"],
)  # fmt: skip
def test_the_runtime_context_of_a_graph_names_the_user(watch: Watch, context: Any, way: str):
    def answer(state: MessagesState) -> Config:
        return {"messages": [model("Hello.").invoke(state["messages"])]}

    made = StateGraph(MessagesState, context_schema=type(context)).add_node("answer", answer)
    made = made.add_edge(START, "answer").compile()

    def program(config: Config) -> None:
        bound = partial(getattr(made, way), context=context)
        runner: Any = SimpleNamespace(**{way: bound})
        run_with(runner, {"messages": [("user", "hi")]}, {**config, "configurable": {"thread_id": "c-1"}}, way)

    traced = watch.trace(program)
    organization = "o-context" if isinstance(context, Context) else None
    assert identity_of(traced, "hi") == ("c-1", "u-context", organization)


def test_a_graph_inside_a_chain_names_the_user_of_its_config(watch: Watch):
    def program(config: Config) -> None:
        own: Any = {"configurable": {"user_id": "u-1"}}
        chain: Any = RunnableLambda(lambda text: graph().invoke({"messages": [("user", text)]}, own))
        chain.invoke("hi", config)

    traced = watch.trace(program)
    assert {m["envelope"]["externalUserId"] for m in traced.messages} == {"u-1"}


# -- ratings and events inside a run -----------------------------------------------------------------


def report(text: str) -> None:
    observe.log_rating(rating=1.0)
    observe.log_event("bought", value=text)


def rating_first(state: MessagesState) -> Config:
    report("first")
    return {"messages": [model("Hello.").invoke(state["messages"])]}


def rating_last(state: MessagesState) -> Config:
    reply = model("Hello.").invoke(state["messages"])
    report("last")
    return {"messages": [reply]}


async def rating_in_a_task(state: MessagesState) -> Config:
    await asyncio.to_thread(report, "thread")
    return {"messages": [await model("Hello.").ainvoke(state["messages"])]}


def rating_in_a_tool(state: MessagesState) -> Config:
    rate = StructuredTool.from_function(report, name="rate", description="Rate.")
    rate.invoke({"text": "tool"})
    return {"messages": ["Thanks."]}


def rating_in_a_subgraph(state: MessagesState) -> Config:
    inner = StateGraph(MessagesState).add_node("n", rating_first).add_edge(START, "n").compile()
    return {"messages": inner.invoke({"messages": state["messages"]})["messages"][-1:]}


@pytest.mark.parametrize(
    "node", [rating_first, rating_last, rating_in_a_task, rating_in_a_tool, rating_in_a_subgraph]
)  # fmt: skip
@pytest.mark.parametrize("auto_inject", [True, False], ids=["injected", "explicit"])
def test_a_rating_and_an_event_inside_a_node_belong_to_its_conversation(
    watch: Watch, server: LocalServer, node: Any, auto_inject: bool
):
    thread = f"c-{uuid.uuid4()}"

    async def program(config: Config) -> None:
        made = StateGraph(MessagesState).add_node("n", node).add_edge(START, "n").compile()
        own = {**config, "configurable": {"thread_id": thread, "user_id": "u-1"}}
        await made.ainvoke({"messages": [("user", "hi")]}, own)

    before = len(server.requests)
    watch.trace(program, auto_inject=auto_inject)
    paths = [request.path for request in server.requests[before:]]
    bodies = {request.path: request.body for request in server.requests[before:]}
    assert bodies["/api/v1/ratings"]["externalConversationId"] == thread
    event = bodies["/api/v1/events"]
    assert (event["externalConversationId"], event["externalUserId"]) == (thread, "u-1")
    assert paths.index("/api/v1/messages") < min(paths.index("/api/v1/ratings"), paths.index("/api/v1/events"))


def test_a_rating_outside_of_runs_and_scopes_is_dropped_and_logged(
    server: LocalServer, watch: Watch, caplog: pytest.LogCaptureFixture
):
    with capture(), caplog.at_level(logging.WARNING, "gati"):
        observe.log_rating(rating=1.0)
    assert "`run_id` must be given outside of a conversation" in caplog.text


# -- a product per scope -----------------------------------------------------------------------------


def test_a_scope_sets_the_product_of_its_messages_ratings_and_events(server: LocalServer):
    shop, default = str(uuid.uuid4()), str(uuid.uuid4())
    before = len(server.requests)
    observe.init(api_key=server.api_key, base_url=server.url, product_id=default)
    with observe.conversation("c-shop", product_id=uuid.UUID(shop)):
        chain().invoke({"text": "in the shop"})
        with observe.conversation(user_id="ada"):
            report("in the shop")
    with observe.conversation("c-none", product_id="not a product"):
        chain().invoke({"text": "elsewhere"})
    assert list(observe.stats().faults) == ["conversation.product_id"]
    observe.shutdown()
    products = {
        (request.path.rsplit("/")[-1], request.body["externalConversationId"]): request.body["productId"]
        for request in server.requests[before:]
    }
    assert products == {
        ("messages", "c-shop"): shop,
        ("ratings", "c-shop"): shop,
        ("events", "c-shop"): shop,
        ("messages", "c-none"): default,
    }


def test_a_model_that_a_step_calls_directly_does_not_name_the_steps_conversation():
    helper, talk = model("A greeting."), chain()

    @observe.step
    def handle(text: str, thread: str) -> str:
        helper.invoke(f"Sum up: {text}", {"configurable": {"thread_id": "summary"}})
        return str(talk.invoke({"text": text}, {"configurable": {"thread_id": thread}}))

    with capture() as captured:
        handle("Hello", "ann")
    assert {turn.conversation.id for turn in captured.turns} == {"ann"}
