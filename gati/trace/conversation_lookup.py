"""Find the conversation of a trace, and complete what the program reports by hand with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gati.trace.identity import ANONYMOUS, resolve
from gati.trace.served_conversations import identity_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from gati.events import Action, Conversation, Event, Prompt
    from gati.options import Settings
    from gati.trace.records import Scope
    from gati.trace.run_tree import Trace


def conversation_of(trace: Trace, settings: Settings, read_prompt: Callable[[Any], Prompt | None]) -> Conversation:
    """Return the conversation of a trace, with the explicit system prompt if one was given.

    `read_prompt` converts a `system_prompt` of run metadata; it returns None for an invalid one.
    """
    if trace.ended_turn is not None:
        return trace.ended_turn[1]
    root = trace.root
    metadata = root.metadata
    root_id = trace.first_attempt or trace.id
    scope, configurable = trace.scope, trace.configurable
    if root.kind == "step":
        scope, configurable = identity_of(trace, settings)
    conversation = resolve(root_id, scope, metadata, configurable, settings)
    prompt = scope.system_prompt if scope is not None else None
    if prompt is None and (value := metadata.get("system_prompt")) is not None:
        prompt = read_prompt(value)
    conversation.prompt = prompt or settings.system_prompt
    return conversation


def conversation_id_of(trace: Trace, settings: Settings) -> str:
    """Return the id of a trace's conversation, as far as it is known by now."""
    if trace.ended_turn is not None:
        return trace.ended_turn[1].id
    root_id = trace.first_attempt or trace.id
    scope, configurable = trace.scope, trace.configurable
    if trace.root.kind == "step":
        scope, configurable = identity_of(trace, settings)
    return resolve(root_id, scope, trace.root.metadata, configurable, settings).id


def complete_action(action: Action, conversation: Conversation) -> Action:
    """Add the conversation to an action that was reported inside a run, and return the action."""
    body = action.body
    body.setdefault("external_conversation_id", conversation.id)
    if conversation.product_id is not None:
        body.setdefault("product_id", conversation.product_id)
    if action.endpoint == "events" and conversation.user_id != ANONYMOUS:
        body.setdefault("external_user_id", conversation.user_id)
    return action


def complete_manual_event(event: Event, scope: Scope | None, settings: Settings) -> Event:
    """Fill in run, agent and conversation of a manual event where they are empty, and return it."""
    if event.conversation_id is None or event.user_id is None:
        conversation = resolve(event.run_id or event.event_id, scope, None, None, settings)
        event.conversation_id = event.conversation_id or conversation.id
        event.user_id = event.user_id or conversation.user_id
        event.organization_id = event.organization_id or conversation.organization_id
    if scope is not None:
        event.product_id = event.product_id or scope.product_id
    event.agent_name = event.agent_name or settings.agent_name
    event.run_id = event.run_id or event.event_id
    return event
