"""A finished trace → a turn of a conversation: who said what, what was done, how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gati.events import (
    AgentEndEvent,
    AgentStartEvent,
    ChatMessage,
    Conversation,
    Event,
    RetrievalEvent,
    Status,
    ToolCallEvent,
    Turn,
)
from gati.trace.content import text_of
from gati.trace.event_builder import EventBuilder
from gati.trace.final_answer import (
    answering_model,
    final_answer_of,
    is_user_facing,
    mark_answer,
    must_wait_for_end,
    turn_status,
)
from gati.trace.identity import Defaults, resolve, user_metadata
from gati.trace.interrupts import interrupt_events, interrupts_of, rejected_call_events, resume_events
from gati.trace.media import plain_blocks
from gati.trace.prompt_builder import given_prompt
from gati.trace.prompt_index import PromptIndex
from gati.trace.tool_calls import ToolCallLedger
from gati.trace.user_input import checkpointed_texts, remaining_input, resume_of, user_messages_of

if TYPE_CHECKING:
    from gati.trace.conversation_state import ConversationState, ConversationStates
    from gati.trace.final_answer import ModelEvents
    from gati.trace.records import Scope
    from gati.trace.run_tree import Run, Trace


@dataclass(frozen=True, slots=True)
class Options:
    """What the settings say of making turns."""

    agent_name: str = "agent"
    environment: str | None = None
    input_key: str | None = None
    output_key: str | None = None
    import_history: bool = False
    system_prompt: Any = None
    incremental: bool = False
    defaults: Defaults = field(default_factory=Defaults)


def conversation_of(trace: Trace, options: Options) -> Conversation:
    """Whose conversation a trace belongs to, with the system prompt if one was given."""
    root = trace.root
    conversation = resolve(trace.id, trace.scope, root.metadata, trace.configurable, options.defaults)
    scoped = trace.scope.system_prompt if trace.scope is not None else None
    conversation.prompt = given_prompt(scoped, root.metadata.get("system_prompt"), options.system_prompt)
    return conversation


class TurnBuilder:
    """One turn in the making: handed out whole, or in parts as the work below its root gets done."""

    def __init__(self, trace: Trace, options: Options, states: ConversationStates) -> None:
        self.trace = trace
        self.options = options
        self.root = trace.root
        if trace.late is not None:
            self.id, self.conversation = trace.late
        else:
            self.id, self.conversation = trace.id, conversation_of(trace, options)
        self.state: ConversationState = states.of(self.conversation.id)
        self.seen_before = states.was_seen
        self.agentic = self.root.kind in ("chain", "prompt", "step")
        self.event_builder = EventBuilder(
            trace,
            options.agent_name,
            ToolCallLedger(self.state, resume_of(trace) is not None),
            PromptIndex(options.agent_name, states.unlinked_prompts),
        )
        self.start_ns = self.root.started + trace.offset
        self._user_messages: list[ChatMessage] = []
        self._has_begun = False
        self._events_delivered = 0
        self._models_cleaned = 0
        self._held_back: list[Run] = []

    @property
    def end_ns(self) -> int:
        """When the turn ended, or was last heard of."""
        return (self.root.ended or self.trace.touched) + self.trace.offset

    def turn(self) -> Turn:
        """What is not handed out yet, with the answer and the end."""
        self.event_builder.root_ended = self.root.ended is not None
        interrupts = interrupts_of(self.trace)
        status = turn_status(self.trace, interrupts)
        self.event_builder.collect(self.root)
        said, events = self._take_new()
        models = self.event_builder.models
        answer, status = final_answer_of(self.trace, models, interrupts, status, self.options.output_key)
        if answer is not None:
            self.state.remember(answer.text)
        mark_answer(models, answer)
        events += rejected_call_events(self.trace, self.event_builder.ledger)
        events += interrupt_events(self.trace, interrupts)
        if self.agentic:
            events.append(self._end_event(status))
        self.event_builder.ledger.save_to(self.state, status == "waiting")
        turn = self._frame(said, events, models)
        turn.status, turn.answer, turn.context = status, answer, self._context()
        return turn

    def part(self, top: Run) -> Turn | None:
        """What is below a run right under the root, which is complete; None if that has to wait.

        It waits for what nobody knows before the end: whether a text is the answer, or a
        failure the root's, and what the person said where only a model's input can remember it.
        """
        if self.root.kind != "chain" or must_wait_for_end(top):
            return None
        self._held_back.append(top)
        if not self._has_begun and not self._can_begin():
            return None
        for ready in self._held_back:
            self.event_builder.collect(ready)
        self._held_back = []
        if len(self.event_builder.events) == self._events_delivered:
            return None  # plumbing
        models = self.event_builder.models[self._models_cleaned :]
        said, events = self._take_new()
        mark_answer(models, None)
        turn = self._frame(said, events, models)
        turn.status = "unfinished"
        return turn

    def late_part(self) -> Turn:
        """Work that goes on, or began, after its turn had ended, as a further part of that turn."""
        self.event_builder.root_id = self.id
        self.event_builder.collect(self.root)
        self._remember_tool_results(self.event_builder.events)
        self._drop_known_messages()
        mark_answer(self.event_builder.models, None)
        turn = self._frame([], self.event_builder.events, self.event_builder.models)
        for event in turn.events:
            event.parent_event_id = event.parent_event_id or self.id
        turn.agentic = True
        return turn

    def _can_begin(self) -> bool:
        """Whether it is seen_before by now what the person said."""
        if self.root.inputs is None and not self.trace.is_graph:
            return False
        self._user_messages = self._find_user_messages()
        return bool(self._user_messages) or resume_of(self.trace) is not None

    def _find_user_messages(self) -> list[ChatMessage]:
        return self._user_messages or user_messages_of(
            self.trace,
            self.options.input_key,
            self.conversation.id,
            self.state,
            self.seen_before,
            self.options.import_history,
        )

    def _take_new(self) -> tuple[list[ChatMessage], list[Event]]:
        """What was said and done, without what is handed out already."""
        begins, self._has_begun = not self._has_begun, True
        events: list[Event] = self.event_builder.events[self._events_delivered :]
        self._events_delivered = len(self.event_builder.events)
        if begins:
            self._user_messages = self._find_user_messages()
            first = [self._start_event()] if self.agentic else []
            events = [*first, *resume_events(self.trace), *events]
        self._remember_tool_results(events)
        self._drop_known_messages()
        return (self._user_messages if begins else []), events

    def _frame(self, said: list[ChatMessage], events: list[Event], models: ModelEvents) -> Turn:
        for event in events:
            self._set_envelope(event)
        return Turn(
            run_id=self.id,
            conversation=self.conversation,
            name=self.root.name,
            agent_name=self.options.agent_name,
            started_ns=self.start_ns,
            ended_ns=self.end_ns,
            messages=said,
            events=events,
            agentic=self.agentic,
            graph=self.trace.is_graph,
            model=answering_model(models),
        )

    def _set_envelope(self, event: Event) -> None:
        """Say whose an event is."""
        event.run_id = self.id
        event.agent_name = self.options.agent_name
        event.conversation_id = self.conversation.id
        event.user_id = self.conversation.user_id
        event.organization_id = self.conversation.organization_id
        event.run_name = self.root.name

    # -- beginning and end ------------------------------------------------------------------------

    def _start_event(self) -> Event:
        metadata = plain_blocks(user_metadata(self.root.metadata))
        if self.options.environment:
            metadata["environment"] = self.options.environment
        return AgentStartEvent(
            event_id=self.id,
            timestamp="-",
            run_id=self.id,
            agent_name=self.options.agent_name,
            name=self.root.name,
            input=remaining_input(self.root.inputs, self._user_messages),
            metadata=metadata,
            tags=[tag for tag in self.root.tags if ":" not in tag],
            started_ns=self.start_ns,
            ended_ns=self.start_ns,
        )

    def _end_event(self, status: Status) -> Event:
        models = [event for _, event in self.event_builder.models]
        error = self.root.error
        failed = error is not None and error.control is None
        return AgentEndEvent(
            event_id=f"{self.id}:end",
            timestamp="-",
            run_id=self.id,
            agent_name=self.options.agent_name,
            parent_event_id=self.id,
            name=self.root.name,
            status=status,
            error_type=error.type if failed and error is not None else None,
            error_message=error.message if failed and error is not None else None,
            total_duration_ms=(self.end_ns - self.start_ns) / 1e6,
            tokens_in=_sum_known([m.tokens_in for m in models]),
            tokens_out=_sum_known([m.tokens_out for m in models]),
            total_cost=_sum_known([m.cost for m in models]),
            model_calls=len(models),
            tool_calls=sum(isinstance(event, ToolCallEvent) for event in self.event_builder.events),
            started_ns=self.end_ns,
            ended_ns=self.end_ns,
        )

    def _context(self) -> str | None:
        texts = [
            d["text"]
            for e in self.event_builder.events
            if isinstance(e, RetrievalEvent)
            for d in e.documents
            if d["text"]
        ]
        return "\n\n".join(texts) or None

    def _drop_known_messages(self) -> None:
        """Leave with each model call only what stands nowhere else in the conversation."""
        here = {one.text for one in self._user_messages}
        for run, event in self.event_builder.models[self._models_cleaned :]:
            if not self.seen_before and is_user_facing(run):
                for text in checkpointed_texts(self.trace, run, self._user_messages):
                    self.state.remember(text)
            if event.new_messages:
                event.new_messages = [m for m in event.new_messages if self._is_new(m, here)]
        self._models_cleaned = len(self.event_builder.models)

    def _remember_tool_results(self, events: list[Event]) -> None:
        """Remember what tools gave, for programs that call them and the model by turns of their _set_envelope."""
        for event in events:
            if isinstance(event, ToolCallEvent) and isinstance(found := event.output.get("output"), str):
                self.state.remember(found)

    def _is_new(self, told: dict[str, Any], here: set[str]) -> bool:
        text = text_of(told.get("content"))
        if text and (text in here or self.state.has_seen(text)):
            return False
        self.state.remember(text)
        return True


def _sum_known(values: list[Any]) -> Any:
    seen_before = [value for value in values if value is not None]
    return sum(seen_before) if seen_before else None


def complete_manual_event(event: Event, scope: Scope | None, options: Options) -> Event:
    """A hand-made event with what it does not say itself: whose it is."""
    if event.conversation_id is None or event.user_id is None:
        whose = resolve(event.run_id or event.event_id, scope, None, None, options.defaults)
        event.conversation_id = event.conversation_id or whose.id
        event.user_id = event.user_id or whose.user_id
        event.organization_id = event.organization_id or whose.organization_id
    event.agent_name = event.agent_name or options.agent_name
    event.run_id = event.run_id or event.event_id
    return event
