"""Threads, pools and tasks: related work stays in one turn, and unrelated work stays out of it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.runnables.config import ContextThreadPoolExecutor
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

from gati import observe
from tests.scenarios.harness import Config, Watch
from tests.scenarios.scripts import model


def chain(*replies: str) -> Runnable[Any, Any]:
    return ChatPromptTemplate([("human", "{text}")]) | model(*(replies or ("Hello.",))) | StrOutputParser()


TWO_CALLS = """
user_message   "both"
chain_start    both
  llm          gpt-4o-mini 10>5 $ input human:"one" => "One."
  llm          gpt-4o-mini 10>5 $ input human:"two" => "Two."
  assistant_message "One. Two."
  chain_end    completed
"""
# The chain has no model below it then, and is in no conversation.
APART = """
conversation ~
user_message   "one"
llm            gpt-4o-mini 10>5 $
  assistant_message "One."
conversation ~
user_message   "two"
llm            gpt-4o-mini 10>5 $
  assistant_message "Two."
"""


def both(run: Any) -> Runnable[Any, Any]:
    """Return a runnable that calls two models, each through `run`."""

    def call(_: str) -> str:
        calls = [run(model("One.").invoke, "one"), run(model("Two.").invoke, "two")]
        return " ".join(done.result().text for done in calls)

    return RunnableLambda(call, name="both")


def thread(function: Any, given: str) -> Future[BaseMessage]:
    done: Future[BaseMessage] = Future()
    threading.Thread(target=lambda: done.set_result(function(given))).start()
    return done


def test_threads_that_copy_the_context_stay_in_the_turn(watch: Watch):
    def carried(function: Any, given: str) -> Future[BaseMessage]:
        return thread(lambda text: contextvars.copy_context().run(function, text), given)

    def copied(function: Any, given: str) -> Future[BaseMessage]:
        context = contextvars.copy_context()
        return thread(lambda text: context.run(function, text), given)

    with ContextThreadPoolExecutor(2) as pool:
        for run in (copied, pool.submit):
            watch(TWO_CALLS, lambda config, run=run: both(run).invoke("both", config), unordered=True)
    # Copying the context inside the thread is too late.
    watch(APART, lambda config: both(carried).invoke("both", config), explicit="", unordered=True)


def test_threads_without_the_context_are_separate_turns(watch: Watch):
    # An explicit handler does not reach them, because LangChain passes it on through the context.
    with ThreadPoolExecutor(2) as pool:
        for run in (thread, pool.submit):
            watch(APART, lambda config, run=run: both(run).invoke("both", config), explicit="", unordered=True)


def test_a_thread_that_receives_the_config_stays_in_the_turn(watch: Watch):
    def call(_: str, config: Any) -> str:
        with ThreadPoolExecutor(2) as pool:
            called = [
                pool.submit(model(answer).invoke, question, config)
                for answer, question in (("One.", "one"), ("Two.", "two"))
            ]
            return " ".join(done.result().text for done in called)

    watch(TWO_CALLS, lambda config: RunnableLambda(call, name="both").invoke("both", config), unordered=True)


def test_tasks_and_gathered_calls_stay_in_the_turn(watch: Watch):
    async def gathered(_: str) -> str:
        return " ".join(
            m.text for m in await asyncio.gather(model("One.").ainvoke("one"), model("Two.").ainvoke("two"))
        )

    async def tasks(_: str) -> str:
        one = asyncio.create_task(model("One.").ainvoke("one"))
        two = asyncio.create_task(model("Two.").ainvoke("two"))
        return f"{(await one).text} {(await two).text}"

    async def threads(_: str) -> str:
        one = asyncio.to_thread(model("One.").invoke, "one")
        two = asyncio.to_thread(model("Two.").invoke, "two")
        return " ".join(m.text for m in await asyncio.gather(one, two))

    for function in (gathered, tasks, threads):

        async def program(config: Config, function: Any = function) -> Any:
            return await RunnableLambda(function, name="both").ainvoke("both", config)

        watch(TWO_CALLS, program, unordered=True)


def test_the_executor_of_the_event_loop_has_no_context(watch: Watch):
    async def executor(_: str) -> str:
        loop = asyncio.get_running_loop()
        one = await loop.run_in_executor(None, model("One.").invoke, "one")
        two = await loop.run_in_executor(None, model("Two.").invoke, "two")
        return f"{one.text} {two.text}"

    async def program(config: Config) -> Any:
        return await RunnableLambda(executor, name="both").ainvoke("both", config)

    watch(APART, program, explicit="", unordered=True)


def test_work_that_ends_after_its_turn_is_added_to_it(watch: Watch):
    async def program(config: Config) -> Any:
        gate, tasks = asyncio.Event(), []

        async def remember(text: str) -> str:
            await gate.wait()
            return (await model("Noted.").ainvoke(f"Remember: {text}")).text

        async def reply(text: str) -> str:
            tasks.append(asyncio.create_task(RunnableLambda(remember).ainvoke(text)))
            await asyncio.sleep(0)  # the task starts while the turn is running
            return (await model("Hello.").ainvoke(text)).text

        answer = await RunnableLambda(reply).ainvoke("hi", config)
        gate.set()
        return [answer, await tasks[0]]

    watch(
        """
        user_message   "hi"
        chain_start    reply
          llm          gpt-4o-mini 10>5 $
          assistant_message "Hello."
          chain_end    completed
          llm          gpt-4o-mini 10>5 $ internal input human:"Remember: hi" => "Noted."
        """,
        program,
    )


def test_work_that_starts_after_its_turn_is_added_to_it(watch: Watch):
    async def program(config: Config) -> Any:
        gate, tasks = asyncio.Event(), []

        async def remember(text: str) -> str:
            await gate.wait()
            return (await model("Noted.").ainvoke(f"Remember: {text}")).text

        async def reply(text: str) -> str:
            tasks.append(asyncio.create_task(remember(text)))
            return (await model("Hello.").ainvoke(text)).text

        answer = await RunnableLambda(reply).ainvoke("hi", config)
        gate.set()
        return [answer, await tasks[0]]

    watch(
        """
        user_message   "hi"
        chain_start    reply
          llm          gpt-4o-mini 10>5 $
          assistant_message "Hello."
          chain_end    completed
          llm          gpt-4o-mini 10>5 $ internal input human:"Remember: hi" => "Noted."
        """,
        program,
    )


def graph() -> Any:
    def answer(state: MessagesState) -> Config:
        asked = state["messages"][-1].text
        return {"messages": [model(f"You said {asked}.").invoke(state["messages"])]}

    return StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").compile(InMemorySaver())


def expected_of(user: int) -> list[tuple[str, str]]:
    return [
        message
        for turn in range(2)
        for message in (("user", f"{user} says {turn}"), ("assistant", f"You said {user} says {turn}."))
    ]


def assert_no_crosstalk(traced: Any, users: int) -> None:
    conversations: dict[str, list[tuple[str, str]]] = {}
    for message in traced.messages:
        name = message["conversation"]
        assert message["envelope"]["externalUserId"] == name.replace("c-", "u-")
        transcript = conversations.setdefault(name, [])
        if message["messageType"] in ("user_message", "final_response"):
            transcript.append(("user" if message["messageType"] == "user_message" else "assistant", message["content"]))
    assert conversations == {f"c-{user}": expected_of(user) for user in range(users)}


def test_two_hundred_conversations_in_tasks_do_not_mix(watch: Watch):
    async def program(config: Config) -> None:
        app = graph()

        async def run_turns(user: int) -> None:
            own = {**config, "configurable": {"thread_id": f"c-{user}", "user_id": f"u-{user}"}}
            for turn in range(2):
                await app.ainvoke({"messages": [("user", f"{user} says {turn}")]}, own)

        await asyncio.gather(*[run_turns(user) for user in range(200)])

    traced = watch.trace(program)
    assert_no_crosstalk(traced, 200)


def test_fifty_conversations_in_threads_do_not_mix(watch: Watch):
    def program(config: Config) -> None:
        app = graph()

        def run_turns(user: int) -> None:
            with observe.conversation(f"c-{user}", user_id=f"u-{user}"):
                for turn in range(2):
                    app.invoke({"messages": [("user", f"{user} says {turn}")]}, {**config, **thread_of(user)})

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(run_turns, range(50)))

    traced = watch.trace(program, auto_inject=False)
    assert_no_crosstalk(traced, 50)


def thread_of(user: int) -> Config:
    return {"configurable": {"thread_id": f"t-{user}"}}
