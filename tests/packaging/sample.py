"""A typed program that uses every public name once. It must pass the strictest type checks, and run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from gati import AgentEndEvent, CustomEvent, Event, GatiError, GatiLangChainCallback, LLMCallEvent, observe
from gati.testing import Captured, ScriptedChatModel, capture


def redact(text: str, path: str, kind: str) -> str:
    return text.replace("secret", "***")


@observe.step
def rank(documents: list[str], *, limit: int = 3) -> list[str]:
    return sorted(documents)[:limit]


@observe.tool
def double(number: int) -> int:
    return 2 * number


@observe.step(name="words")
def words(text: str) -> Iterator[str]:
    yield from text.split()


async def asked(model: ScriptedChatModel) -> str:
    async with observe.conversation("c-2", user_id="ada"):
        answer = await model.ainvoke("And twice that?")
    flushed: observe.FlushResult = await observe.aflush(timeout=5.0)
    assert flushed
    return str(answer.content)


def metadata(event: Event) -> str:
    if isinstance(event, LLMCallEvent):
        return f"{event.model}: {event.tokens_in} tokens"
    return event.event_type if isinstance(event, AgentEndEvent) else ""


def main() -> None:
    model = ScriptedChatModel(replies=["4", "8"])
    ranked: list[str] = rank(["b", "a"], limit=1)
    number: int = double(2)
    assert (ranked, number, list(words("a b"))) == (["a"], 4, ["a", "b"])
    captured: Captured
    with capture(agent_name="tutor", mask=redact, properties={"team": "a"}) as captured:
        handler = GatiLangChainCallback()
        with observe.conversation("c-1", user_id=7, properties={"plan": "pro"}), observe.span("ask") as step:
            step.output = {"answer": model.invoke("What is 2 + 2?", {"callbacks": [handler]}).content}
        assert asyncio.run(asked(model)) == "8"
        observe.track_event(CustomEvent(name="clicked"))
        observe.identify_user("ada", name="Ada", organization_id="o-1")
        observe.log_rating(rating=5, rating_max=5, conversation_id="c-1")
        observe.log_event("upgrade", value="149.00", value_type="currency", influence="positive")
        stats: observe.Stats = observe.stats()
        assert stats.faults == {}
    assert ("assistant", "4") in captured.transcript()
    assert [text for turn in captured.turns for event in turn.events if (text := metadata(event))]
    try:
        observe.init(flush_interval=-1.0)
    except GatiError as error:
        print(f"as it should be: {error}")


if __name__ == "__main__":
    main()
