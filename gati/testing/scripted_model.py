"""A chat model with predefined replies, for tests, examples and the demo."""

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
    """A LangChain chat model that replies from a script instead of calling a provider.

    It can call tools, streams word by word, and counts one token per four characters. Messages up to its last reply
    count as cached tokens.

    Attributes:
        replies: Replies in order; the last one repeats. Each is a string, an `AIMessage`, or an exception to raise.
        respond: A function from the messages to a reply, used instead of `replies`.
        model_name: The model whose prices apply.
        streaming: Stream also for `invoke`.
        seconds_per_word: Delay per word.
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
        """Bind the definitions of `tools`. The script decides which of them are called."""
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
        usage = message.usage_metadata or _count_usage(messages, message)
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
        time.sleep(self.seconds_per_word * len(_split_words(message)))
        return ChatResult(generations=[ChatGeneration(message=message)], llm_output={"model_name": self.model_name})

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for message_chunk in _split_chunks(self._next(messages)):
            time.sleep(self.seconds_per_word)
            chunk = ChatGenerationChunk(message=message_chunk)
            if run_manager:
                run_manager.on_llm_new_token(str(message_chunk.content), chunk=chunk)
            yield chunk


def _split_words(message: AIMessage) -> list[str]:
    """Split a text reply into words, each with its trailing space."""
    text = message.content if isinstance(message.content, str) else ""
    words = text.split(" ")
    return [word + " " for word in words[:-1]] + [word for word in words[-1:] if word]


def _split_chunks(message: AIMessage) -> Iterator[AIMessageChunk]:
    """Split a message into chunks as a provider streams them: text, then tool calls, then usage."""
    if isinstance(message.content, str):
        for word in _split_words(message):
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


def _count_usage(messages: list[BaseMessage], reply: AIMessage) -> UsageMetadata:
    sizes = [_estimate_tokens(message) for message in messages]
    last_reply = max((index for index, message in enumerate(messages) if message.type == "ai"), default=0)
    input_tokens, output_tokens = sum(sizes), _estimate_tokens(reply)
    return UsageMetadata(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        total_tokens=input_tokens + output_tokens,
        input_token_details=InputTokenDetails(cache_read=sum(sizes[:last_reply])),
    )


def _estimate_tokens(message: BaseMessage) -> int:
    calls = getattr(message, "tool_calls", None) or ""
    return 4 + len(f"{message.content}{calls}") // 4
