"""Fetches prompts in daemon threads, which end as soon as there is nothing left to fetch."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from gati._context import mark_own_thread
from gati.clock import Clock
from gati.exporters.prompt_source import PromptSource, PromptSourceError
from gati.pipeline import internal_errors, process_hooks
from gati.prompts.disk_cache import DiskCache, FetchedPrompt

if TYPE_CHECKING:
    from gati.prompts.sources import SourceSpec
    from gati.settings import Settings

_MAX_THREADS = 4
_FIRST_RETRY_SECONDS, _MAX_RETRY_SECONDS = 1.0, 60.0
"""Pause after a failed fetch; it doubles with each further failure."""
_SEPARATORS = ("\n\n", "\n", " ", "")


class Entry:
    """The state of one prompt in this process.

    Attributes:
        prompt: the latest text; None if there is none yet.
        checked_at: monotonic time of the last answer of the source that confirmed `prompt`.
        is_from_disk: `prompt` was fetched by an earlier process.
        has_answered: a call for the prompt has returned; later calls do not wait.
        pending: done when the running fetch ends; None if there is none.
        not_before: monotonic time before which no new fetch begins.
        failures: number of failed fetches since the last answer.
    """

    __slots__ = (
        "checked_at", "failures", "has_answered", "is_from_disk", "name", "not_before", "pending", "prompt", "spec", "version",
    )  # fmt: skip

    def __init__(self, spec: SourceSpec, name: str, version: str | None) -> None:
        self.spec, self.name, self.version = spec, name, version
        self.prompt: FetchedPrompt | None = None
        self.checked_at = self.not_before = float("-inf")
        self.is_from_disk = self.has_answered = False
        self.pending: Future[None] | None = None
        self.failures = 0


class _Job(NamedTuple):
    entry: Entry
    settings: Settings
    ttl: float
    done: Future[None]


class Fetcher:
    """Runs fetches. A prompt is fetched once at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: deque[_Job] = deque()
        self._pending: set[Entry] = set()
        self._threads = 0
        process_hooks.register(self)

    def fetch(self, entry: Entry, settings: Settings, ttl: float) -> Future[None] | None:
        """Begin to fetch a prompt, unless it is being fetched or has to wait. Return the running fetch, if any."""
        with self._lock:
            if entry.pending is not None or Clock.monotonic() < entry.not_before:
                return entry.pending
            done: Future[None] = Future()
            done.set_running_or_notify_cancel()  # a task that is cancelled must not cancel it
            entry.pending = done
            self._pending.add(entry)
            self._jobs.append(_Job(entry, settings, ttl, done))
            if self._threads < _MAX_THREADS:
                self._start_thread()
            return done

    def _start_thread(self) -> None:
        try:
            threading.Thread(target=self._run, name="gati-prompts", daemon=True).start()
        except RuntimeError:  # at the interpreter's exit, or out of threads
            while not self._threads and self._jobs:
                self._end(self._jobs.popleft())
            return
        self._threads += 1

    def _next(self) -> _Job | None:
        with self._lock:
            if self._jobs:
                return self._jobs.popleft()
            self._threads -= 1
            return None

    def _end(self, job: _Job) -> None:
        self._pending.discard(job.entry)
        job.entry.pending = None
        job.done.set_result(None)

    def _run(self) -> None:
        mark_own_thread()
        sources: dict[str, PromptSource] = {}
        while (job := self._next()) is not None:
            try:
                _fetch(job, sources)
            except BaseException as error:  # noqa: BLE001 - the thread goes on with the next prompt
                internal_errors.report("prompts.fetch", error)
            finally:
                with self._lock:
                    self._end(job)
        for source in sources.values():
            with internal_errors.contain("prompts.fetch"):
                source.close()

    def after_fork_in_child(self) -> None:
        """Forget the threads of the parent. What they were fetching is fetched again."""
        self._lock = threading.Lock()
        self._threads = 0
        self._jobs.clear()
        for entry in self._pending:
            entry.pending = None
        self._pending.clear()

    def at_exit(self) -> None:
        """Do nothing: the threads end with the process."""


def _fetch(job: _Job, sources: dict[str, PromptSource]) -> None:
    """Read a prompt from disk the first time, and fetch it unless that one is new enough."""
    entry, settings = job.entry, job.settings
    disk = _disk_cache(settings, entry.spec.identity)
    if entry.prompt is None and disk is not None and (stored := disk.read(entry.name, entry.version)) is not None:
        entry.prompt, entry.is_from_disk = stored, True
        age = time.time() - stored.fetched_at
        if entry.version is not None or 0 <= age < job.ttl:
            entry.checked_at = Clock.monotonic() - max(age, 0.0)
            return
    if not settings.enabled:
        entry.not_before = Clock.monotonic() + _MAX_RETRY_SECONDS
        return
    try:
        source = sources.get(entry.spec.identity) or _connect(entry.spec, sources)
        fetched = _request(source, entry.name, entry.version)
    except PromptSourceError as error:
        _note_failure(entry, error)
        return
    if fetched is None:  # what is known is served: it may have been deleted by mistake, or the key may be another one
        _note_failure(entry, PromptSourceError("there is no such prompt"))
        return
    entry.failures = 0
    entry.prompt, entry.checked_at, entry.is_from_disk = fetched, Clock.monotonic(), False
    if disk is not None and entry.spec.kind == "greenflash":
        disk.write(entry.name, entry.version, fetched)


def _connect(spec: SourceSpec, sources: dict[str, PromptSource]) -> PromptSource:
    if process_hooks.import_interrupted():
        raise PromptSourceError("this process cannot import the SDK")
    with process_hooks.fork_lock:  # no fork may happen in the middle of an import
        source = sources[spec.identity] = spec.connect()
    return source


def _disk_cache(settings: Settings, identity: str) -> DiskCache | None:
    """Return the cache in the folder of the spool; None if nothing may be written to disk."""
    if not settings.spool:
        return None
    from gati.pipeline.filesystem import spool_folder

    folder = spool_folder(settings.spool_dir)
    return DiskCache(folder / "prompts", identity) if folder is not None else None


def _note_failure(entry: Entry, error: PromptSourceError) -> None:
    pause = min(_FIRST_RETRY_SECONDS * 2**entry.failures, _MAX_RETRY_SECONDS)
    entry.failures = min(entry.failures + 1, 10)
    entry.not_before = Clock.monotonic() + max(pause, error.retry_after or 0.0)
    internal_errors.log.emit(
        f"prompts.{entry.name}",
        "the prompt %r cannot be fetched (%s); the last text or the fallback is served",
        entry.name,
        str(error),
    )


def _request(source: PromptSource, name: str, version: str | None) -> FetchedPrompt | None:
    """Return the active version of a prompt, or the version with an id; None if the source does not have it."""
    answer = source.get(name) if version is None else _version(source, name, version)
    if answer is None:
        return None
    prompt = answer["prompt"]
    text = template_text(prompt, answer.get("composedPrompt"))
    id_ = prompt.get("id")
    if not text.strip() or not isinstance(id_, str):
        raise PromptSourceError("the prompt has no text")
    return FetchedPrompt(id_, text, time.time())


def _version(source: PromptSource, name: str, version: str) -> dict[str, Any] | None:
    """Return the prompt with this name in a version. The id of a version's prompt is accepted, too."""
    listed = source.list_all(version_id=version, include_archived=True)
    ids = [str(item.get("id")) for item in listed if item.get("externalPromptId") == name]
    answer = source.get(ids[0] if ids else version)
    return answer if answer is not None and answer["prompt"].get("externalPromptId") == name else None


def template_text(prompt: dict[str, Any], composed: object = None) -> str:
    """Return the text of a prompt with its placeholders: its components, joined as in `composed`, if that is possible.

    ``composedPrompt`` itself may have lost the placeholders.
    """
    texts = []
    with suppress(TypeError, AttributeError):
        texts = [str(part["content"]) for part in prompt["components"] if part.get("content")]
    if isinstance(composed, str):
        for separator in _SEPARATORS:
            if separator.join(texts) == composed:
                return composed
    return "\n\n".join(texts)
