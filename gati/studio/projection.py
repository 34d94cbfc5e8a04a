"""Events of a GATI backend as the messages that they stand for, so that the pages can show them. Pure."""

from __future__ import annotations

from typing import Any

_QUESTIONS = ("input", "question", "query", "text", "prompt")
_ANSWERS = ("output", "answer", "text", "response", "result", "completion")


def body(event: dict[str, Any]) -> dict[str, Any]:
    """The body of `POST /messages` for one event. A run is a conversation unless the event names one."""
    data = event["data"]
    properties = {"agent_name": event["agent_name"], "source": "gati"}
    told: dict[str, Any] = {
        "externalUserId": _text(data.get("user_id")) or "anonymous",
        "externalConversationId": _text(data.get("conversation_id")) or event["run_id"],
        "properties": properties,
        "messages": messages(event),
    }
    if prompt := _text(data.get("system_prompt")):
        told["systemPrompt"] = prompt
    return told


def messages(event: dict[str, Any]) -> list[dict[str, Any]]:
    """What one event is as messages: a step, and beside it what a person said or saw."""
    make = _MAKERS.get(event["event_type"], _other)
    made = make(event, event["data"])
    for message in made:
        message.setdefault("createdAt", event["timestamp"])
        if event.get("parent_event_id"):
            message.setdefault("parentExternalMessageId", event["parent_event_id"])
    return made


def _step(event: dict[str, Any], kind: str, **more: Any) -> dict[str, Any]:
    data = event["data"]
    known = {
        "agent_name": event["agent_name"],
        "name": data.get("name") or data.get("node_name") or data.get("step_name") or event["run_name"],
        "status": data.get("status"),
        "latency_ms": data.get("latency_ms", data.get("duration_ms", data.get("total_duration_ms"))),
        "error_type": data.get("error_type"),
        "error_message": data.get("error_message"),
        **more.pop("properties", {}),
    }
    message = {"externalMessageId": event["event_id"], "messageType": kind, **more}
    return {**message, "properties": {key: value for key, value in known.items() if value is not None}}


def _start(event: dict[str, Any], data: dict[str, Any]) -> list[dict[str, Any]]:
    given = _object(data.get("input"), "input")
    said = _spoken(event, "user", "user_message", _find(given, _QUESTIONS, "human"))
    return [*said, _step(event, "chain_start", input=given)]


def _end(event: dict[str, Any], data: dict[str, Any]) -> list[dict[str, Any]]:
    gave = _object(data.get("output"), "output")
    said = _spoken(event, "answer", "final_response", _find(gave, _ANSWERS, "ai"))
    return [*said, _step(event, "chain_end", output={**gave, "status": data.get("status", "completed")})]


def _model(event: dict[str, Any], data: dict[str, Any]) -> list[dict[str, Any]]:
    numbers = {
        "tokens_in": data.get("tokens_in"), "tokens_out": data.get("tokens_out"), "cost_usd": data.get("cost"),
        "time_to_first_token_ms": data.get("time_to_first_token_ms"),
    }  # fmt: skip
    prompt, completion = _text(data.get("prompt")), _text(data.get("completion"))
    step = _step(event, "llm", properties=numbers)
    if model := _text(data.get("model")):
        step["model"] = model
    if event.get("parent_event_id"):
        return [{**step, "input": {"prompt": prompt}, "output": {"text": completion}}]
    # A bare model: its prompt and its answer are the conversation.
    return [
        *_spoken(event, "user", "user_message", prompt),
        step,
        *_spoken(event, "answer", "assistant_message", completion),
    ]


def _tool(event: dict[str, Any], data: dict[str, Any]) -> list[dict[str, Any]]:
    given, gave = data.get("tool_input", data.get("input")), data.get("tool_output", data.get("output"))
    failed = data.get("status") == "error"
    result = {"type": data.get("error_type"), "message": data.get("error_message")} if failed else gave
    call = _step(event, "tool_call", toolName=_text(data.get("tool_name")) or "tool", input=_object(given, "input"))
    end = _step(event, "tool_error" if failed else "observation", output=_object(result, "output"))
    end |= {"externalMessageId": event["event_id"] + ":result", "parentExternalMessageId": event["event_id"]}
    return [call, end]


def _node(event: dict[str, Any], data: dict[str, Any]) -> list[dict[str, Any]]:
    before, after = data.get("state_before", data.get("input")), data.get("state_after", data.get("output"))
    return [_step(event, "task", input=_object(before, "input"), output=_object(after, "output"))]


def _retrieval(event: dict[str, Any], data: dict[str, Any]) -> list[dict[str, Any]]:
    found = {"documents": data.get("documents") or []}
    return [_step(event, "retrieval", input={"query": data.get("query") or ""}, output=found)]


def _other(event: dict[str, Any], data: dict[str, Any]) -> list[dict[str, Any]]:
    return [_step(event, "callback", output={"name": event["event_type"], "data": data})]


_MAKERS = {
    "agent_start": _start, "agent_end": _end, "llm_call": _model, "tool_call": _tool, "node_execution": _node,
    "step": _node, "retrieval": _retrieval,
}  # fmt: skip


def _spoken(event: dict[str, Any], suffix: str, kind: str, text: str) -> list[dict[str, Any]]:
    if not text:
        return []
    return [{"externalMessageId": f"{event['event_id']}:{suffix}", "messageType": kind, "content": text}]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _object(value: Any, key: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    return {} if value is None else {key: value}


def _find(values: dict[str, Any], keys: tuple[str, ...], speaker: str) -> str:
    """The text under a usual key, or that of the last message of this speaker."""
    for key in keys:
        if text := _text(values.get(key)):
            return text
    said = values.get("messages")
    for message in reversed(said if isinstance(said, list) else []):
        if isinstance(message, dict) and speaker in (message.get("type"), _SPEAKERS.get(message.get("role", ""))):
            return _text(message.get("content"))
    return ""


_SPEAKERS = {"user": "human", "assistant": "ai"}
