"""Joins queued requests of one conversation into one call of the API, if they differ in their items only.

That happens when requests wait: the first one of a conversation takes those behind it along. Their bytes are put
together, and no item is parsed. What becomes of each is decided by the answer to all, or, if the destination refuses
them, by sending each alone.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from gati.exporters.base import PackedRequest
from gati.pipeline.codec import unpack_lazily

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gati.exporters.base import Request, RequestLimits
    from gati.pipeline.queued_request import QueuedRequest

MAX_JOINT_FAILURES = 2
"""Failures, each while other requests succeeded, after which joined requests are sent alone: one may be the cause."""


def followers_of(first: QueuedRequest, others: Iterable[QueuedRequest], limits: RequestLimits) -> list[QueuedRequest]:
    """Return those of the requests behind the first one that can be sent with it."""
    if first.envelope is None or first.apart:
        return []
    items, size = first.items, len(first.data)
    found: list[QueuedRequest] = []
    for queued in others:
        items, size = items + queued.items, size + len(queued.data)
        if queued.apart or queued.envelope != first.envelope or items > limits.items or size > limits.size:
            break
        found.append(queued)
    return found


def members_of(queued: QueuedRequest) -> list[QueuedRequest]:
    """Return a request and those that are sent with it."""
    return [queued, *queued.joined]


def send_apart(members: Iterable[QueuedRequest]) -> None:
    """Send each of these requests alone from now on. What they failed with together is the failure of none of them."""
    for queued in members:
        queued.apart = True
        queued.failures_among_successes, queued.successes_seen = 0, -1


def joined_request(queued: QueuedRequest) -> Request:
    """Return what to send for a request and those that are sent with it.

    Raises:
        ValueError: they do not fit together.
    """
    request = unpack_lazily(queued.data)
    if not queued.joined:
        return request
    parts = [unpack_lazily(other.data) for other in queued.joined]
    for part in itertools.chain([request], parts):
        if isinstance(part, PackedRequest):
            part.max_items = part.max_bytes = 2**31  # `followers_of` has checked the limits
    if not isinstance(request, PackedRequest) or not all(map(request.join, parts)):
        raise ValueError("requests with different envelopes")
    return request
