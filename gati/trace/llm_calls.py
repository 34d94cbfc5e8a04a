"""Build the event of a model run: prompt, completion, usage and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gati.events import LLMCallEvent
from gati.trace.attachments import attachments_of
from gati.trace.billing import NO_MEDIA, billing_of
from gati.trace.chat_messages import as_message
from gati.trace.content import reasoning_of, text_of, tool_requests_of
from gati.trace.cost import cost_of
from gati.trace.media import plain_blocks
from gati.trace.records import (
    ASSISTANT_ROLES,
    DECISION,
    TOOL_ROLES,
    UNSEEN_START,
    USER_ROLES,
    Message,
    ModelCall,
    ModelResult,
)
from gati.trace.usage import (
    finish_reason_of,
    is_cached,
    model_name_of,
    provider_of,
    usage_of,
)

if TYPE_CHECKING:
    from gati.trace.prompt_index import PromptIndex
    from gati.trace.run_tree import Run
    from gati.trace.tool_calls import ToolCallLedger

INSTRUCTIONS = "instructions"
"""Parameter of a model call that holds a system prompt."""


def system_text(run: Run) -> str:
    """Return the system text of a model call, several messages joined by a blank line.

    The `instructions` of OpenAI's Responses API come before the system messages.
    """
    if not isinstance(run.inputs, ModelCall):
        return ""
    instructions = (run.inputs.params or {}).get(INSTRUCTIONS)
    texts = [instructions if isinstance(instructions, str) else "", *map(text_of, run.inputs.system)]
    return "\n\n".join(filter(None, texts))


def partial_text(run: Run) -> str:
    """Return the text of a model call that was cut off: its partial result, else the streamed chunks."""
    if isinstance(run.output, ModelResult) and run.output.messages:
        text = text_of(run.output.messages[0])
        if text:
            return text
    return "".join(run.pieces) if run.pieces else ""


def model_event(
    run: Run,
    ledger: ToolCallLedger,
    prompts: PromptIndex,
    fields: dict[str, Any],
    input_media: frozenset[str] = NO_MEDIA,
) -> LLMCallEvent:
    """Build the event of a model call. `is_answer` and `internal` are set when the turn's answer is known.

    `fields` are the arguments shared by all events (id, parent, name and times). `input_media` are the kinds of media
    that the call received, in this and in earlier messages.
    """
    result = run.output if isinstance(run.output, ModelResult) else ModelResult(())
    answer = result.messages[0] if result.messages else None
    params = (run.inputs.params if isinstance(run.inputs, ModelCall) else None) or {}
    usage = usage_of(result.messages, result.llm_output)
    model = model_name_of(result.messages, result.llm_output, run.metadata, params)
    provider = provider_of(result.messages, run.metadata)
    from_cache = is_cached(result.messages)
    system = system_text(run)
    event = LLMCallEvent(
        **fields,
        model=model or "",
        prompt=last_user_text(run),
        system_prompt=system,
        completion=text_of(answer) if answer is not None else partial_text(run),
        latency_ms=_latency_ms(run),
        provider=provider,
        usage=usage,
        finish_reason=finish_reason_of(result.messages, result.llm_output),
        cached=from_cache,
        tools=params.get("tools") or [],
        parameters={k: v for k, v in params.items() if k not in ("tools", INSTRUCTIONS)},
        new_messages=_new_messages(run, ledger),
    )
    if answer is not None:
        event.reasoning = reasoning_of(answer)
        event.tool_requests = tool_requests_of(answer)
        event.attachments = [block for message in result.messages for block in attachments_of(message)]
        event.candidates = [text for m in result.messages[1:] if (text := text_of(m))]
        if answer.additional and DECISION in answer.additional:
            decision = answer.additional[DECISION]
            event.decision = decision if isinstance(decision, dict) else {"answers": decision}
    if usage is not None:
        event.tokens_in, event.tokens_out = usage.input_tokens, usage.output_tokens
    billing = billing_of(result.messages, result.llm_output, model, input_media)
    event.cost = cost_of(usage, model, provider, billing, cached=from_cache)
    if run.first_token is not None:
        event.time_to_first_token_ms = (run.first_token - run.started) / 1e6
    event.structured_prompt = prompts.prompt_of(run, system)
    return event


def _latency_ms(run: Run) -> float | None:
    if run.extra == UNSEEN_START:
        return None
    return (run.ended - run.started) / 1e6 if run.ended is not None else 0.0


def last_user_text(run: Run) -> str:
    """Return the text of the last user message among a model's new messages."""
    if not isinstance(run.inputs, ModelCall):
        return ""
    for item in reversed(run.inputs.messages):
        message = as_message(item)
        if message is not None and message.role in USER_ROLES:
            return text_of(message)
    return ""


def _new_messages(run: Run, ledger: ToolCallLedger) -> list[dict[str, Any]]:
    """Return the call's new messages, without those that tool call events already contain.

    `TurnBuilder` removes the user's messages later.
    """
    if not isinstance(run.inputs, ModelCall):
        return []
    messages: list[dict[str, Any]] = []
    for item in run.inputs.messages:
        message = as_message(item)
        if message is None:
            messages.append({"content": plain_blocks(item)})
        elif not _has_own_event(message, ledger):
            messages.append(message_as_dict(message))
    return messages


def _has_own_event(message: Message, ledger: ToolCallLedger) -> bool:
    """Return True for a tool result or a pure tool request that a tool call event reports."""
    if message.role in TOOL_ROLES:
        return ledger.is_reported(message.tool_call_id)
    if message.role not in ASSISTANT_ROLES or not message.tool_calls or text_of(message):
        return False
    return all(isinstance(request, dict) and ledger.is_known(request.get("id")) for request in message.tool_calls)


def message_as_dict(message: Message) -> dict[str, Any]:
    """Return a message as events contain it, with embedded media replaced."""
    result: dict[str, Any] = {"role": message.role, "content": plain_blocks(message.content)}
    if message.tool_calls:
        result["tool_calls"] = plain_blocks(list(message.tool_calls))
    if message.tool_call_id:
        result["tool_call_id"] = message.tool_call_id
    return result
