"""The answer of a turn that ended early: what was read of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gati.events import has_client_calls
from gati.trace.answer_source import is_user_facing
from gati.trace.chat_output import answer_in, json_text
from gati.trace.complete_answer import branches_of, completions_of
from gati.trace.content import text_of
from gati.trace.records import Message

if TYPE_CHECKING:
    from gati.trace.answer_source import ModelEvents
    from gati.trace.run_tree import Run, Trace


def partial_answer_of(trace: Trace, models: ModelEvents) -> tuple[str, bool]:
    """Return the text so far of a turn that ended early, and whether it is the complete answer.

    It is complete if the user stopped reading only after the last chunk. An answer that was not
    streamed and then lost (its chain was cancelled) never reached the user: ``("", False)``.
    """
    if (cut_off := model_cut_off_by_reader(trace)) is not None:
        read = answer_in(trace.root.output)
        if not read and branches_of(cut_off) and not completions_of(models, in_sequence=True):
            return _consumed_branches(trace.root.output), False
        return _consumed_text(cut_off, read)
    closed = trace.root.error is not None and trace.root.error.control == "closed"
    for run, event in reversed(models):
        if is_user_facing(run):
            if _outlived_root(trace, run):
                return "".join((run.pieces or [])[: run.pieces_read or 0]), False
            requests_tools = has_client_calls(event.tool_requests)
            complete = run.ended is not None and run.error is None and not requests_tools
            if complete and run.first_token is None and not closed:
                return "", False
            return (event.completion if complete or not requests_tools else ""), complete
    return "", False


def _outlived_root(trace: Trace, run: Run) -> bool:
    """Return True if the root ended with an exception while `run` was open.

    A server that cancels a request may leave the model running. What it says afterwards was not read.
    """
    root = trace.root
    return root.ended is not None and root.error is not None and (run.ended is None or run.ended > root.ended)


def model_cut_off_by_reader(trace: Trace) -> Run | None:
    """Return the model run that was still streaming when the reader closed a chain's stream.

    LangChain then ends the chain without an error and lets the model finish.
    """
    root = trace.root
    if not root.streamed or root.ended is None or root.error is not None:
        return None
    for run in reversed(trace.models()):
        if run.first_token is not None and is_user_facing(run):
            outlived_root = run.first_token < root.ended and (run.ended is None or run.ended > root.ended)
            closed = run.error is not None and run.error.control == "closed"
            if outlived_root or closed:
                return run
            if not branches_of(run):  # another branch may have been streaming
                return None
    return None


def _consumed_branches(output: Any) -> str:
    """Return the texts that were read of parallel branches, without the last chunk, whose branch is not known."""
    if not isinstance(output, dict):
        return ""
    texts = {key: text_of(part) if isinstance(part, Message) else part for key, part in output.items()}
    return json_text(texts) if any(texts.values()) else ""


def _consumed_text(run: Run, chain_output: str) -> tuple[str, bool]:
    """Return the text that was read from a model's stream, and whether it is all of it.

    The chain's output lacks the chunk at which the reader stopped. Example: chunks ``["He", "llo", "!"]``
    and chain output ``"He"`` → ``("Hello", False)``.
    """
    chunks = run.pieces or []
    streamed, read = "".join(chunks), ""
    if not streamed.startswith(chain_output):
        return chain_output, False
    for chunk in chunks:
        read += chunk
        if len(read) > len(chain_output):
            break
    return read, read == streamed and run.error is None and run.ended is not None
