"""A queued request as it travels through a queue: key, value and headers, the same for Kafka and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

FORMAT = "1"
"""Format of the messages that this version writes and reads."""

Headers: TypeAlias = list[tuple[str, bytes]]

_MAX_NUMBER = 10**15


@dataclass(frozen=True, slots=True)
class QueueMessage:
    """A queued request, or a dead letter.

    Attributes:
        key: The ordering key: messages with the same key are delivered in order.
        value: The request, as `pipeline.codec.pack` writes it.
        endpoint: Name of the API's resource, such as "messages".
        turn: Id of the root run.
        items: Number of messages in the request.
        account: The Greenflash product; empty if the program names none. Never a key.
        published_ms: Time of publication, in milliseconds since 1970.
        format: Format of key, value and headers. A reader must not interpret the value if it does not know the format.
        reason: For dead letters: why the request was not delivered.
        origin: For dead letters: `topic/partition/offset` or `table/id` of the request.
        dead_ms: For dead letters: when they were set aside.
    """

    key: str
    value: bytes
    endpoint: str
    turn: str
    items: int
    account: str = ""
    published_ms: int = 0
    format: str = FORMAT
    reason: str = ""
    origin: str = ""
    dead_ms: int = 0

    @property
    def is_known_format(self) -> bool:
        """True if this version of gati can read the value."""
        return self.format == FORMAT

    def to_headers(self) -> Headers:
        """Return the headers of a Kafka message."""
        headers = [
            ("gati", self.format.encode()),
            ("account", self.account.encode()),
            ("endpoint", self.endpoint.encode()),
            ("turn", self.turn.encode(errors="replace")),
            ("items", b"%d" % self.items),
            ("published_ms", b"%d" % self.published_ms),
        ]
        if self.reason or self.origin:
            headers += [
                ("reason", self.reason.encode(errors="replace")),
                ("origin", self.origin.encode(errors="replace")),
                ("dead_ms", b"%d" % self.dead_ms),
            ]
        return headers

    @classmethod
    def from_headers(
        cls, key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]] | None
    ) -> QueueMessage:
        """Read a Kafka message of any producer. Missing headers are empty or 0, and `format` too: no message raises."""
        texts = {name: (content or b"").decode(errors="replace") for name, content in headers or ()}
        return cls(
            key=(key or b"").decode(errors="replace"),
            value=value or b"",
            endpoint=texts.get("endpoint", ""),
            turn=texts.get("turn", ""),
            items=_count_in(texts.get("items", "")),
            account=texts.get("account", ""),
            published_ms=_count_in(texts.get("published_ms", "")),
            format=texts.get("gati", ""),
            reason=texts.get("reason", ""),
            origin=texts.get("origin", ""),
            dead_ms=_count_in(texts.get("dead_ms", "")),
        )


def _count_in(text: str) -> int:
    return min(int(text), _MAX_NUMBER) if text.isascii() and text.isdigit() and len(text) < 20 else 0
