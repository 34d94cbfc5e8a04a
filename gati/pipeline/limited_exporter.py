"""Calls the methods of a user's exporter with a time limit. gati's own exporters limit their time themselves."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from gati.exporters.base import Exporter, Outcome, Request, Verdict
from gati.pipeline.internal_errors import guard, report
from gati.pipeline.time_limit import CallTimeoutError, TimeLimit

if TYPE_CHECKING:
    from gati.events import Item
    from gati.exporters.base import SpoolIdentity

T = TypeVar("T")

ENCODE_SECONDS = 10.0
"""Time limit of `encode`, `split` and `prepare`."""

MIN_SEND_SECONDS = 60.0
"""Shortest time limit of `send`, after which the request is sent again."""

CLOSE_SECONDS = 1.0
"""Time limit of `close`."""


class LimitedExporter:
    """An exporter that delegates to one of the user's. See `exporters.base.Exporter`.

    Args:
        exporter: the user's exporter.
        timeout: the option `timeout`, in seconds.
        inherited: True in a forked child: `after_fork` is called before any other method.
    """

    def __init__(self, exporter: Exporter, timeout: float, *, inherited: bool = False) -> None:
        self.name = exporter.name
        self.account = exporter.account
        self.durable = exporter.durable
        self.eager: bool = getattr(exporter, "eager", False)
        self.publishes: bool = getattr(exporter, "publishes", False)
        if hasattr(exporter, "send_many"):
            self.send_many = self._send_many
        self.spool_identity: SpoolIdentity | None = getattr(exporter, "spool_identity", None)
        self._exporter = exporter
        self._inherited = inherited
        self._inheriting = threading.Lock()  # only threads whose time is limited wait for it
        self._send_seconds = max(MIN_SEND_SECONDS, 2 * timeout)
        self._encoding = TimeLimit("encode")
        self._sending = TimeLimit("send")
        self._closing = TimeLimit("close")

    def encode(self, items: Sequence[Item]) -> list[Request]:
        """Raise `CallTimeoutError` if the exporter takes too long."""
        return self._call(self._encoding, lambda: self._exporter.encode(items), ENCODE_SECONDS)

    def split(self, request: Request) -> tuple[Request, Request] | None:
        """Raise `CallTimeoutError` if the exporter takes too long."""
        return self._call(self._encoding, lambda: self._exporter.split(request), ENCODE_SECONDS)

    def send(self, request: Request) -> Outcome:
        """Return RETRY if the exporter takes too long, raises, or returns something else than an outcome."""
        try:
            outcome = self._call(self._sending, lambda: self._exporter.send(request), self._send_seconds)
        except BaseException as error:  # noqa: BLE001 - also an interrupt: it would end the sender's thread
            return self._failed(error)
        return self._checked(outcome, request)

    def _send_many(self, requests: Sequence[Request]) -> Sequence[Outcome]:
        """Do the same as `send` for several requests; those without an outcome are sent again."""
        send_many: Callable[[Sequence[Request]], Sequence[Outcome]] = self._exporter.send_many  # type: ignore[attr-defined]  # an optional method
        try:
            outcomes = self._call(self._sending, lambda: list(send_many(requests)), self._send_seconds)
        except BaseException as error:  # noqa: BLE001 - as in `send`
            return [self._failed(error)] * len(requests)
        return [self._checked(outcome, request) for outcome, request in zip(outcomes, requests, strict=False)]

    def _failed(self, error: BaseException) -> Outcome:
        if isinstance(error, CallTimeoutError):
            return Outcome(Verdict.RETRY, str(error))
        report(f"exporter.{self.name}.send", error)
        return Outcome(Verdict.RETRY, type(error).__name__)

    def _checked(self, outcome: object, request: Request) -> Outcome:
        """Return an outcome whose numbers can be true, and RETRY instead of something else."""
        if not isinstance(outcome, Outcome) or not isinstance(outcome.verdict, Verdict):
            return self._failed(TypeError())
        wait = outcome.retry_after
        return outcome._replace(
            retry_after=wait if isinstance(wait, (int, float)) and 0 <= wait < math.inf else None,
            refused_items=_at_most(request.items, outcome.refused_items),
            deduplicated=_at_most(request.items, outcome.deduplicated),
        )

    def accepts(self, request: Request) -> bool:
        """Raise `CallTimeoutError` if the exporter takes too long."""
        accepts = getattr(self._exporter, "accepts", None)
        return accepts is None or self._call(self._encoding, lambda: bool(accepts(request)), ENCODE_SECONDS)

    def prepare(self) -> None:
        """Import what `send` needs."""
        prepare = getattr(self._exporter, "prepare", None)
        if prepare is not None:
            self._call(self._encoding, prepare, ENCODE_SECONDS)

    def after_fork(self) -> None:
        """Let the exporter replace its connections before its next call. Calls nothing: a fork does not wait for it."""
        self._inherited, self._inheriting = True, threading.Lock()

    def close(self) -> None:
        """Release connections. Raise `CallTimeoutError` if the exporter takes too long."""
        self._call(self._closing, self._exporter.close, CLOSE_SECONDS)

    def _call(self, limit: TimeLimit, function: Callable[[], T], seconds: float) -> T:
        def call() -> T:
            with self._inheriting:
                if self._inherited:
                    with guard("exporter.after_fork"):
                        self._exporter.after_fork()
                    self._inherited = False
            return function()

        return limit.call(call if self._inherited else function, seconds)


def _at_most(limit: int, number: object) -> int:
    return min(max(number, 0), limit) if isinstance(number, int) else 0


def with_time_limit(exporter: Exporter, timeout: float, *, inherited: bool = False) -> Exporter:
    """Return an exporter whose methods return in time; gati's own ones unchanged. For `inherited` see there."""
    return exporter if is_own(exporter) else LimitedExporter(exporter, timeout, inherited=inherited)


def is_own(exporter: Exporter) -> bool:
    """Return True for gati's own exporters, False for users' ones, with or without a time limit."""
    return type(exporter).__module__.startswith("gati.") and not isinstance(exporter, LimitedExporter)
