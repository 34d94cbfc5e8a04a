"""A scripted OpenAI server over real HTTP: chat completions and responses, streamed and not.

::

    with openai_server(Reply("Hello!")) as openai:
        ChatOpenAI(model="gpt-4o-mini", base_url=openai.url, api_key="k").invoke("Hi")
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from gati.studio.server import listen, uvicorn_server

Json = dict[str, Any]

_ALONE = {"connection": "close"}
"""Close each connection: `ChatOpenAI` reuses connections across tests, whose event loops are already closed."""

_PAUSE = ""
"""Stands for a pause in a stream."""


@dataclass(frozen=True)
class Reply:
    """One answer of the scripted model.

    Attributes:
        text: The answer. Streamed word by word.
        calls: Requested tool calls: (name, arguments as JSON).
        thought: Summary of the reasoning (Responses API).
        input_tokens, cached_tokens, output_tokens, reasoning_tokens: The reported usage.
        breaks_after: Close the connection after this many words of a stream.
        waits_after: Wait for `OpenAIServer.resume` after this many words of a stream of chat completions.
        status: Respond with this HTTP error instead.
    """

    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    thought: str = ""
    input_tokens: int = 20
    cached_tokens: int = 0
    output_tokens: int = 5
    reasoning_tokens: int = 0
    breaks_after: int | None = None
    waits_after: int | None = None
    status: int = 200

    @property
    def words(self) -> list[str]:
        """The text split into streamed pieces: "a b" → ["a", " b"]."""
        return [word if number == 0 else " " + word for number, word in enumerate(self.text.split(" "))]


@dataclass
class OpenAIServer:
    """A running server. It sends `replies` in order and repeats the last one."""

    url: str
    replies: list[Reply]
    requests: list[Json] = field(default_factory=list)
    resume: threading.Event = field(default_factory=threading.Event)

    def next(self, body: Json) -> Reply:
        """Record a request and return its reply."""
        self.requests.append(body)
        return self.replies[min(len(self.requests), len(self.replies)) - 1]

    async def events(self, events: Iterator[str]) -> AsyncIterator[str]:
        """Yield the events of a stream, and wait where one is `_PAUSE`."""
        for event in events:
            while event == _PAUSE and not self.resume.is_set():  # noqa: ASYNC110 - set by another thread
                await asyncio.sleep(0.01)
            yield event

    def restart(self, *replies: Reply) -> None:
        """Forget all requests and start over, with new replies if any are passed."""
        self.requests.clear()
        if replies:
            self.replies = list(replies)


@contextmanager
def openai_server(*replies: Reply) -> Iterator[OpenAIServer]:
    """Run the server in a thread of this process."""
    listener = listen()
    server = OpenAIServer(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", list(replies))

    async def answer(request: Request) -> Response:
        body = await request.json()
        reply = server.next(body)
        if reply.status != 200:
            error = {"message": "the scripted error", "type": "server_error", "code": None}
            return JSONResponse({"error": error}, reply.status, headers=_ALONE)
        whole, stream = (
            (_chat, _chat_stream) if request.url.path.endswith("completions") else (_response, _response_stream)
        )
        if body.get("stream"):
            return StreamingResponse(server.events(stream(body, reply)), headers=_ALONE, media_type="text/event-stream")
        return JSONResponse(whole(body, reply), headers=_ALONE)

    routes = [Route(f"/v1/{path}", answer, methods=["POST"]) for path in ("chat/completions", "responses")]
    runner = uvicorn_server(Starlette(routes=routes))
    thread = threading.Thread(target=runner.run, kwargs={"sockets": [listener]}, name="openai-server", daemon=True)
    thread.start()
    try:
        yield server
    finally:
        runner.should_exit = True
        thread.join(10)
        listener.close()


class _BrokenError(Exception):
    """Raised to close a stream before its last event."""


def _line(data: Json, event: str | None = None) -> str:
    return (f"event: {event}\n" if event else "") + f"data: {json.dumps(data)}\n\n"


# -- chat completions ---------------------------------------------------------------------------


def _chat_usage(reply: Reply) -> Json:
    return {
        "prompt_tokens": reply.input_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": reply.input_tokens + reply.output_tokens,
        "prompt_tokens_details": {"cached_tokens": reply.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reply.reasoning_tokens, "audio_tokens": 0},
    }


def _chat_calls(reply: Reply) -> list[Json]:
    return [
        {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for n, (name, arguments) in enumerate(reply.calls, 1)
    ]


def _chat_head(body: Json, kind: str) -> Json:
    return {
        "id": "chatcmpl-1", "object": kind, "created": 1700000000, "model": f"{body['model']}-2024-07-18",
        "system_fingerprint": "fp_1",
    }  # fmt: skip


def _chat(body: Json, reply: Reply) -> Json:
    message: Json = {"role": "assistant", "content": reply.text or None, "refusal": None}
    if reply.calls:
        message["tool_calls"] = _chat_calls(reply)
    reason = "tool_calls" if reply.calls else "stop"
    choices = [
        {"index": n, "message": message, "finish_reason": reason, "logprobs": None} for n in range(body.get("n") or 1)
    ]
    return {**_chat_head(body, "chat.completion"), "choices": choices, "usage": _chat_usage(reply)}


def _chat_stream(body: Json, reply: Reply) -> Iterator[str]:
    head = _chat_head(body, "chat.completion.chunk")

    def chunk(delta: Json, reason: str | None = None) -> str:
        return _line({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}]})

    yield chunk({"role": "assistant", "content": ""})
    for number, word in enumerate(reply.words if reply.text else ()):
        if number == reply.breaks_after:
            raise _BrokenError
        if number == reply.waits_after:
            yield _PAUSE
        yield chunk({"content": word})
    for number, call in enumerate(_chat_calls(reply)):
        yield chunk({"tool_calls": [{"index": number, **call}]})
    yield chunk({}, "tool_calls" if reply.calls else "stop")
    if (body.get("stream_options") or {}).get("include_usage"):
        yield _line({**head, "choices": [], "usage": _chat_usage(reply)})
    yield "data: [DONE]\n\n"


# -- responses ----------------------------------------------------------------------------------


def _output(reply: Reply) -> list[Json]:
    made: list[Json] = []
    if reply.thought:
        made.append({"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": reply.thought}]})
    if reply.text:
        content = [{"type": "output_text", "text": reply.text, "annotations": []}]
        made.append({"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content})
    for n, (name, arguments) in enumerate(reply.calls, 1):
        made.append(
            {"id": f"fc_{n}", "type": "function_call", "call_id": f"call_{n}", "name": name, "arguments": arguments,
             "status": "completed"}
        )  # fmt: skip
    return made


def _response(body: Json, reply: Reply, status: str = "completed") -> Json:
    done = status == "completed"
    usage = {
        "input_tokens": reply.input_tokens,
        "input_tokens_details": {"cached_tokens": reply.cached_tokens},
        "output_tokens": reply.output_tokens,
        "output_tokens_details": {"reasoning_tokens": reply.reasoning_tokens},
        "total_tokens": reply.input_tokens + reply.output_tokens,
    }
    return {
        "id": "resp_1", "object": "response", "created_at": 1700000000, "status": status, "error": None,
        "incomplete_details": None, "instructions": None, "max_output_tokens": None, "metadata": {},
        "model": f"{body['model']}-2024-07-18", "output": _output(reply) if done else [], "parallel_tool_calls": True,
        "previous_response_id": None, "reasoning": {"effort": None, "summary": None}, "store": True, "temperature": 1.0,
        "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": 1.0, "truncation": "disabled",
        "usage": usage if done else None, "user": None,
    }  # fmt: skip


def _response_stream(body: Json, reply: Reply) -> Iterator[str]:
    numbers = iter(range(10_000))

    def event(kind: str, **data: Any) -> str:
        return _line({"type": kind, "sequence_number": next(numbers), **data}, kind)

    yield event("response.created", response=_response(body, reply, "in_progress"))
    for index, item in enumerate(_output(reply)):
        yield from _item(event, index, item, reply)
    yield event("response.completed", response=_response(body, reply))


def _item(event: Any, index: int, item: Json, reply: Reply) -> Iterator[str]:
    place: Json = {"item_id": item["id"], "output_index": index}
    if item["type"] == "reasoning":
        part: Json = {"type": "summary_text", "text": ""}
        yield event("response.output_item.added", output_index=index, item={**item, "summary": []})
        yield event("response.reasoning_summary_part.added", summary_index=0, part=part, **place)
        yield event("response.reasoning_summary_text.delta", summary_index=0, delta=reply.thought, **place)
        yield event("response.reasoning_summary_text.done", summary_index=0, text=reply.thought, **place)
    elif item["type"] == "message":
        part = {"type": "output_text", "text": "", "annotations": []}
        yield event(
            "response.output_item.added", output_index=index, item={**item, "content": [], "status": "in_progress"}
        )
        yield event("response.content_part.added", content_index=0, part=part, **place)
        for number, word in enumerate(reply.words):
            if number == reply.breaks_after:
                raise _BrokenError
            yield event("response.output_text.delta", content_index=0, delta=word, logprobs=[], **place)
        yield event("response.output_text.done", content_index=0, text=reply.text, logprobs=[], **place)
    else:
        yield event("response.output_item.added", output_index=index, item={**item, "arguments": ""})
        yield event("response.function_call_arguments.delta", delta=item["arguments"], **place)
        yield event("response.function_call_arguments.done", arguments=item["arguments"], **place)
    yield event("response.output_item.done", output_index=index, item=item)
