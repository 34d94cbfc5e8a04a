"""Convert events of a GATI backend to Greenflash messages, so that the pages can show them. Pure."""

from __future__ import annotations

from typing import Any

ANONYMOUS = "anonymous"
"""The user of an event that names none."""

_INPUT_KEYS = ("input", "question", "query", "text", "prompt")
_CALL_PROPERTIES = (
    "provider", "tools", "parameters", "input_messages", "input_hash", "internal", "cached", "attachments",
)  # fmt: skip
_OUTPUT_KEYS = ("output", "answer", "text", "response", "result", "completion")


def project_event(event: dict[str, Any]) -> dict[str, Any]:
    """Return the body of `POST /messages` for one event.

    The run is used as the conversation if the event names none.
    """
    data = event["data"]
    properties = {"agent_name": event["agent_name"], "source": "gati"}
    body: dict[str, Any] = {
        "externalUserId": _string_or_empty(data.get("user_id")) or ANONYMOUS,
        "externalConversationId": _string_or_empty(data.get("conversation_id")) or event["run_id"],
        "properties": properties,
        "messages": project_messages(event),
    }
    if prompt := _string_or_empty(data.get("system_prompt")):
        body["systemPrompt"] = prompt
    return body


def project_messages(event: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the messages for one event: a step, plus the user's input or the answer that it contains."""
    project = _PROJECTIONS.get(event["event_type"], _project_unknown_event)
    messages = project(event, event["data"])
    for message in messages:
        message.setdefault("createdAt", event["timestamp"])
        if event.get("parent_event_id"):
            message.setdefault("parentExternalMessageId", event["parent_event_id"])
    return messages


def _step_message(event: dict[str, Any], kind: str, **more: Any) -> dict[str, Any]:
    data = event["data"]
    properties = {
        "agent_name": event["agent_name"],
        "name": data.get("name") or data.get("node_name") or data.get("step_name") or event["run_name"],
        "status": data.get("status"),
        "latency_ms": data.get("latency_ms", data.get("duration_ms", data.get("total_duration_ms"))),
        "error_type": data.get("error_type"),
        "error_message": data.get("error_message"),
        **more.pop("properties", {}),
    }
    message = {"externalMessageId": event["event_id"], "messageType": kind, **more}
    return {**message, "properties": {key: value for key, value in properties.items() if value is not None}}


def _project_agent_start(event: dict[str, Any], data: dict[str, Any]) -> list[dict[str, Any]]:
    inputs = _as_object(data.get("input"), "input")
    media = [*_attachments_in(inputs), *_list_or_empty(data.get("attachments"))]
    chat = _chat_message(event, "user", "user_message", _find_text(inputs, _INPUT_KEYS, "human"), media)
    return [*chat, _step_message(event, "chain_start", input=inputs)]


def _project_agent_end(event: dict[str, Any], data: dict[str, Any]) -> list[dict[str, Any]]:
    outputs = _as_object(data.get("output"), "output")
    media = _list_or_empty(outputs.get("attachments"))
    chat = _chat_message(event, "answer", "final_response", _find_text(outputs, _OUTPUT_KEYS, "ai"), media)
    return [*chat, _step_message(event, "chain_end", output={**outputs, "status": data.get("status", "completed")})]


def _project_llm_call(event: dict[str, Any], data: dict[str, Any]) -> list[dict[str, Any]]:
    usage = {
        "tokens_in": data.get("tokens_in"), "tokens_out": data.get("tokens_out"), "cost_usd": data.get("cost"),
        "time_to_first_token_ms": data.get("time_to_first_token_ms"),
        **{name: data[name] for name in _CALL_PROPERTIES if data.get(name) not in (None, "", [], {}, False)},
    }  # fmt: skip
    prompt, completion = _string_or_empty(data.get("prompt")), _string_or_empty(data.get("completion"))
    step = _step_message(event, "llm", properties=usage)
    output = {"tool_calls": _list_or_empty(data.get("tool_requests")), "finish_reason": data.get("finish_reason")}
    output = {name: value for name, value in output.items() if value}
    if model := _string_or_empty(data.get("model")):
        step["model"] = model
    if event.get("parent_event_id"):
        # gati's own events report each message once; those of other clients contain the whole prompt.
        new = data.get("new_messages")
        given = {"messages": new} if isinstance(new, list) else {"prompt": prompt}
        return [{**step, "input": given, "output": {"text": completion, **output}}]
    # A model call without a parent is the whole turn: its prompt is the input, its completion the answer.
    return [
        *_chat_message(event, "user", "user_message", prompt),
        {**step, "output": output} if output else step,
        *_chat_message(event, "answer", "assistant_message", completion),
    ]


def _project_tool_call(event: dict[str, Any], data: dict[str, Any]) -> list[dict[str, Any]]:
    inputs, output = data.get("tool_input", data.get("input")), data.get("tool_output", data.get("output"))
    failed = data.get("status") == "error"
    result = {"type": data.get("error_type"), "message": data.get("error_message")} if failed else output
    call = _step_message(
        event,
        "tool_call",
        properties={name: data[name] for name in ("tool_call_id", "requested_by") if data.get(name)},
        toolName=_string_or_empty(data.get("tool_name")) or "tool",
        input=_as_object(inputs, "input"),
    )
    end = _step_message(event, "tool_error" if failed else "observation", output=_as_object(result, "output"))
    end |= {"externalMessageId": event["event_id"] + ":result", "parentExternalMessageId": event["event_id"]}
    return [call, end]


def _project_node_execution(event: dict[str, Any], data: dict[str, Any]) -> list[dict[str, Any]]:
    before, after = data.get("state_before", data.get("input")), data.get("state_after", data.get("output"))
    return [_step_message(event, "task", input=_as_object(before, "input"), output=_as_object(after, "output"))]


def _project_retrieval(event: dict[str, Any], data: dict[str, Any]) -> list[dict[str, Any]]:
    output = {"documents": data.get("documents") or []}
    return [_step_message(event, "retrieval", input={"query": data.get("query") or ""}, output=output)]


def _project_unknown_event(event: dict[str, Any], data: dict[str, Any]) -> list[dict[str, Any]]:
    return [_step_message(event, "callback", output={"name": event["event_type"], "data": data})]


_PROJECTIONS = {
    "agent_start": _project_agent_start,
    "agent_end": _project_agent_end,
    "llm_call": _project_llm_call,
    "tool_call": _project_tool_call,
    "node_execution": _project_node_execution,
    "step": _project_node_execution,
    "retrieval": _project_retrieval,
}


def _chat_message(
    event: dict[str, Any], suffix: str, kind: str, text: str, attachments: list[Any] | None = None
) -> list[dict[str, Any]]:
    if not text and not attachments:
        return []
    message = {"externalMessageId": f"{event['event_id']}:{suffix}", "messageType": kind, "content": text}
    return [{**message, "properties": {"attachments": attachments}} if attachments else message]


def _list_or_empty(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _attachments_in(inputs: dict[str, Any]) -> list[Any]:
    """Return the blocks of the last user's message, or of the input itself, that are not text."""
    blocks = _list_or_empty(inputs.get("attachments"))
    for message in reversed(_list_or_empty(inputs.get("messages"))):
        if isinstance(message, dict) and "human" in (message.get("type"), _TYPE_BY_ROLE.get(message.get("role", ""))):
            content = _list_or_empty(message.get("content"))
            media = [block for block in content if isinstance(block, dict) and block.get("type") not in (None, "text")]
            return [*blocks, *media, *_list_or_empty(message.get("attachments"))]
    return blocks


def _string_or_empty(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _as_object(value: Any, key: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    return {} if value is None else {key: value}


def _find_text(values: dict[str, Any], keys: tuple[str, ...], message_type: str) -> str:
    """Return the text under one of the keys, else the content of the last message of this type (``human`` or ``ai``)."""
    for key in keys:
        if text := _string_or_empty(values.get(key)):
            return text
    messages = values.get("messages")
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, dict) and message_type in (
            message.get("type"),
            _TYPE_BY_ROLE.get(message.get("role", "")),
        ):
            return _text_of_content(message.get("content"))
    return ""


def _text_of_content(content: Any) -> str:
    """Return the text of a message's content: a text, or the texts among its blocks."""
    texts = [block.get("text") for block in _list_or_empty(content) if isinstance(block, dict)]
    return "\n".join(text for text in texts if isinstance(text, str)) or _string_or_empty(content)


_TYPE_BY_ROLE = {"user": "human", "assistant": "ai"}
