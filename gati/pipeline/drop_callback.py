"""Calls the user's `on_drop` callback for deliveries that were dropped, rejected or paused.

The callback runs in a thread of its own, so one that blocks delays neither the worker, which writes
finished turns to disk, nor a sender, nor `flush`. The thread exists only while there are drops to report.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from gati._context import mark_own_thread
from gati.pipeline.codec import unpack
from gati.pipeline.internal_errors import report
from gati.pipeline.stats import Drop

if TYPE_CHECKING:
    from collections.abc import Callable

    from gati.events import Item
    from gati.pipeline.stats import DropKind

GATHER_SECONDS = 0.1
"""Time to wait before each round of calls, so that equal drops are reported by one call."""

MAX_PENDING = 1_000
"""Different drops that are kept for the next round; beyond that, only their kind and destination are kept."""


class DropNotifier:
    """Collect drops from any thread and report them to one callback."""

    def __init__(self, callback: Callable[[Drop], object] | None = None) -> None:
        self._callback = callback
        # Held for a few dictionary operations and never during a call: `add` runs under the lock of an outbox.
        self._lock = threading.Lock()
        self._pending: dict[tuple[DropKind, str, str], Drop] = {}
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._closed = False

    def add(
        self,
        kind: DropKind,
        reason: str,
        messages: int = 0,
        destination: str = "",
        source: bytes | Item | None = None,
    ) -> None:
        """Queue a call; never blocks on the callback.

        Pending drops of one kind, reason and destination become one call with the sum of their messages.
        `source` is the lost request's line or the lost item, which names the conversation.
        """
        if self._callback is None or self._closed:
            return
        drop = Drop(reason, kind, messages, destination, _conversation_id(source))
        with self._lock:
            self._merge(drop)
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._run, name="gati-on-drop", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # at the interpreter's exit, or out of threads: the next drop tries again
                return
            self._thread = thread

    def _merge(self, drop: Drop) -> None:
        key = (drop.kind, drop.reason, drop.destination)
        if key not in self._pending and len(self._pending) >= MAX_PENDING:
            drop = replace(drop, reason="various", conversation_id=None)
            key = (drop.kind, drop.reason, drop.destination)
        if (earlier := self._pending.get(key)) is not None:
            same = earlier.conversation_id == drop.conversation_id
            drop = replace(
                drop,
                messages=earlier.messages + drop.messages,
                conversation_id=drop.conversation_id if same else None,
            )
        self._pending[key] = drop

    def _run(self) -> None:
        """Call until nothing is pending. Body of the thread."""
        mark_own_thread()
        while True:
            self._closing.wait(GATHER_SECONDS)
            with self._lock:
                drops, self._pending = [*self._pending.values()], {}
                if not drops:
                    self._thread = None  # under the lock, so that no drop is added to a thread that ends
                    return
            for drop in drops:
                self._call(drop)

    def _call(self, drop: Drop) -> None:
        if self._closed or self._callback is None:
            return
        try:
            self._callback(drop)
        except BaseException as error:  # noqa: BLE001 - the user's function may raise anything, SystemExit too
            report("on_drop", error)

    def close(self, until: float) -> None:
        """Report what is pending, and make no call after this returns.

        Waits for the callback up to the monotonic time `until`; a call that takes longer is left behind.
        """
        self._closing.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, until - time.monotonic()))
        self._closed = True


def _conversation_id(source: bytes | Item | None) -> str | None:
    """Return the id of the conversation that a lost request or item belongs to, if there is one."""
    if source is None:
        return None
    if not isinstance(source, bytes):
        conversation = getattr(source, "conversation", None)  # a turn has one, an event has its id only
        return conversation.id if conversation is not None else getattr(source, "conversation_id", None)
    try:
        request = unpack(source)
    except (ValueError, KeyError, TypeError):
        return None
    if request.endpoint == "messages" or "events" in request.body:
        return request.ordering_key
    found = request.body.get("external_conversation_id")
    return found if isinstance(found, str) else None
