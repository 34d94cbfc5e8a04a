"""Routes callbacks while one recorder takes over from another, after a second `init`.

Runs that an earlier recorder has begun, and all runs below them, stay with it, so that a turn is recorded by one
pipeline from its start to its end, however often `init` is called meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from gati.langchain.callback_args import as_run_id
from gati.langchain.current import current

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from gati._context import OpenSpan
    from gati.langchain.recorder import Recorder
    from gati.langchain.run_roots import Root


MAX_EARLIER = 16
"""Most recorders with open runs that are asked for theirs."""


class HandoverRecorder:
    """Has the methods of `Recorder`, and passes each call to the recorder that the run belongs to.

    Attributes:
        earlier: record the rest of the turns that are open, the newest first. The list is replaced, never changed.
        later: records all other turns.
    """

    def __init__(self, earlier: list[Recorder], later: Recorder) -> None:
        self.earlier = earlier
        self.later = later

    def __getattr__(self, name: str) -> Any:
        return getattr(self.later, name)

    def recorder_of(self, run_id: UUID) -> Recorder:
        """Return the recorder of a run that has started."""
        key = run_id.int
        for earlier in self.earlier:
            if key in earlier.open_runs or key in earlier.paused_runs.entries:
                return earlier
        return self.later

    def recorder_of_child(self, parent: UUID | None) -> Recorder:
        """Return the recorder of a run that starts now."""
        if parent is not None and (recorder := self.recorder_of(parent)) is not self.later:
            return recorder
        for earlier in self.earlier:
            if earlier.current_run_id() is not None:
                return earlier
        return self.later

    def current_run_id(self) -> UUID | None:
        """Return the id of the innermost open run or span that encloses the calling code."""
        return self.recorder_of_child(None).current_run_id()

    def enclosing_root(self) -> Root | None:
        """Return the root of the run that encloses the calling code; None if it is unknown or there is none."""
        return self.recorder_of_child(None).enclosing_root()

    def enclosing_values(self) -> dict[str, Any] | None:
        """Return the user's values in the running config."""
        return self.recorder_of_child(None).enclosing_values()

    def chain_started(self, serialized: Any, inputs: Any, run_id: UUID, parent: UUID | None, *more: Any) -> None:
        self.recorder_of_child(parent).chain_started(serialized, inputs, run_id, parent, *more)

    def model_started(self, serialized: Any, messages: Any, run_id: UUID, parent: UUID | None, *more: Any) -> None:
        self.recorder_of_child(parent).model_started(serialized, messages, run_id, parent, *more)

    def tool_started(self, serialized: Any, text: Any, run_id: UUID, parent: UUID | None, *more: Any) -> None:
        self.recorder_of_child(parent).tool_started(serialized, text, run_id, parent, *more)

    def retriever_started(self, serialized: Any, query: Any, run_id: UUID, parent: UUID | None, *more: Any) -> None:
        self.recorder_of_child(parent).retriever_started(serialized, query, run_id, parent, *more)

    def span_started(self, *arguments: Any, **more: Any) -> OpenSpan | None:
        return self.recorder_of_child(None).span_started(*arguments, **more)

    def chain_ended(self, outputs: Any, run_id: UUID, *more: Any) -> None:
        self.recorder_of(run_id).chain_ended(outputs, run_id, *more)

    def model_ended(self, response: Any, run_id: UUID, *more: Any) -> None:
        self.recorder_of(run_id).model_ended(response, run_id, *more)

    def tool_ended(self, output: Any, run_id: UUID, *more: Any) -> None:
        self.recorder_of(run_id).tool_ended(output, run_id, *more)

    def run_ended(self, output: Any, run_id: UUID, *more: Any) -> None:
        self.recorder_of(run_id).run_ended(output, run_id, *more)

    def run_failed(self, error: BaseException, run_id: UUID, *more: Any) -> None:
        self.recorder_of(run_id).run_failed(error, run_id, *more)

    def token_received(self, token: Any, run_id: UUID, *more: Any) -> None:
        self.recorder_of(run_id).token_received(token, run_id, *more)

    def stream_event_received(self, event: Any, run_id: UUID) -> None:
        self.recorder_of(run_id).stream_event_received(event, run_id)

    def custom_event(self, name: str, data: Any, run_id: UUID, *more: Any) -> None:
        self.recorder_of(run_id).custom_event(name, data, run_id, *more)

    def graph_state_changed(self, state: str, event: Any) -> None:
        self.recorder_of(as_run_id(event.run_id)).graph_state_changed(state, event)

    def abandoned(self, run_id: UUID) -> None:
        self.recorder_of(run_id).abandoned(run_id)


def hand_over(later: Recorder | None) -> Callable[[], bool]:
    """Make `later` the current recorder; runs that are open stay with the recorders that began them.

    Args:
        later: None to record no other turns.

    Returns:
        A function that returns True as soon as the present recorder has no open run.
    """
    present: Any = current.recorder
    if present is None:
        install(later)
        return lambda: True
    earlier: Recorder = present.later if isinstance(present, HandoverRecorder) else present
    older = _busy(present.earlier)[: MAX_EARLIER - 1] if isinstance(present, HandoverRecorder) else []
    if later is None:
        from gati.langchain.recorder import Recorder  # late: it loads LangChain

        later = Recorder(_ignore)
    handover: Any = HandoverRecorder([earlier, *older], later)
    install(handover)

    def is_done() -> bool:
        if earlier.open_runs:
            return False
        _release(earlier)
        return True

    return is_done


def install(recorder: Recorder | None) -> None:
    """Make a recorder the current one, without a handover."""
    global _installed
    _installed = current.recorder = recorder


_installed: Any = None
"""What was installed last. Says to a background thread that replaces the current recorder whether it did so too late."""


def _release(recorder: Recorder) -> None:
    """Ask a recorder without open runs no more. Called in a background thread."""
    handover, present = _installed, cast("Any", current.recorder)
    if not isinstance(handover, HandoverRecorder):
        return
    handover.earlier = [earlier for earlier in _busy(handover.earlier) if earlier is not recorder]
    if not handover.earlier and present is handover:
        later = handover.later
        current.recorder = later if later.put is not _ignore else None
        if cast("Any", _installed) is not handover:  # a thread of the program has installed another one meanwhile
            current.recorder = _installed


def _busy(recorders: list[Recorder]) -> list[Recorder]:
    return [recorder for recorder in recorders if recorder.open_runs]


def _ignore(record: object) -> None: ...


def recorder_of_enclosing_run() -> Recorder | None:
    """Return the recorder of the run that encloses the calling code; None if nothing is recorded."""
    present: Any = current.recorder
    return present.recorder_of_child(None) if isinstance(present, HandoverRecorder) else present
