"""The recorder turns LangChain callbacks into records and tracks which runs are open.

All of it runs in the user's thread, so a method takes microseconds, takes no lock and copies only new messages.
Several handlers (injected, passed by the user, copied) share one recorder, so each run is recorded once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any, Protocol
from uuid import UUID, uuid4

from gati._context import OpenSpan, current_scope, current_span, features_used, is_internal, is_paused
from gati.langchain._compat import (
    NOT_STARTED,
    RUN_TYPE,
    called_with,
    chain_of_memory,
    enclosing_run,
    is_input_deferred,
    running_config,
)
from gati.langchain.active_span import with_active_span
from gati.langchain.awaited_models import AwaitedModels
from gati.langchain.bounded_set import BoundedSet
from gati.langchain.callback_args import (
    as_run_id,
    component_name,
    invocation_parameters,
    is_graph_node,
    metadata_below_root,
    text_of_stream_event,
    text_of_token,
    values_of_config,
)
from gati.langchain.decisions import LLM, decision_call, decision_result
from gati.langchain.history import repeated_history
from gati.langchain.message_snapshot import (
    ROLE_BY_CLASS,
    snapshot_message,
    snapshot_response_metadata,
    snapshot_tool_message,
)
from gati.langchain.new_messages import (
    all_messages_of_input,
    forget_calls,
    messages_of_continued_output,
    new_messages_of_call,
    new_messages_of_input,
    new_messages_of_node,
    new_messages_of_output,
    remember_answer,
    snapshot_prompt_output,
    snapshot_state,
)
from gati.langchain.prompt_templates import template_of
from gati.langchain.run_flags import (
    CONVERSATION,
    CONVERSATION_SHIFT,
    COUNT_HISTORY,
    DECISION_MODEL,
    NEEDS_IDENTITY,
    NEEDS_STATE,
    NEW_CONVERSATION,
    NO_INPUT,
    NODE,
    PROGRAM,
    PROMPT,
    RECORDS_VALUES,
    ROOT,
    TOP_STEP,
)
from gati.langchain.run_roots import Root, RunRoots
from gati.langchain.snapshot import error_info, take_snapshot, text_limit
from gati.limits import bounded_id
from gati.trace.record_codec import ENDED, STARTED, PackedRecord, pack_fields, pack_record
from gati.trace.records import (
    CONVERSATION_KEYS,
    INTERNAL,
    STREAMED,
    UNSEEN_START,
    Custom,
    ErrorInfo,
    FirstToken,
    GraphState,
    HistoryRead,
    Message,
    Record,
    RunFailed,
    RunStarted,
)

OPEN_RUNS = 100_000
"""Maximum number of open runs, so that runs that never end cannot fill the memory."""


_HISTORY_RUN = "load_history"


class _Pieces(list[str]):
    """The pieces of a streamed text, up to the limit of a field. Later ones are not kept: the result has them."""

    __slots__ = ("chars",)

    def __init__(self) -> None:
        self.chars = 0

    def add(self, text: str) -> None:
        """Append a piece, unless the limit was reached before."""
        if (chars := self.chars) < text_limit.chars:
            self.chars = chars + len(text)
            self.append(text if self.chars <= text_limit.chars else text[: text_limit.chars - chars])


class _EventTexts(_Pieces):
    """Streamed text of a model that reports no tokens, collected from the events of the streaming protocol."""


_CALLED_WITH_CONFIG = frozenset({"model", "prompt", "retriever"})
"""Kinds of runs of which the config of their own call may name the conversation."""
_KINDS = frozenset({"prompt", "parser", "model"})
"""Values of `run_type` that are recorded as a kind of their own; all other chains have the kind `chain`."""


class TurnSaves(Protocol):
    """Waits until a turn that has ended is safe, in processes that may end at any time."""

    active: bool

    def save(self) -> None: ...


class Recorder:
    """Create records and pass them to `put`, packed by `record_codec` where they have a packed form.

    Args:
        put: takes a record; must return at once and never raise.
        conversation_id: the default conversation from `init`, used to detect new conversations.
        report_error: called with a place and an exception if a snapshot fails; the record is still created,
            without the snapshot.
        saves: called in the thread that ends a turn, if it is active.
    """

    def __init__(
        self,
        put: Callable[[PackedRecord | Record], object],
        conversation_id: str | None = None,
        report_error: Callable[[str, Exception], None] | None = None,
        saves: TurnSaves | None = None,
    ) -> None:
        self.put = put
        self.saves = saves
        self.report_error = report_error
        self.default_conversation = conversation_id
        # Keyed by `UUID.int`, because hashing a UUID runs Python code.
        self.open_runs: dict[int, int] = {}
        self.roots = RunRoots(self.open_runs)
        self.streamed_tokens: dict[int, _Pieces] = {}
        self.awaited_models = AwaitedModels()
        self.paused_runs = BoundedSet(OPEN_RUNS)
        self.known_answers = BoundedSet(50_000)
        self.known_conversations = BoundedSet(50_000)

    # -- starts ---------------------------------------------------------------------------

    def chain_started(
        self,
        serialized: Any,
        inputs: Any,
        run_id: UUID,
        parent: UUID | None,
        tags: Any,
        metadata: Any,
        more: dict[str, Any],
    ) -> None:
        parent_flags = self.open_runs.get(parent.int) if parent is not None else None
        if parent_flags is None or features_used.any or run_id.int in self.open_runs:
            admitted = self._admit(run_id, parent)
            if admitted is None:
                return
            parent, parent_flags = admitted
        kind, name = more.get(RUN_TYPE), more.get("name") or component_name(serialized)
        flags, copied, extra, reads_history = 0, None, None, False
        if kind == "prompt":
            flags, extra = PROMPT, template_of(serialized)
            number = (parent_flags or 0) & CONVERSATION
            copied = self._guarded(snapshot_state, inputs, new_messages_of_input, self.known_answers, number)
        elif kind == LLM:
            flags, kind = DECISION_MODEL, "model"
            copied = self._guarded(decision_call, inputs)
        elif parent_flags is None or parent_flags & TOP_STEP:
            flags = PROGRAM | NEEDS_STATE if inputs is not None else PROGRAM | NEEDS_STATE | NO_INPUT
            conversation = self._conversation_of(metadata)
            is_new = self._is_new_conversation(conversation)
            number = hash(conversation) << CONVERSATION_SHIFT if conversation else 0
            flags |= number | (is_new and NEW_CONVERSATION)
            if not is_input_deferred(inputs, more):
                select = all_messages_of_input if is_new else new_messages_of_input
                copied = self._guarded(snapshot_state, inputs, select, self.known_answers, number)
                reads_history = not conversation and parent_flags is None
        elif (metadata and metadata.get("langgraph_node") == name) or is_graph_node(tags):
            flags = NODE
            if parent_flags & NEEDS_STATE and parent is not None:
                parent_flags &= ~NEEDS_STATE
                self.open_runs[parent.int] = parent_flags
                number = parent_flags & CONVERSATION
                extra = self._guarded(snapshot_state, inputs, new_messages_of_input, self.known_answers, number)
        elif name == _HISTORY_RUN:
            flags = COUNT_HISTORY
        elif not parent_flags & NODE:
            flags = NEEDS_STATE  # it may be a graph that a chain or a step calls
        kind = kind if kind in _KINDS else "chain"
        self._record_start(kind, run_id, parent, parent_flags, name, copied, tags, metadata, extra, flags)
        if reads_history:
            self._put_history(run_id, inputs)

    def model_started(
        self,
        serialized: Any,
        messages: Any,
        run_id: UUID,
        parent: UUID | None,
        tags: Any,
        metadata: Any,
        more: dict[str, Any],
    ) -> None:
        admitted = self._admit(run_id, parent)
        if admitted is None:
            return
        parent, parent_flags = admitted
        call: tuple[Any, ...] | None = None
        conversation: str | None = None
        try:
            conversation = self._conversation_of(metadata) if parent_flags is None else None
            whole = conversation is not None and self._is_new_conversation(conversation)
            if isinstance(messages, str):
                text = take_snapshot(messages)
                call = (), (tuple(Message("human", text)),), 1, invocation_parameters(more), None
            else:
                system, new, repeats = new_messages_of_call(messages, self.known_answers, whole)
                call = tuple(system), tuple(new), len(messages), invocation_parameters(more), repeats
        except Exception as error:  # noqa: BLE001 - as in `_guarded`, without the extra call
            self._report("model_started", error)
        label = more.get("name")
        name = label or component_name(serialized)
        configurable = called_values() if parent_flags is None else None
        self._record_start("model", run_id, parent, parent_flags, name, call, tags, metadata, label, 0, configurable)
        if parent_flags is None and not isinstance(messages, str):
            self.awaited_models.add(run_id, more.get("batch_size", 1))
        if conversation == "":
            self._put_history(run_id, messages)

    def tool_started(
        self,
        serialized: Any,
        text: Any,
        run_id: UUID,
        parent: UUID | None,
        tags: Any,
        metadata: Any,
        more: dict[str, Any],
    ) -> None:
        admitted = self._admit(run_id, parent)
        if admitted is None:
            return
        inputs = more.get("inputs")
        copied = self._guarded(take_snapshot, text if inputs is None else inputs)
        # Not the run's name (`run_name`), which is a label: the model asks for the tool by its own.
        name = component_name(serialized) or more.get("name") or ""
        self._record_start("tool", run_id, *admitted, name, copied, tags, metadata, more.get("tool_call_id"))

    def retriever_started(
        self, serialized: Any, query: Any, run_id: UUID, parent: UUID | None, tags: Any, metadata: Any, name: str | None
    ) -> None:
        admitted = self._admit(run_id, parent)
        if admitted is None:
            return
        self._record_start(
            "retriever", run_id, *admitted, name or component_name(serialized), take_snapshot(query), tags, metadata
        )

    def span_started(self, kind: str, name: str, inputs: Any, is_stream: bool = False) -> OpenSpan | None:
        """Record the start of an `observe.span`; return None if it is not recorded. `is_stream`: its output is streamed."""
        run_id = uuid4()
        admitted = self._admit(run_id, None)
        if admitted is None:
            return None
        parent_flags = admitted[1]
        number = (parent_flags or 0) & CONVERSATION
        copied = self._guarded(snapshot_state, inputs, new_messages_of_input, self.known_answers, number)
        is_top = kind == "step" and (parent_flags is None or parent_flags & TOP_STEP)
        extra = STREAMED if is_stream else None
        self._record_start(kind, run_id, *admitted, name, copied, None, None, extra, TOP_STEP if is_top else 0)
        return OpenSpan(run_id, admitted[0])

    # -- ends -----------------------------------------------------------------------------

    def chain_ended(self, outputs: Any, run_id: UUID, inputs: Any) -> None:
        at = perf_counter_ns()
        # A run that is unknown, as after more than `OPEN_RUNS` others, may be a root, whose output is needed.
        flags = self.open_runs.pop(run_id.int, ROOT)
        if features_used.any and run_id.int in self.paused_runs.entries:
            return
        copied_inputs = output = None
        if flags & NODE:
            try:
                output = snapshot_state(outputs, new_messages_of_node, self.known_answers, flags & CONVERSATION)
            except Exception as error:  # noqa: BLE001 - as in `_guarded`, without the extra call
                self._report("snapshot_state", error)
        elif flags & PROMPT:
            output = self._guarded(snapshot_prompt_output, outputs)
        elif flags & DECISION_MODEL:
            output = self._guarded(decision_result, outputs)
        elif flags & COUNT_HISTORY:
            output = len(outputs) if isinstance(outputs, list) else None
        elif flags & RECORDS_VALUES:
            select = messages_of_continued_output if flags & NO_INPUT else new_messages_of_output
            output = self._guarded(snapshot_state, outputs, select, self.known_answers, flags & CONVERSATION)
        if inputs is not None and flags & RECORDS_VALUES:
            copied_inputs = self._deferred_inputs(run_id, inputs, flags)
        self.put(pack_fields((ENDED, run_id.int, at, output, copied_inputs)))
        if self.saves is not None and self.saves.active:
            self._save_turn(self.saves, flags)

    def model_ended(self, response: Any, run_id: UUID, parent: UUID | None = None) -> None:
        at = perf_counter_ns()
        was_started = run_id.int in self.open_runs
        flags = self._close(run_id.int)
        if features_used.any and run_id.int in self.paused_runs.entries:
            return
        if not was_started:
            # The assembler ignores the start of a run that it knows: another handler has reported its end.
            self.put(pack_record(RunStarted(run_id, parent, "model", "", at, extra=UNSEEN_START)))
        result: tuple[Any, ...] | None = None
        try:
            result = self._model_result(response)
        except Exception as error:  # noqa: BLE001 - as in `_guarded`, without the extra call
            self._report("_model_result", error)
        self.put(pack_fields((ENDED, run_id.int, at, result, None)))
        if self.saves is not None and self.saves.active:
            self._save_turn(self.saves, flags)

    def tool_ended(self, output: Any, run_id: UUID) -> None:
        at = perf_counter_ns()
        copy: Callable[[Any], Any] = take_snapshot
        if ROLE_BY_CLASS[type(output)] is not None:
            copy = snapshot_tool_message
            if type(call_id := output.__dict__.get("tool_call_id")) is str:
                self.known_answers.add(call_id)
        self._record_end(run_id, at, copy, output)

    def run_ended(self, output: Any, run_id: UUID) -> None:
        self._record_end(run_id, perf_counter_ns(), take_snapshot, output)

    def _record_end(self, run_id: UUID, at: int, copy: Callable[[Any], Any], output: Any) -> None:
        flags = self.open_runs.pop(run_id.int, 0)
        if not (features_used.any and run_id.int in self.paused_runs.entries):
            self.put(pack_fields((ENDED, run_id.int, at, self._guarded(copy, output), None)))
            if self.saves is not None and self.saves.active:
                self._save_turn(self.saves, flags)

    def run_failed(self, error: BaseException, run_id: UUID, more: dict[str, Any]) -> None:
        at = perf_counter_ns()
        flags = self._close(run_id.int)
        if features_used.any and run_id.int in self.paused_runs.entries:
            return
        response = more.get("response")
        output = self._guarded(self._model_result, response) if response is not None else None
        inputs = more.get("inputs")
        copied_inputs = None
        if inputs is not None and flags & RECORDS_VALUES:
            copied_inputs = self._deferred_inputs(run_id, inputs, flags)
        info = self._guarded(error_info, error) or ErrorInfo(type(error).__name__, "")
        streamed = None
        if flags & ROOT and self.streamed_tokens:
            streamed = {key: len(pieces) for key, pieces in list(self.streamed_tokens.items())}
        self.put(pack_record(RunFailed(run_id, at, info, output, copied_inputs, streamed)))
        if self.saves is not None and self.saves.active:
            self._save_turn(self.saves, flags)

    # -- during a run ---------------------------------------------------------------------

    def token_received(self, token: Any, run_id: UUID) -> None:
        pieces = self.streamed_tokens.get(run_id.int)
        if pieces is None:
            if run_id.int not in self.open_runs:
                return
            pieces = self.streamed_tokens[run_id.int] = _Pieces()
            self.put(FirstToken(run_id, perf_counter_ns(), pieces))
        if type(token) is str:
            pieces.add(token)
        elif token:
            pieces.add(text_of_token(token))

    def stream_event_received(self, event: Any, run_id: UUID) -> None:
        """Record the text of a protocol event, for models that stream events but report no tokens."""
        pieces = self.streamed_tokens.get(run_id.int)
        if (pieces is not None and type(pieces) is not _EventTexts) or not (text := text_of_stream_event(event)):
            return
        if pieces is None:
            if run_id.int not in self.open_runs:
                return
            pieces = self.streamed_tokens[run_id.int] = _EventTexts()
            self.put(FirstToken(run_id, perf_counter_ns(), pieces))
        pieces.add(text)

    def custom_event(self, name: str, data: Any, run_id: UUID) -> None:
        if run_id.int in self.open_runs:
            self.put(pack_record(Custom(run_id, name, perf_counter_ns(), take_snapshot(data))))

    def graph_state_changed(self, state: str, event: Any) -> None:
        """Record that a graph was interrupted or resumed."""
        interrupts = tuple(take_snapshot(i) for i in getattr(event, "interrupts", ()))
        at = perf_counter_ns()
        checkpoint_ns = "|".join(event.checkpoint_ns)
        self.put(pack_record(GraphState(as_run_id(event.run_id), state, at, checkpoint_ns, interrupts, event.status)))

    def abandoned(self, run_id: UUID) -> None:
        """Forget a run whose end is no longer expected. Called by the background thread."""
        self._close(run_id.int)

    # -- helpers --------------------------------------------------------------------------

    def _save_turn(self, saves: TurnSaves, flags: int) -> None:
        """Wait until the turn is safe if its root has just ended, or the last run of a turn that was cut off."""
        if flags & ROOT or not self.open_runs:
            saves.save()

    def _guarded(self, copy: Callable[..., Any], *arguments: Any) -> Any:
        """Call `copy`; return None if it fails, so that the run itself is still recorded."""
        try:
            return copy(*arguments)
        except Exception as error:  # noqa: BLE001 - the user's objects may raise anything when they are read
            self._report(getattr(copy, "__name__", "snapshot"), error)
            return None

    def _report(self, place: str, error: Exception) -> None:
        if self.report_error is not None:
            self.report_error(place, error)

    def _admit(self, run_id: UUID, parent: UUID | None) -> tuple[UUID | None, int | None] | None:
        """Return the parent's id, and its flags if it is open; None if this run is not recorded.

        A parent id that is not open is returned unchanged, because the assembler may know the run: it may have
        ended before its children. An unknown id, as under a LangSmith run tree, makes this run a root.
        """
        open_runs = self.open_runs
        if run_id.int in open_runs:
            return None
        if features_used.any:
            paused_runs = self.paused_runs.entries
            if is_paused.get() or (paused_runs and parent is not None and parent.int in paused_runs):
                self.paused_runs.add(run_id.int)
                return None
        parent_flags = open_runs.get(parent.int) if parent is not None else None
        if parent_flags is None:
            if is_paused.get():  # in one of gati's own threads, where `features_used` may not be set
                features_used.any = True
                self.paused_runs.add(run_id.int)
                return None
            enclosing = self.current_run_id() or chain_of_memory()
            return (parent, None) if enclosing is None else (enclosing, open_runs.get(enclosing.int))
        if features_used.any and (span := current_span.get()) and span.parent_id == parent and span.id.int in open_runs:
            return span.id, open_runs.get(span.id.int)  # LangChain does not know spans: insert it here
        return parent, parent_flags

    def current_run_id(self) -> UUID | None:
        """Return the id of the innermost open run or span that encloses the calling code."""
        open_runs = self.open_runs
        run: UUID | None = as_run_id(enclosing_run(running_config.get()))
        if run is not None and run.int not in open_runs:
            run = None
        span = current_span.get()
        if span is not None and span.id.int in open_runs and (run is None or span.parent_id == run):
            return span.id
        return run

    def enclosing_values(self, kind: str = "") -> dict[str, Any] | None:
        """Return the user's values in the running config; None if it belongs to no open run, as one that a server sets.

        `chain.batch` sets none. The values of a run of this kind, which begins, are then in the config of its own call.
        """
        if (config := running_config.get()) is not None:
            run: UUID | None = as_run_id(enclosing_run(config))
            if run is not None and run.int in self.open_runs:
                return values_of_config(config)
        return called_values() if kind in _CALLED_WITH_CONFIG else None

    def _record_start(
        self, kind: str, run_id: UUID, parent: UUID | None, parent_flags: int | None, name: str, inputs: Any, tags: Any,
        metadata: Any, extra: Any = None, flags: int = 0, configurable: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        scope: tuple[Any, ...] | None = None
        if not flags & PROGRAM:
            flags |= 0 if parent_flags is None else parent_flags & CONVERSATION
        if parent_flags is None:
            if self.awaited_models:
                self.end_abandoned_models()
            scope, metadata = current_scope.get(), with_active_span(take_snapshot(metadata))
            if parent is NOT_STARTED:
                parent, metadata = None, {**(metadata or {}), INTERNAL: True}
            scope = scope and tuple(scope)
            flags |= ROOT | NEEDS_IDENTITY
        else:
            if parent_flags & NEEDS_IDENTITY:
                # LangGraph sets the running config after a node's start, so the node's children read it.
                configurable = self.enclosing_values(kind if parent_flags & PROGRAM else "")
                if not configurable:
                    flags |= NEEDS_IDENTITY
                if configurable is not None and parent is not None:
                    self.open_runs[parent.int] = parent_flags & ~NEEDS_IDENTITY
            if metadata:
                metadata = metadata_below_root(metadata)
        if features_used.any:
            metadata = self._with_features(run_id, parent if parent_flags is not None else None, metadata)
            if parent_flags is not None and parent_flags & TOP_STEP and (inner := current_scope.get()) is not None:
                scope, configurable = tuple(inner), configurable or {}
        self.open_runs[run_id.int] = flags
        if len(self.open_runs) > OPEN_RUNS:
            self._close_oldest()
        self.put(pack_fields((
            STARTED, run_id.int, parent.int if parent is not None else None, kind, name, perf_counter_ns(), inputs,
            tags or (), metadata, extra, scope, configurable,
        )))  # fmt: skip

    def _with_features(self, run_id: UUID, parent: UUID | None, metadata: Any) -> Any:
        """Do what rarely used features need, and return the run's metadata."""
        if features_used.log_filter:
            if parent is not None:
                self.roots.add_child(run_id, parent)
            else:
                self.roots.add_root(run_id, self._conversation_of(metadata))
        return {**(metadata or {}), INTERNAL: True} if is_internal.get() else metadata

    def enclosing_root(self) -> Root | None:
        """Return the root of the run that encloses the calling code; None if it is unknown or there is none."""
        run_id = self.current_run_id()
        return self.roots.find(run_id) if run_id is not None else None

    def end_abandoned_models(self) -> None:
        """Record the end of awaited model calls whose task was cancelled. Also called by the background thread."""
        for run_id in self.awaited_models.take_abandoned(self.streamed_tokens):
            if run_id.int in self.open_runs:
                self.run_failed(asyncio.CancelledError(), run_id, {})

    def _close_oldest(self) -> None:
        for key in list(self.open_runs)[: OPEN_RUNS // 2]:
            self._close(key)

    def _close(self, key: int) -> int:
        if self.awaited_models:
            self.awaited_models.discard(key)
        if self.streamed_tokens:
            self.streamed_tokens.pop(key, None)
        return self.open_runs.pop(key, 0)

    def _deferred_inputs(self, run_id: UUID, inputs: Any, flags: int) -> Any:
        """Copy the input of a root that arrived with its end."""
        if flags & ROOT:
            self._put_history(run_id, inputs)
        return self._guarded(snapshot_state, inputs, _selection(flags), self.known_answers, flags & CONVERSATION)

    def _put_history(self, run_id: UUID, inputs: Any) -> None:
        """Record which history the input of a root without a conversation id repeats."""
        history = self._guarded(repeated_history, inputs)
        if history is not None:
            self.put(pack_record(HistoryRead(run_id, history)))

    def _is_new_conversation(self, conversation: str) -> bool:
        """Return True if a root is the first run seen of its conversation."""
        # Without an id the turn is its own conversation, so it has no earlier history to import.
        is_new = bool(conversation) and conversation not in self.known_conversations
        if is_new:
            self.known_conversations.add(conversation)
        return is_new

    def _conversation_of(self, metadata: Any) -> str:
        """Return the id that a scope, the metadata of a root or `init` names; "" without one."""
        scope = current_scope.get()
        conversation = scope.conversation_id if scope else None
        for key in CONVERSATION_KEYS:
            conversation = conversation or (metadata or {}).get(key)
        return bounded_id(str(conversation or self.default_conversation or ""))

    def _model_result(self, response: Any) -> tuple[Any, ...]:
        """Return the fields of a `ModelResult`."""
        answers = []
        generations = response.generations
        for candidate in generations[0] if generations else ():
            answer = getattr(candidate, "message", None)
            if answer is None:
                info = snapshot_response_metadata(candidate.generation_info)
                answers.append(tuple(Message("ai", take_snapshot(candidate.text), response=info)))
                continue
            remember_answer(answer, self.known_answers)
            if calls := answer.__dict__.get("tool_calls"):
                forget_calls(calls, self.known_answers)
            answers.append(snapshot_message(answer, result=True))
        return tuple(answers), snapshot_response_metadata(response.llm_output)


def called_values() -> dict[str, Any] | None:
    """Return the user's values in the config of the call that starts a run, without those of a running config around it."""
    given = (called_with() or {}).get("configurable")
    if not given:
        return None
    inherited = (running_config.get() or {}).get("configurable") or {}
    own = {key: value for key, value in given.items() if inherited.get(key) is not value}
    return values_of_config({"configurable": own}) or None


def _selection(flags: int) -> Callable[[Any, BoundedSet], list[Any]]:
    return all_messages_of_input if flags & NEW_CONVERSATION else new_messages_of_input
