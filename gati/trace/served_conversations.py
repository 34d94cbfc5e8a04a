"""The conversations that a step serves: a handler may learn only from its request, or from a job, whose it is.

A root step that names no conversation belongs to the only one that the programs directly in it name: by a scope around them, or by
their own metadata and config. A program or step of another conversation becomes a turn of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gati.limits import bounded_id
from gati.trace.identity import resolve
from gati.trace.records import IDENTITY_KEYS
from gati.trace.run_tree import Identity, split_off

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gati.options import Settings
    from gati.trace.records import Scope
    from gati.trace.run_tree import Run, Trace

_PROGRAMS = frozenset({"chain", "model", "tool", "retriever"})
"""Kinds of runs below a step that may be turns of their own."""


class _Served(NamedTuple):
    """A program in a step, with its conversation (None if it names none), its user and its sources."""

    id: str | None
    user_id: str | None
    identity: Identity


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
    served = [program for program in _served_in(trace.root, trace, settings) if program.id or program.user_id]
    home = trace.scope.conversation_id if trace.scope is not None else None
    if home is None:
        served = [program for program in served if program.id] or served
        names = {program.id or program.user_id for program in served}
        if len(names) > 1:
            return own
    else:
        served = [program for program in served if program.id in (None, bounded_id(home))]
    configurable = dict(trace.configurable or {})
    for program in served:
        configurable = {**(program.identity.configurable or {}), **configurable}
    scopes = [program.identity.scope for program in served if program.identity.scope is not None]
    scope = next((scope for scope in scopes if scope.user_id is not None), scopes[0] if scopes else trace.scope)
    return Identity(scope, configurable or None)


def split_off_served(trace: Trace, settings: Settings) -> list[Trace]:
    """Move the programs and steps of other conversations than that of a root step into traces of their own."""
    identity = identity_of(trace, settings)
    home = _name(trace, identity, settings)
    served = list(_served_in(trace.root, trace, settings))
    users = {program.user_id for program in served if program.user_id}
    by_user = home is None and len(users) > 1 and not any(program.id for program in served)
    parts = []
    for run, first in _others_in(trace.root, home, by_user, trace, settings):
        part = split_off(trace, run)
        part.scope, part.identities = first.identity.scope or trace.scope, trace.identities
        part.configurable = first.identity.configurable if run.kind != "step" else None
        parts.append(part)
    if parts:
        trace.interrupts, trace.pauses = [], []
        if home is None:  # what the step was given and returned are the words of several persons
            trace.root.inputs = trace.root.output = None
    trace.scope, trace.configurable = identity
    return parts


def _others_in(
    step: Run, home: str | None, by_user: bool, trace: Trace, settings: Settings
) -> Iterator[tuple[Run, _Served]]:
    """Yield the programs and steps of one other conversation each, with the first program in it that names it."""
    for run in list(step.children):
        served = [one for one in _served_in(run, trace, settings) if (one.user_id if by_user else one.id)]
        names = {one.user_id if by_user else one.id for one in served}
        if len(names) > 1:
            yield from _others_in(run, home, by_user, trace, settings)
        elif names and names != {home}:
            yield run, served[0]


def _served_in(run: Run, trace: Trace, settings: Settings) -> Iterator[_Served]:
    if run.kind == "step" and run.children:
        for child in run.children:
            yield from _served_in(child, trace, settings)
    elif run.kind in _PROGRAMS:
        noted = (trace.identities or {}).get(run, Identity())
        named_by_run = {key: run.metadata[key] for key in IDENTITY_KEYS if key in run.metadata}
        configurable = {**(noted.configurable or {}), **named_by_run}
        identity = Identity(noted.scope or trace.scope, configurable)
        named = resolve("", identity.scope, configurable, None, settings)
        unnamed = resolve("", None, None, None, settings)
        conversation = named.id if named.id != unnamed.id else None
        yield _Served(conversation, named.user_id if named.user_id != unnamed.user_id else None, identity)


def _name(trace: Trace, identity: Identity, settings: Settings) -> str | None:
    """Return the conversation that a root step names or adopts; None without one."""
    found = resolve("", identity.scope, trace.root.metadata, identity.configurable, settings).id
    return found if found != resolve("", None, None, None, settings).id else None


def _program_of(run: Run) -> Run | None:
    """Return the program directly in a step of the turn's top that contains a run; None for such a step."""
    program = None
    for above in (run, *run.ancestors()):
        if above.kind != "step":
            program = above
    return program
