"""Keeps the times of a conversation's messages in order, although its turns come from pods with different clocks."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from operator import lt
from typing import TYPE_CHECKING, Any

from gati.exporters.base import PackedRequest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from gati.exporters.base import Request

MAX_CONVERSATIONS = 50_000
"""Conversations whose last time is kept; for others, the last time of their lane counts."""

MAX_SKEW_MS = 60_000
"""Differences between clocks that are evened out after a takeover, when only the last time of the lane is known.
Older messages are older conversations, such as imported ones."""


_TIME_KEY = b'"createdAt":"'
_TIME = re.compile(rb'"createdAt":"([^"]{23}Z)"')
"""A time as gati writes it, such as 2026-11-27T12:00:00.000Z."""


@dataclass(slots=True)
class _Last:
    """The time of a conversation's last message, in milliseconds; of its lane's if `inherited`.

    `divided`: its turns come from two lanes, because partitions were added, so they do not arrive in order.
    """

    lane: int
    time_ms: int
    inherited: bool
    divided: bool = False


class ConversationTimes:
    """The last `createdAt` of each conversation. Thread-safe."""

    def __init__(self) -> None:
        self.restamped = 0
        """Messages whose time was changed."""
        self._lock = threading.Lock()
        self._last: OrderedDict[str, _Last] = OrderedDict()
        self._lane_floors: dict[int, int] = {}
        self._changed: dict[int, int] = {}

    def assigned(self, floors: Mapping[int, int]) -> None:
        """Use what former owners have saved about lanes."""
        with self._lock:
            self._lane_floors |= floors

    def revoked(self, lanes: Collection[int]) -> None:
        """Forget the conversations of lanes that others own now."""
        with self._lock:
            for key in [key for key, last in self._last.items() if last.lane in lanes]:
                del self._last[key]
            for lane in lanes:
                self._lane_floors.pop(lane, None)
                self._changed.pop(lane, None)

    def saw(self, key: str, lane: int) -> None:
        """Note the lane of a conversation before its first request."""
        with self._lock:
            last = self._last.get(key)
            if last is None:
                self._last[key] = _Last(lane, self._lane_floors.get(lane, 0), inherited=True)
            elif last.lane != lane:
                last.divided = True
            self._last.move_to_end(key)
            if len(self._last) > MAX_CONVERSATIONS:
                self._last.popitem(last=False)

    def restamp(self, request: Request) -> Request:
        """Return the request with times above the last one of its conversation, in the order of its messages.

        A request in order, as nearly all are, is not parsed.
        """
        with self._lock:
            last = self._last.get(request.ordering_key)
            floor, inherited = 0, False
            if last is not None and not last.divided:
                floor, inherited = last.time_ms, last.inherited
        if _is_in_order(request, floor):
            return request
        messages = _messages_of(request)
        times = [_milliseconds_of(message.get("createdAt")) for message in messages]
        wanted = []
        for time_ms in times:
            if time_ms is not None and (time_ms > floor or (inherited and floor - time_ms > MAX_SKEW_MS)):
                floor, inherited = time_ms, False
            elif time_ms is not None:
                floor, inherited = floor + 1, False
            wanted.append(None if time_ms is None else floor)
        if wanted == times:
            return request
        changed = [
            message if new == old or new is None else {**message, "createdAt": _format_time(new)}
            for message, old, new in zip(messages, times, wanted, strict=True)
        ]
        with self._lock:
            self.restamped += sum(new != old for new, old in zip(wanted, times, strict=True))
        return replace(request, body={**request.body, "messages": changed})

    def delivered(self, request: Request) -> None:
        """Note the times of a request that the destination has."""
        time_ms = _last_time(request)
        with self._lock:
            last = self._last.get(request.ordering_key)
            if time_ms is None or last is None:
                return
            self._last[request.ordering_key] = _Last(last.lane, time_ms, inherited=False, divided=last.divided)
            self._changed[last.lane] = max(
                time_ms, self._changed.get(last.lane, 0), self._lane_floors.get(last.lane, 0)
            )
            self._lane_floors[last.lane] = self._changed[last.lane]

    def take_changed(self) -> dict[int, int]:
        """Return the last times of the lanes in which something was delivered since the last call."""
        with self._lock:
            changed, self._changed = self._changed, {}
            return changed


def _times_in(request: Request) -> list[bytes]:
    """Return the times of a request's messages without parsing it; none if it has to be parsed.

    The bytes that are searched for cannot be in a text, where quotes are escaped. In an object of the user's they can:
    then there are more of them than messages. Texts of the same format sort by time.
    """
    if not isinstance(request, PackedRequest) or not request.content or request.endpoint != "messages":
        return []
    found = _TIME.findall(request.content)
    return found if len(found) == request.items == request.content.count(_TIME_KEY) else []


def _is_in_order(request: Request, floor: int) -> bool:
    times = _times_in(request)
    return bool(times) and times[0] > _format_time(floor).encode() and all(map(lt, times, times[1:]))


def _last_time(request: Request) -> int | None:
    if times := _times_in(request):
        return _milliseconds_of(times[-1].decode(errors="replace"))
    known = [_milliseconds_of(message.get("createdAt")) for message in _messages_of(request)]
    return next((time_ms for time_ms in reversed(known) if time_ms is not None), None)


def _messages_of(request: Request) -> list[dict[str, Any]]:
    messages = request.body.get("messages") if request.endpoint == "messages" else None
    return [message for message in messages if isinstance(message, dict)] if isinstance(messages, list) else []


def _milliseconds_of(text: object) -> int | None:
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000) if isinstance(text, str) else None
    except (ValueError, OverflowError):
        return None


def _format_time(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC).isoformat()[:19]}.{time_ms % 1000:03d}Z"
