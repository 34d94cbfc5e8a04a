"""The conversations that a step serves: a handler may learn only from its request, or from a job, whose it is.

A root step that names no conversation belongs to the only one that the programs directly in it name: by a scope around them, or by
their own metadata and config. If there are several, each program or step of one becomes a turn of its own. Several threads of one
user are no such conversations: the agents of a handler may have threads of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gati.limits import bounded_id
from gati.trace.identity import resolve
from gati.trace.records import IDENTITY_KEYS
from gati.trace.run_tree import Identity, split_off

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gati.events import Conversation
    from gati.options import Settings
    from gati.trace.records import Scope
    from gati.trace.run_tree import Run, Trace

_PROGRAMS = frozenset({"chain", "model", "tool", "retriever", "embedding", "memory_read", "memory_write"})
"""Kinds of runs below a step that may be turns of their own."""


class _Served(NamedTuple):
    """A program in a step, with its conversation and user (None if it names none), and its sources.

    `is_thread`: only a thread names the conversation.
    """

    id: str | None
    user_id: str | None
    identity: Identity
    is_thread: bool


def note_identity(trace: Trace, run: Run, scope: Scope | None, configurable: dict[str, Any] | None) -> None:
    """Remember the sources that a run below a root step names; its config is that of the whole program."""
    if trace.identities is None:
        trace.identities = {}
    if scope is not None:
        known = trace.identities.get(run, Identity())
        trace.identities[run] = known._replace(scope=scope)
    if configurable and (program := _program_of(run)) is not None:
        known = trace.identities.get(program, Identity())
        trace.identities[program] = known._replace(configurable={**configurable, **(known.configurable or {})})


def identity_of(trace: Trace, settings: Settings) -> Identity:
    """Return the sources of the identity of a root step: its own, and those of the programs in its conversation."""
    own = Identity(trace.scope, trace.configurable)
    served = [program for program in _programs_in(trace, settings).values() if program.id or program.user_id]
    if _is_named(trace):
        home = bounded_id(str(trace.scope.conversation_id)) if trace.scope is not None else None
        served = [program for program in served if program.id in (None, home)]
    else:
        served = [program for program in served if program.id] or served
        if len({(program.id, program.user_id) for program in served if program.user_id}) > 1:
            return own
        if len({program.id for program in served}) > 1:
            return own
    configurable = dict(trace.configurable or {})
    for program in served:
        configurable = {**(program.identity.configurable or {}), **configurable}
    scopes = [program.identity.scope for program in served if program.identity.scope is not None]
    scope = next((scope for scope in scopes if scope.user_id is not None), scopes[0] if scopes else trace.scope)
    return Identity(scope, configurable or None)


def split_off_served(trace: Trace, settings: Settings) -> list[Trace]:
    """Move the programs of a root step that serves several conversations into traces of their own."""
    identity = identity_of(trace, settings)
    parts: list[Trace] = []
    if not _is_named(trace):
        programs = _programs_in(trace, settings)
        users = {program.user_id for program in programs.values() if program.user_id}
        has_ids = any(program.id for program in programs.values())
        names = {
            run: (program.id, program.user_id if len(users) > 1 else None)
            for run, program in programs.items()
            if program.id or (program.user_id and not has_ids)
        }
        if len(set(names.values())) > 1:
            for run, first in _units_of_one(trace.root, names):
                part = split_off(trace, run)
                part.scope, part.identities = programs[first].identity.scope or trace.scope, trace.identities
                part.configurable = programs[first].identity.configurable if run.kind != "step" else None
                parts.append(part)
    if parts:
        trace.serves_several = True
    trace.scope, trace.configurable = identity
    return parts


def _units_of_one(step: Run, names: dict[Run, tuple[str | None, str | None]]) -> Iterator[tuple[Run, Run]]:
    """Yield the largest runs in a step that serve one conversation each, with the first program in it that names it."""
    for run in list(step.children):
        named = [below for below in run.walk() if below in names]
        if len({names[program] for program in named}) > 1:
            yield from _units_of_one(run, names)
        elif named:
            yield run, named[0]


def _is_named(trace: Trace) -> bool:
    """Return True if the scope around a root step names its conversation."""
    return trace.scope is not None and trace.scope.conversation_id is not None


def _programs_in(trace: Trace, settings: Settings) -> dict[Run, _Served]:
    """Return the programs directly in a root step."""
    unnamed = resolve("", None, None, None, settings)
    programs = {run: _serving(run, trace, unnamed, settings) for run in _walk_programs(trace.root, trace)}
    threads = {run: program for run, program in programs.items() if program.is_thread}
    if len({program.user_id for program in threads.values() if program.user_id}) < 2:
        first = next(iter(threads.values()), None)
        programs |= {run: program._replace(id=first.id) for run, program in threads.items() if first is not None}
    return programs


def _walk_programs(run: Run, trace: Trace) -> Iterator[Run]:
    for child in run.children:
        if child.kind == "step" and child.children:
            yield from _walk_programs(child, trace)
        elif child.kind in _PROGRAMS or child in (trace.identities or {}):
            yield child


def _serving(run: Run, trace: Trace, unnamed: Conversation, settings: Settings) -> _Served:
    noted = (trace.identities or {}).get(run, Identity())
    named_by_run = {key: run.metadata[key] for key in IDENTITY_KEYS if key in run.metadata}
    configurable = {**(noted.configurable or {}), **named_by_run}
    identity = Identity(noted.scope or trace.scope, configurable)
    named = resolve("", identity.scope, configurable, None, settings)
    without_thread = {key: value for key, value in configurable.items() if key != "thread_id"}
    return _Served(
        named.id if named.id != unnamed.id else None,
        named.user_id if named.user_id != unnamed.user_id else None,
        identity,
        named.id != resolve("", identity.scope, without_thread, None, settings).id,
    )


def _program_of(run: Run) -> Run | None:
    """Return the program directly in a step of the turn's top that contains a run; None for such a step."""
    program = None
    for above in (run, *run.ancestors()):
        if above.kind != "step":
            program = above
    return program
