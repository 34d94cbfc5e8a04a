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
from gati.trace.event_builder import Steps
from gati.trace.final_answer import answer_of, hangs_on_end, is_main, mark, model_of_answer, turn_status
from gati.trace.identity import Defaults, own_metadata, resolve
from gati.trace.interrupts import interrupts_of, questions, refusals, resumption
from gati.trace.media import plain_blocks
from gati.trace.prompt_builder import given_prompt
from gati.trace.prompt_index import PromptBook
from gati.trace.tool_calls import Calls
from gati.trace.user_input import loaded_for, rest_of_input, resume_of, said_in

if TYPE_CHECKING:
    from gati.trace.conversation_state import Thread, Threads
    from gati.trace.final_answer import Models
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


def identify(trace: Trace, options: Options) -> Conversation:
    """Whose conversation a trace belongs to, with the system prompt if one was given."""
    root = trace.root
    conversation = resolve(trace.id, trace.scope, root.metadata, trace.configurable, options.defaults)
    scoped = trace.scope.system_prompt if trace.scope is not None else None
    conversation.prompt = given_prompt(scoped, root.metadata.get("system_prompt"), options.system_prompt)
    return conversation


class Making:
    """One turn in the making: handed out whole, or in parts as the work below its root gets done."""

    def __init__(self, trace: Trace, options: Options, threads: Threads) -> None:
        self.trace = trace
        self.options = options
        self.root = trace.root
        if trace.late is not None:
            self.id, self.conversation = trace.late
        else:
            self.id, self.conversation = trace.id, identify(trace, options)
        self.thread: Thread = threads.of(self.conversation.id)
        self.known = threads.knew
        self.agentic = self.root.kind in ("chain", "prompt", "step")
        self.steps = Steps(
            trace,
            options.agent_name,
            Calls(self.thread, resume_of(trace) is not None),
            PromptBook(options.agent_name, threads.filled),
        )
        self.start_ns = self.root.started + trace.offset
        self._said: list[ChatMessage] = []
        self._begun = False
        self._handed = 0
        self._cleaned = 0
        self._waiting: list[Run] = []

    @property
    def end_ns(self) -> int:
        """When the turn ended, or was last heard of."""
        return (self.root.ended or self.trace.touched) + self.trace.offset

    def turn(self) -> Turn:
        """What is not handed out yet, with the answer and the end."""
        self.steps.root_ended = self.root.ended is not None
        interrupts = interrupts_of(self.trace)
        status = turn_status(self.trace, interrupts)
        self.steps.collect(self.root)
        said, events = self._news()
        models = self.steps.models
        answer, status = answer_of(self.trace, models, interrupts, status, self.options.output_key)
        if answer is not None:
            self.thread.tell(answer.text)
        mark(models, answer)
        events += refusals(self.trace, self.steps.calls)
        events += questions(self.trace, interrupts)
        if self.agentic:
            events.append(self._end_event(status))
        self.steps.calls.leave(self.thread, status == "waiting")
        turn = self._frame(said, events, models)
        turn.status, turn.answer, turn.context = status, answer, self._context()
        return turn

    def part(self, top: Run) -> Turn | None:
        """What is below a run right under the root, which is complete; None if that has to wait.

        It waits for what nobody knows before the end: whether a text is the answer, or a
        failure the root's, and what the person said where only a model's input can tell it.
        """
        if self.root.kind != "chain" or hangs_on_end(top):
            return None
        self._waiting.append(top)
        if not self._begun and not self._can_begin():
            return None
        for ready in self._waiting:
            self.steps.collect(ready)
        self._waiting = []
        if len(self.steps.events) == self._handed:
            return None  # plumbing
        models = self.steps.models[self._cleaned :]
        said, events = self._news()
        mark(models, None)
        turn = self._frame(said, events, models)
        turn.status = "unfinished"
        return turn

    def late(self) -> Turn:
        """Work that goes on, or began, after its turn had ended, as a further part of that turn."""
        self.steps.root_id = self.id
        self.steps.collect(self.root)
        self._tell_results(self.steps.events)
        self._drop_known_messages()
        mark(self.steps.models, None)
        turn = self._frame([], self.steps.events, self.steps.models)
        for event in turn.events:
            event.parent_event_id = event.parent_event_id or self.id
        turn.agentic = True
        return turn

    def _can_begin(self) -> bool:
        """Whether it is known by now what the person said."""
        if self.root.inputs is None and not self.trace.is_graph:
            return False
        self._said = self._find_said()
        return bool(self._said) or resume_of(self.trace) is not None

    def _find_said(self) -> list[ChatMessage]:
        return self._said or said_in(
            self.trace,
            self.options.input_key,
            self.conversation.id,
            self.thread,
            self.known,
            self.options.import_history,
        )

    def _news(self) -> tuple[list[ChatMessage], list[Event]]:
        """What was said and done, without what is handed out already."""
        begins, self._begun = not self._begun, True
        events: list[Event] = self.steps.events[self._handed :]
        self._handed = len(self.steps.events)
        if begins:
            self._said = self._find_said()
            first = [self._start_event()] if self.agentic else []
            events = [*first, *resumption(self.trace), *events]
        self._tell_results(events)
        self._drop_known_messages()
        return (self._said if begins else []), events

    def _frame(self, said: list[ChatMessage], events: list[Event], models: Models) -> Turn:
        for event in events:
            self.own(event)
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
            model=model_of_answer(models),
        )

    def own(self, event: Event) -> None:
        """Say whose an event is."""
        event.run_id = self.id
        event.agent_name = self.options.agent_name
        event.conversation_id = self.conversation.id
        event.user_id = self.conversation.user_id
        event.organization_id = self.conversation.organization_id
        event.run_name = self.root.name

    # -- beginning and end ------------------------------------------------------------------------

    def _start_event(self) -> Event:
        metadata = plain_blocks(own_metadata(self.root.metadata))
        if self.options.environment:
            metadata["environment"] = self.options.environment
        return AgentStartEvent(
            event_id=self.id,
            timestamp="-",
            run_id=self.id,
            agent_name=self.options.agent_name,
            name=self.root.name,
            input=rest_of_input(self.root.inputs, self._said),
            metadata=metadata,
            tags=[tag for tag in self.root.tags if ":" not in tag],
            started_ns=self.start_ns,
            ended_ns=self.start_ns,
        )

    def _end_event(self, status: Status) -> Event:
        models = [event for _, event in self.steps.models]
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
            tokens_in=_sum([m.tokens_in for m in models]),
            tokens_out=_sum([m.tokens_out for m in models]),
            total_cost=_sum([m.cost for m in models]),
            model_calls=len(models),
            tool_calls=sum(isinstance(event, ToolCallEvent) for event in self.steps.events),
            started_ns=self.end_ns,
            ended_ns=self.end_ns,
        )

    def _context(self) -> str | None:
        texts = [
            d["text"] for e in self.steps.events if isinstance(e, RetrievalEvent) for d in e.documents if d["text"]
        ]
        return "\n\n".join(texts) or None

    def _drop_known_messages(self) -> None:
        """Leave with each model call only what stands nowhere else in the conversation."""
        here = {one.text for one in self._said}
        for run, event in self.steps.models[self._cleaned :]:
            if not self.known and is_main(run):
                for text in loaded_for(self.trace, run, self._said):
                    self.thread.tell(text)
            if event.new_messages:
                event.new_messages = [m for m in event.new_messages if self._is_news(m, here)]
        self._cleaned = len(self.steps.models)

    def _tell_results(self, events: list[Event]) -> None:
        """Remember what tools gave, for programs that call them and the model by turns of their own."""
        for event in events:
            if isinstance(event, ToolCallEvent) and isinstance(found := event.output.get("output"), str):
                self.thread.tell(found)

    def _is_news(self, told: dict[str, Any], here: set[str]) -> bool:
        text = text_of(told.get("content"))
        if text and (text in here or self.thread.was_told(text)):
            return False
        self.thread.tell(text)
        return True


def _sum(values: list[Any]) -> Any:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def complete_event(event: Event, scope: Scope | None, options: Options) -> Event:
    """A hand-made event with what it does not say itself: whose it is."""
    if event.conversation_id is None or event.user_id is None:
        whose = resolve(event.run_id or event.event_id, scope, None, None, options.defaults)
        event.conversation_id = event.conversation_id or whose.id
        event.user_id = event.user_id or whose.user_id
        event.organization_id = event.organization_id or whose.organization_id
    event.agent_name = event.agent_name or options.agent_name
    event.run_id = event.run_id or event.event_id
    return event
