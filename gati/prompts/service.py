"""Serves prompts from memory, and fetches them in gati's own threads.

A thread of the program waits for the first fetch of a prompt only, for at most `FIRST_WAIT_SECONDS`. What it then finds
in memory is served at once: the latest text that was fetched, the one that an earlier process left on disk, or the
fallback. A text older than its `ttl` is still served, and fetched again in the background.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, NamedTuple

from gati._api.runtime import runtime
from gati.clock import Clock
from gati.errors import ConfigurationError, PromptUnavailableError
from gati.pipeline import internal_errors
from gati.prompts.choice import choose_variant, enclosing_conversation_id
from gati.prompts.fetcher import Entry, Fetcher
from gati.prompts.managed_prompt import ManagedPrompt, variables_of
from gati.prompts.sources import SourceSpec, source_of

if TYPE_CHECKING:
    from gati.settings import Settings

FIRST_WAIT_SECONDS = 1.0
"""Longest wait of the program for the first fetch of a prompt."""
MAX_ENTRIES = 1000
"""Prompts in memory; the oldest ones are forgotten."""


class PromptRequest(NamedTuple):
    """The arguments of one `get`."""

    name: str
    fallback: str | None
    ttl: float
    version: str | None = None
    variant: str | None = None


class PromptService:
    """The prompts of this process. Safe to use from several threads, and in forked children."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str, str | None], Entry] = {}
        self._fetcher = Fetcher()
        self._spec: tuple[Settings | None, SourceSpec | None] | None = None
        self._loaded: Settings | None = None

    def request(
        self,
        name: str,
        fallback: str | None,
        ttl: object,
        version: str | None,
        variants: Mapping[str, str | None] | None,
        weights: Mapping[str, float] | None,
        conversation_id: Any,
    ) -> PromptRequest:
        """Return the request of a `get`, with the version that was chosen for the conversation."""
        seconds = float(ttl) if isinstance(ttl, (int, float)) and not math.isnan(ttl) else 60.0
        if not variants:
            return PromptRequest(str(name), fallback, seconds, version)
        settings = runtime.settings
        default = settings.conversation_id if settings is not None else None
        conversation = enclosing_conversation_id(default) if conversation_id is None else str(conversation_id)
        labels = list(variants)
        label = choose_variant(str(name), labels, weights, conversation)
        return PromptRequest(str(name), fallback, seconds, variants[label], label)

    def get(self, request: PromptRequest) -> ManagedPrompt:
        """Return a prompt; wait for it if this is the first call for it."""
        entry, pending = self._look_up(request)
        if pending is not None:
            wait([pending], FIRST_WAIT_SECONDS)
        return self._answer(request, entry)

    async def aget(self, request: PromptRequest) -> ManagedPrompt:
        """Like `get`, without blocking the event loop."""
        entry, pending = self._look_up(request)
        if pending is not None:
            await asyncio.wait([asyncio.wrap_future(pending)], timeout=FIRST_WAIT_SECONDS)
        return self._answer(request, entry)

    def prefetch(self, names: Sequence[str], timeout: float) -> bool:
        """Fetch the active versions of prompts. Return True if all have a text."""
        entries, pending = self._start_all(names)
        wait(pending, timeout)
        return all(entry is not None and entry.prompt is not None for entry in entries)

    async def aprefetch(self, names: Sequence[str], timeout: float) -> bool:
        """Like `prefetch`, without blocking the event loop."""
        entries, pending = self._start_all(names)
        if pending:
            await asyncio.wait([asyncio.wrap_future(future) for future in pending], timeout=timeout)
        return all(entry is not None and entry.prompt is not None for entry in entries)

    def _start_all(self, names: Sequence[str]) -> tuple[list[Entry | None], list[Future[None]]]:
        found = [self._look_up(PromptRequest(name, None, 60.0)) for name in names]
        return [entry for entry, _ in found], [pending for _, pending in found if pending is not None]

    def _look_up(self, request: PromptRequest) -> tuple[Entry | None, Future[None] | None]:
        """Return the prompt's entry, and the fetch to wait for, if this is the first call for the prompt."""
        try:
            return self._look_up_entry(request)
        except Exception as error:  # noqa: BLE001 - the fallback is served, whatever happened
            internal_errors.report("prompts.get", error)
            return None, None

    def _look_up_entry(self, request: PromptRequest) -> tuple[Entry | None, Future[None] | None]:
        settings = self._settings()
        spec = self._source(settings)
        if settings is None or spec is None:
            return None, None
        key = (spec.identity, request.name, request.version)
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries.setdefault(key, Entry(spec, request.name, request.version))
            if len(self._entries) > MAX_ENTRIES:
                for old in list(self._entries)[: MAX_ENTRIES // 4]:
                    self._entries.pop(old, None)
        is_fresh = entry.prompt is not None and (
            request.version is not None or Clock.monotonic() - entry.checked_at < request.ttl
        )
        if is_fresh:
            return entry, None
        pending = self._fetcher.fetch(entry, settings, request.ttl)
        return entry, pending if not entry.has_answered else None

    def _settings(self) -> Settings | None:
        """Return the options of `init`; before it, those of the environment."""
        if runtime.settings is not None:
            return runtime.settings
        if self._loaded is None:
            from gati.settings import load

            try:
                self._loaded = load()
            except ConfigurationError as error:
                internal_errors.log.emit("prompts.settings", "prompts cannot be fetched: %s", str(error))
                return None
        return self._loaded

    def _source(self, settings: Settings | None) -> SourceSpec | None:
        known = self._spec
        if known is None or known[0] is not settings:
            known = self._spec = settings, source_of(settings) if settings is not None else None
        return known[1]

    def _answer(self, request: PromptRequest, entry: Entry | None) -> ManagedPrompt:
        found = entry.prompt if entry is not None else None
        if entry is not None:
            entry.has_answered = True
        if found is None or entry is None:
            if not isinstance(request.fallback, str):
                raise PromptUnavailableError(request.name)
            return ManagedPrompt(request.name, request.fallback, "fallback", variant=request.variant)
        return ManagedPrompt(
            request.name,
            found.text,
            "disk" if entry.is_from_disk else entry.spec.kind,
            found.id,
            request.variant,
            request.version is not None,
            variables_of(request.fallback) if isinstance(request.fallback, str) else None,
        )

    def reset(self) -> None:
        """Forget all prompts, for tests."""
        self._entries.clear()
        self._spec = self._loaded = None


service = PromptService()
"""The prompts of this process."""
