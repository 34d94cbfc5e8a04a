"""The message format of queues."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gati.queues.message import FORMAT, QueueMessage

MESSAGE = QueueMessage("c-1", b'{"lane":"c-1"}', "messages", "t-1", 14, "p-1", 1_700_000_000_000)


def test_a_message_is_read_as_it_was_written() -> None:
    for message in (MESSAGE, replace(MESSAGE, reason="HTTP 400", origin="gati.turns/0/7", dead_ms=5)):
        headers = message.to_headers()
        assert QueueMessage.from_headers(message.key.encode(), message.value, headers) == message
    assert MESSAGE.is_known_format
    assert dict(MESSAGE.to_headers())["gati"] == FORMAT.encode()


def test_the_format_of_another_version_is_not_known() -> None:
    headers = [("gati", b"2"), ("items", b"3"), ("unknown", b"x")]
    message = QueueMessage.from_headers(b"c", b"?", headers)
    assert (message.format, message.items, message.is_known_format) == ("2", 3, False)


@given(
    st.none() | st.binary(),
    st.none() | st.binary(),
    st.none()
    | st.lists(st.tuples(st.text() | st.sampled_from(["gati", "items", "published_ms"]), st.none() | st.binary())),
)
def test_no_message_of_a_foreign_producer_raises(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]] | None
) -> None:
    message = QueueMessage.from_headers(key, value, headers)
    assert 0 <= message.items <= 10**15
