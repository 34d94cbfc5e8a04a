"""A chat model that answers from a script: for the demo, the examples and users' own tests."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel, LangSmithParams, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field, PrivateAttr

if TYPE_CHECKING:
    from langchain_core.callbacks import CallbackManagerForLLMRun
    from langchain_core.runnables import Runnable


class ScriptedChatModel(BaseChatModel):
    """A real chat model in every respect but one: what it says is written beforehand.

    It calls tools, streams word by word, and counts tokens (four characters each; what the
    model has seen before its last answer counts as cached).

    Attributes:
        replies: answers in order, the last one again and again: texts, `AIMessage`s, or
            exceptions to raise.
        respond: instead, a function of the messages that returns an answer.
        model_name: under which tokens are priced.
        seconds_per_word: how long each word of a stream takes.
    """

    replies: list[Any] = Field(default_factory=list)
    respond: Callable[[list[BaseMessage]], Any] | None = Field(default=None, exclude=True)
    model_name: str = "gpt-4o-mini"
    streaming: bool = False
    seconds_per_word: float = 0.0

    _used: int = PrivateAttr(default=0)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model_name}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return LangSmithParams(ls_provider="openai", ls_model_name=self.model_name, ls_model_type="chat")

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: str | None = None, **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The model with the definitions of `tools`; which of them it calls is in the script."""
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _next(self, messages: list[BaseMessage]) -> AIMessage:
        if self.respond is not None:
            reply = self.respond(messages)
        else:
            if not self.replies:
                raise ValueError("a ScriptedChatModel needs `replies` or `respond`")
            reply = self.replies[min(self._used, len(self.replies) - 1)]
            self._used += 1
        if isinstance(reply, BaseException):
            raise reply
        message = AIMessage(reply) if isinstance(reply, str) else reply
        usage = message.usage_metadata or _usage(messages, message)
        reason = "tool_calls" if message.tool_calls else "stop"
        return message.model_copy(
            update={
                "usage_metadata": usage,
                "response_metadata": {"model_name": self.model_name, "finish_reason": reason}
                | message.response_metadata,
            }
        )

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        message = self._next(messages)
        time.sleep(self.seconds_per_word * len(_words(message)))
        return ChatResult(generations=[ChatGeneration(message=message)], llm_output={"model_name": self.model_name})

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for piece in _pieces(self._next(messages)):
            time.sleep(self.seconds_per_word)
            chunk = ChatGenerationChunk(message=piece)
            if run_manager:
                run_manager.on_llm_new_token(str(piece.content), chunk=chunk)
            yield chunk


def _words(message: AIMessage) -> list[str]:
    """The words of a text answer, each with the blank behind it."""
    text = message.content if isinstance(message.content, str) else ""
    words = text.split(" ")
    return [word + " " for word in words[:-1]] + [word for word in words[-1:] if word]


def _pieces(message: AIMessage) -> Iterator[AIMessageChunk]:
    """The message as a provider streams it: text, then tool calls, then the numbers."""
    if isinstance(message.content, str):
        for word in _words(message):
            yield AIMessageChunk(content=word)
    else:
        yield AIMessageChunk(content=message.content)
    for index, call in enumerate(message.tool_calls):
        chunk = tool_call_chunk(name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=index)
        yield AIMessageChunk(content="", tool_call_chunks=[chunk])
    yield AIMessageChunk(
        content="",
        usage_metadata=message.usage_metadata,
        response_metadata=message.response_metadata,
        additional_kwargs=message.additional_kwargs,
    )


def _usage(messages: list[BaseMessage], answer: AIMessage) -> UsageMetadata:
    sizes = [_tokens(message) for message in messages]
    seen = max((index for index, message in enumerate(messages) if message.type == "ai"), default=0)
    taken, given = sum(sizes), _tokens(answer)
    return UsageMetadata(
        input_tokens=taken,
        output_tokens=given,
        total_tokens=taken + given,
        input_token_details=InputTokenDetails(cache_read=sum(sizes[:seen])),
    )


def _tokens(message: BaseMessage) -> int:
    calls = getattr(message, "tool_calls", None) or ""
    return 4 + len(f"{message.content}{calls}") // 4
