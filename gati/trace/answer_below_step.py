"""Find the answer of a step in the programs that it ran: a step may return nothing, or the answer in an encoded form.

A step that streams yields what its reader needs: events of a web server, chunks, pairs, or updates of a state. What the user
read is then the text of the program whose answer these carry.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from gati.events import has_client_calls
from gati.limits import split_marker
from gati.trace.answer_source import is_user_facing
from gati.trace.chat_output import answer_in, json_text
from gati.trace.node_messages import messages_written_by
from gati.trace.stream_frames import is_frame, spells

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gati.trace.answer_source import ModelEvents
    from gati.trace.run_tree import Run

_WORD = re.compile(r"[^\W\d_]{2,}")
_MAX_FRAME_WORDS = 8
"""Different words without digits that the frames of a stream may have, such as `data`, `type` and `delta`."""
_CUT = "…"
"""Beginning of the last item of a stream that was too long to be kept."""
_MAX_PIECES = 16
"""Pieces of an answer that are looked for in a stream."""
_MIN_SEPARATED = 0.5
"""Part of these before which other material stands, if the stream is an encoding of unknown kind. An editor adds less."""


class _Answer(NamedTuple):
    """The text of a program, and the pieces in which its model streamed it, if it did."""

    text: str
    pieces: list[str]


def answer_below(step: Run, models: ModelEvents) -> str:
    """Return the answer of the last graph that ran directly in a step; without a graph, of the last chain or model."""
    return next((answer.text for answer in _answers_below(step, models)), "")


def answer_in_stream(step: Run, output: Any, models: ModelEvents) -> str:
    """Return the answer that the output of a step that streams carries; "" if the output has to be read as it is.

    Example: `data: "Hi "` and `data: "Ann"` of a model that answered "Hi Ann" → "Hi Ann".
    """
    is_text = isinstance(output, str)
    if not is_text and (own := answer_in(output)) and not any(own in event.completion for _, event in models):
        return ""  # a message that the step made itself
    stream = output if is_text else json_text(output)
    is_cut = _is_cut(output)
    carried = [
        answer.text
        for answer in _answers_below(step, models)
        if is_cut or (_is_encoding(stream, answer) and not (is_text and _is_other_text(stream, answer.text)))
    ]
    # A title or a suggestion may follow the answer.
    return max(carried, key=len, default="")


def _is_cut(output: Any) -> bool:
    """Return True for frames or items whose end, which may carry the answer, was not kept."""
    if isinstance(output, str):
        return is_frame(output) and split_marker(output) is not None
    return bool(output) and isinstance(output[-1], str) and output[-1].startswith(_CUT)


def _answers_below(step: Run, models: ModelEvents) -> Iterator[_Answer]:
    """Yield the answers of the programs directly in a step: of graphs first, and of later ones first."""
    completions = {
        run: event.completion
        for run, event in models
        if is_user_facing(run) and not has_client_calls(event.tool_requests)
    }
    for program in _programs_in(step):
        for run in sorted(program.walk(), key=lambda run: run.ended or 0, reverse=True):
            own = messages_written_by(run) if run.node and not completions.get(run) else None
            if text := completions.get(run) or (answer_in(own) if own else ""):
                yield _Answer(text, run.pieces or [])
                break


def _programs_in(step: Run) -> Iterator[Run]:
    graphs: list[Run] = []
    others: list[Run] = []
    for run in reversed(step.children):
        if run.kind in ("chain", "model", "step"):
            has_nodes = any(below.node is not None for below in run.walk())
            (graphs if has_nodes else others).append(run)
    for program in (*graphs, *others):
        if program.kind == "step":
            yield from _programs_in(program)
        else:
            yield program


def _is_encoding(stream: str, answer: _Answer) -> bool:
    """Return True if a stream is not the text that the user read, but carries that of an answer.

    It has the answer's pieces or words in their order, and beside them the frames of a known format, or other material
    before most of them. A text around the whole answer was read with it.
    """
    if "".join(stream.split()) == "".join(answer.text.split()):
        return False
    is_framed = is_frame(stream)
    if not is_framed and answer.text in stream:
        return False
    for pieces in (answer.pieces, answer.text.split()):
        gaps = _gaps(stream, pieces)
        if gaps and (is_framed or sum(gaps) >= _MIN_SEPARATED * len(gaps) > 1):
            return True
    return False


def _is_other_text(stream: str, answer: str) -> bool:
    """Return True if a stream has the words of an answer, but is a text of the program's own."""
    said, words = {*_WORD.findall(answer)}, {*_WORD.findall(stream)}
    # Sources, a status or the keys of a known format may have more words than the answer.
    return len(words - said) > max(_MAX_FRAME_WORDS, len(said)) and not spells(stream, answer)


def _gaps(stream: str, pieces: Iterable[str]) -> list[bool]:
    """Return for each of the first pieces whether other material stands before it; nothing if the stream lacks one."""
    gaps: list[bool] = []
    at = 0
    for piece in [text for piece in pieces if (text := piece.strip())][:_MAX_PIECES]:
        found = [(start, form) for form in _forms(piece) if (start := stream.find(form, at)) >= 0]
        if not found:
            return []
        start, form = min(found)
        gaps.append(bool(stream[at:start].strip()))
        at = start + len(form)
    return gaps


def _forms(text: str) -> set[str]:
    """Return a text as it is, and as it is written in JSON."""
    return {text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
