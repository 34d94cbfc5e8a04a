"""Build a turn of a conversation from a trace: the user's messages, the events, the answer and the status."""

from __future__ import annotations

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
from gati.trace.answer_media import add_attachments
from gati.trace.answer_source import answering_model, is_user_facing, mark_answer
from gati.trace.authorship import is_in_conversation, is_state_update
from gati.trace.content import text_of
from gati.trace.continued_input import note_reported
from gati.trace.event_builder import EventBuilder
from gati.trace.final_answer import final_answer_of, must_wait_for_end, turn_status
from gati.trace.identity import ANONYMOUS, active_span_of, user_metadata
from gati.trace.interrupts import (
    interrupt_events,
    interrupts_of,
    rejected_call_events,
    resume_events,
    without_words_of_person,
)
from gati.trace.known_messages import calls_before_question, checkpointed_messages
from gati.trace.managed_prompts import with_variants
from gati.trace.media import plain_blocks
from gati.trace.media_in_texts import MediaInTexts
from gati.trace.node_messages import add_own_messages, texts_in_models
from gati.trace.prompt_index import PromptIndex
from gati.trace.prompt_values import KnownValues
from gati.trace.records import ASSISTANT_ROLES, USER_ROLES
from gati.trace.resumes import resume_of
from gati.trace.run_tree import is_nested
from gati.trace.tool_calls import ToolCallLedger
from gati.trace.user_input import remaining_input, user_messages_of

if TYPE_CHECKING:
    from gati.options import Settings
    from gati.trace.answer_source import ModelEvents
    from gati.trace.conversation_state import ConversationState, ConversationStates
    from gati.trace.records import Message
    from gati.trace.replacements import PastTurn
    from gati.trace.run_tree import Run, Trace


class TurnBuilder:
    """Builds one turn: whole with `finish`, or first in parts with `part` while its root is still running.

    Args:
        trace: the turn's runs.
        conversation: the conversation of the turn.
        settings: the options of `init`.
        states: the states of all conversations.
    """

    def __init__(
        self, trace: Trace, conversation: Conversation, settings: Settings, states: ConversationStates
    ) -> None:
        self.trace = trace
        self.settings = settings
        self.root = trace.root
        self.id = trace.id if trace.ended_turn is None else trace.ended_turn[0]
        self.conversation = conversation
        self.state: ConversationState = states.of(conversation.id, create=not trace.is_internal)
        self.seen_before = states.was_seen
        self.agentic = self.root.kind in ("chain", "prompt", "step")
        self.nested = is_nested(trace)
        self.replaces: PastTurn | None = None
        self.is_repeated_attempt = "run_attempt" in self.root.metadata and states.attempted_before(
            trace.first_attempt or trace.id
        )
        self.resume = resume_of(trace)
        self.ledger = ToolCallLedger(self.state, self.resume)
        values = KnownValues(trace, conversation.user_id if conversation.user_id != ANONYMOUS else None)
        prompts = PromptIndex(settings.agent_name, states.unlinked_prompts, values, states.numbered_prompts)
        # A hash of texts that must not be delivered would reveal short ones.
        has_hash = settings.mask is None and settings.capture_content
        inputs = states.model_inputs if has_hash else None
        self.event_builder = EventBuilder(trace, self.id, self.ledger, prompts, inputs)
        self.start_ns = self.root.started + trace.offset
        self._user_messages: list[ChatMessage] = []
        self.has_begun = False
        self._events_delivered = 0
        self._models_cleaned = 0
        self._rejected_calls = 0
        self._held_back: list[Run] = []
        self._media = MediaInTexts()

    @property
    def end_ns(self) -> int:
        """Time when the root ended, or of the last record if it has not ended."""
        return (self.root.ended or self.trace.last_record_at) + self.trace.offset

    def finish(self) -> Turn:
        """Build the turn, or what `part` has not returned of it, with the answer and the final status."""
        self.event_builder.root_ended = self.root.ended is not None
        interrupts = interrupts_of(self.trace)
        status = turn_status(self.trace, interrupts)
        self.event_builder.collect(self.root)
        if self.nested:
            return self._nested_turn(interrupts, status)
        messages, events = self._take_new()
        models = self.event_builder.models
        answer = None
        is_update = is_state_update(self.trace)
        if not is_update and not self.trace.serves_several:
            asked = without_words_of_person(interrupts, self._user_messages, self.state) if interrupts else []
            answer, status = final_answer_of(self.trace, models, asked, status, self.settings.output_key)
        if answer is not None:
            self.state.remember_answer(answer.text)
        note_reported(self.trace, [m.text for m in self._user_messages if m.role == "user"], self.state)
        for _, event in models:
            self.state.remember_produced(event.completion)
        mark_answer(self.trace, models, answer)
        if status in ("completed", "waiting") and not is_update:
            answer = add_attachments(answer, self.trace, models)
        if answer is not None and self.replaces is not None and self.replaces.has_answer:
            answer.properties["replaces"] = f"{self.replaces.id}:answer"
        self._add_own_messages_of_nodes(answer)
        if "thread_id" in self.root.metadata:
            self.state.past_turns.add(self.trace, self.id, status, self._question_ids(), answer is not None)
        rejected = rejected_call_events(self.trace, self.ledger)
        self._remember_tool_results(rejected)
        self._rejected_calls = len(rejected)
        events += rejected
        events += interrupt_events(self.trace, interrupts)
        if self.agentic:
            events.append(self._end_event(status))
        self.state.is_waiting = status == "waiting"
        self.ledger.save_to(self.state, status)
        turn = self._frame(messages, events, models)
        turn.status, turn.context = status, self._context()
        turn.answer = self._media.message(answer) if answer is not None else None
        return turn

    def _nested_turn(self, interrupts: list[dict[str, Any]], status: Status) -> Turn:
        """Build a graph that another program calls as a part of its own turn, without user message and answer."""
        events = [*self.event_builder.events, *interrupt_events(self.trace, interrupts)]
        self._remember_tool_results(events)
        self._drop_known_messages()
        mark_answer(self.trace, self.event_builder.models, None)
        self.ledger.save_to(self.state, status)
        turn = self._frame([], events, self.event_builder.models)
        turn.status, turn.agentic = status, True
        return turn

    def part(self, top: Run) -> Turn | None:
        """Build a part from the completed run `top`, a child of the root; return None if it must wait.

        It must wait if only the turn's end shows whether a text is the answer or whether the root
        handles a failure, and if the user's text is not yet known. The work of an internal root is delivered at its end.
        """
        if self.root.kind != "chain" or self.nested or self.trace.is_internal or must_wait_for_end(top):
            return None
        self._held_back.append(top)
        if not self.has_begun and not self._can_begin():
            return None
        for run in self._held_back:
            self.event_builder.collect(run)
        self._held_back = []
        if len(self.event_builder.events) == self._events_delivered:
            return None  # only plumbing runs
        models = self.event_builder.models[self._models_cleaned :]
        messages, events = self._take_new()
        mark_answer(self.trace, models, None)
        turn = self._frame(messages, events, models)
        turn.status = "unfinished"
        return turn

    def late_part(self) -> Turn:
        """Build the events of work without messages: after its turn had ended, or below an internal root."""
        self.event_builder.collect(self.root)
        self._remember_tool_results(self.event_builder.events)
        self._drop_known_messages()
        mark_answer(self.trace, self.event_builder.models, None)
        self._add_own_messages_of_nodes(None)
        turn = self._frame([], self.event_builder.events, self.event_builder.models)
        for event in turn.events:
            event.parent_event_id = event.parent_event_id or self.id
        turn.agentic = True
        return turn

    def _can_begin(self) -> bool:
        """Find the user's messages; return True if there are any, or if the turn resumes an earlier one."""
        if self.root.inputs is None:  # it arrives with the end, or the thread contains the question
            return False
        self._user_messages = self._find_user_messages()
        return bool(self._user_messages) or resume_of(self.trace) is not None

    def _find_user_messages(self) -> list[ChatMessage]:
        if self.trace.serves_several:
            return []
        return self._user_messages or user_messages_of(
            self.trace,
            self.settings.input_key,
            self.conversation.id,
            self.state,
            self.seen_before,
            self.settings.import_history,
            is_in_conversation(self.trace, self.conversation),
        )

    def _question_ids(self) -> tuple[str, ...]:
        if self._user_messages or self.replaces is None:
            return tuple([message.id for message in self._user_messages])
        return self.replaces.question_ids

    def _take_new(self) -> tuple[list[ChatMessage], list[Event]]:
        """Return the messages and events that no part has delivered yet."""
        is_first, self.has_begun = not self.has_begun, True
        events: list[Event] = self.event_builder.events[self._events_delivered :]
        self._events_delivered = len(self.event_builder.events)
        if is_first:
            self._user_messages = self._find_user_messages()
            self.replaces = self.state.past_turns.replaced_by(self.trace, bool(self._user_messages))
            if self.replaces is not None:
                for message, replaced in zip(self._user_messages, self.replaces.question_ids, strict=False):
                    message.properties["replaces"] = replaced
            start = [self._start_event()] if self.agentic else []
            # A turn that starts again from an older checkpoint, or with a question in the thread, resumes nothing.
            is_question = bool(self._user_messages) and not self.state.is_waiting
            is_replay = self.replaces is not None and self.root.inputs is None
            is_start = is_replay or (is_question and self.resume is None)
            resumed = [] if is_start else resume_events(self.trace, starts_anew=is_question)
            events = [*start, *resumed, *events]
        self._remember_tool_results(events)
        self._drop_known_messages()
        return (self._user_messages if is_first and not self.is_repeated_attempt else []), events

    def _frame(self, messages: list[ChatMessage], events: list[Event], models: ModelEvents) -> Turn:
        self._set_envelopes(events)
        self._media.clean(models)
        return Turn(
            run_id=self.id,
            conversation=with_variants(self.conversation, self.event_builder.models),
            name=self.root.name,
            agent_name=self.settings.agent_name,
            started_ns=self.start_ns,
            ended_ns=self.end_ns,
            messages=list(map(self._media.message, messages)),
            events=events,
            agentic=self.agentic,
            graph=self.trace.is_graph,
            model=answering_model(models),
            active_span=active_span_of(self.root.metadata),
        )

    def _set_envelopes(self, events: list[Event]) -> None:
        """Set what all events of the turn share. No other place sets these fields."""
        run_id, run_name, agent_name = self.id, self.root.name, self.settings.agent_name
        conversation = self.conversation
        conversation_id, user_id, organization_id = conversation.id, conversation.user_id, conversation.organization_id
        for event in events:
            event.run_id = run_id
            event.agent_name = agent_name
            event.conversation_id = conversation_id
            event.user_id = user_id
            event.organization_id = organization_id
            event.run_name = run_name

    # -- start and end ----------------------------------------------------------------------------

    def _start_event(self) -> Event:
        metadata = plain_blocks(user_metadata(self.root.metadata))
        if self.settings.environment:
            metadata["environment"] = self.settings.environment
        return AgentStartEvent(
            event_id=self.id,
            parent_event_id=f"{self.trace.first_attempt}:user" if self.is_repeated_attempt else None,
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
            tool_calls=self._rejected_calls
            + sum(isinstance(event, ToolCallEvent) for event in self.event_builder.events),
            started_ns=self.end_ns,
            ended_ns=self.end_ns,
        )

    def _context(self) -> str | None:
        """Join the texts of the turn's retrieved documents, each once.

        Only the outermost retriever's documents count, because a reranker drops some of those that it retrieves.
        """
        nested = self.event_builder.nested_retrievals
        texts = {
            document["text"]: None
            for event in self.event_builder.events
            if isinstance(event, RetrievalEvent) and event.event_id not in nested
            for document in event.documents
        }
        return "\n\n".join(filter(None, texts)) or None

    # -- messages of the conversation -------------------------------------------------------------

    def _drop_known_messages(self) -> None:
        """Keep in each model event only the messages that the conversation does not contain yet."""
        user_texts = {message.text for message in self._user_messages}
        for run, event in self.event_builder.models[self._models_cleaned :]:
            earlier: list[Message] = []
            if not self.seen_before and is_user_facing(run):
                earlier = checkpointed_messages(self.trace, run, self._user_messages)
                for message in earlier:
                    if message.role in (USER_ROLES | ASSISTANT_ROLES):
                        self.state.remember(text_of(message))
            if event.new_messages:
                new = [m for m in event.new_messages if self._is_new(m, user_texts)]
                calls = calls_before_question(earlier) if earlier else ()
                event.new_messages = [m for m in new if _call_id(m) not in calls] if calls else new
        self._models_cleaned = len(self.event_builder.models)

    def _remember_tool_results(self, events: list[Event]) -> None:
        """Remember tool results. A program that runs its tools itself passes them to its next turn as messages."""
        for event in events:
            if not isinstance(event, ToolCallEvent):
                continue
            if event.tool_call_id is not None and event.status in ("completed", "error"):
                self.state.note_call(event.tool_call_id)
            if isinstance(output := event.output.get("output"), str):
                self.state.remember(output)
            if event.handled and event.error_message:
                self.state.is_new_message(event.error_message, event.tool_call_id)

    def _add_own_messages_of_nodes(self, answer: ChatMessage | None) -> None:
        """Add to the events of nodes the messages that no other event and no message of the turn contains."""
        reported = {message.text.strip() for message in self._user_messages}
        if answer is not None:
            reported.add(answer.text.strip())
        reported |= texts_in_models(event for _, event in self.event_builder.models)
        for text in add_own_messages(self.event_builder.nodes, reported):
            self.state.remember(text)

    def _is_new(self, message: dict[str, Any], user_texts: set[str]) -> bool:
        text = text_of(message.get("content"))
        if not text:
            return True
        return text not in user_texts and self.state.is_new_message(text, _call_id(message))


def _call_id(message: dict[str, Any]) -> str | None:
    """Return the id of the tool call that a message contains or answers."""
    calls = message.get("tool_calls")
    first = calls[0] if isinstance(calls, list) and calls else message
    call_id = first.get("id" if calls else "tool_call_id") if isinstance(first, dict) else None
    return call_id if isinstance(call_id, str) else None


def _sum_known(values: list[Any]) -> Any:
    """Add up the values that are not None. Example: ``[3, None, 4]`` → ``7``, ``[None]`` → ``None``."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
