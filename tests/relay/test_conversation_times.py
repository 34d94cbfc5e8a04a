from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gati.exporters.base import Request
from gati.pipeline.codec import unpack_lazily
from gati.relay import conversation_times
from gati.relay.conversation_times import ConversationTimes
from tests.relay import kit


def times_of(request: object) -> list[str]:
    return [message["createdAt"] for message in request.body["messages"]]  # type: ignore[attr-defined]  # a Request


@given(st.lists(st.integers(-100_000, 100_000), min_size=1, max_size=10))
def test_times_of_a_conversation_increase_whatever_the_clocks_say(offsets: list[int]):
    times = ConversationTimes()
    sent: list[str] = []
    for turn, offset in enumerate(offsets):
        times.saw("c", 0)
        request = times.restamp(kit.request("c", turn, kit.START_MS + offset))
        assert times_of(times.restamp(request)) == times_of(request), "the same again when it is tried again"
        times.delivered(request)
        sent += times_of(request)
    assert sent == sorted(set(sent))


def packed(request: Request) -> Request:
    """The request as a relay reads it."""
    return unpack_lazily(kit.packed(request).value)


@given(st.lists(st.integers(-100_000, 100_000), min_size=1, max_size=10), st.booleans())
def test_packed_requests_get_the_same_times_as_parsed_ones(offsets: list[int], nested: bool):
    parsed, lazy = ConversationTimes(), ConversationTimes()
    for turn, offset in enumerate(offsets):
        request = kit.request("c", turn, kit.START_MS + offset)
        if nested:
            request.body["messages"][0]["properties"] = {"createdAt": "2020-01-01T00:00:00.000Z"}
        sent = []
        for times, given_request in ((parsed, request), (lazy, packed(request))):
            times.saw("c", 0)
            sent.append(times.restamp(given_request))
            times.delivered(sent[-1])
        assert sent[0].body == sent[1].body
    assert parsed.restamped == lazy.restamped
    assert parsed.take_changed() == lazy.take_changed()


def test_a_request_in_order_is_not_parsed(monkeypatch: pytest.MonkeyPatch):
    times, request = ConversationTimes(), packed(kit.request("c", 0))
    times.saw("c", 0)
    monkeypatch.setattr(conversation_times, "_messages_of", None)
    assert times.restamp(request) is request
    times.delivered(request)
    assert times.take_changed() == {0: kit.START_MS + 1}


def test_a_request_in_order_stays_as_it_is():
    times = ConversationTimes()
    times.saw("c", 0)
    request = kit.request("c", 0)
    assert times.restamp(request) is request
    assert times.restamped == 0


def test_a_successor_continues_behind_the_last_time_of_the_lane():
    first, second = ConversationTimes(), ConversationTimes()
    first.saw("c", 3)
    first.delivered(kit.request("c", 0, kit.START_MS))
    saved = first.take_changed()
    assert saved == {3: kit.START_MS + 1}
    assert first.take_changed() == {}
    second.assigned(saved)
    second.saw("c", 3)
    assert times_of(second.restamp(kit.request("c", 1, kit.START_MS - 1_500))) == [
        kit.time_text(kit.START_MS + 2),
        kit.time_text(kit.START_MS + 3),
    ]


def test_an_older_conversation_keeps_its_times_after_a_takeover():
    times = ConversationTimes()
    times.assigned({0: kit.START_MS})
    times.saw("imported", 0)
    request = kit.request("imported", 0, kit.START_MS - 2 * conversation_times.MAX_SKEW_MS)
    assert times.restamp(request) is request


def test_times_that_are_no_times_are_left_alone():
    times = ConversationTimes()
    times.saw("c", 0)
    request = kit.request("c", 0)
    request.body["messages"][0]["createdAt"] = "yesterday"
    assert times.restamp(request) is request
    times.delivered(request)


def test_conversations_of_lanes_that_others_own_are_forgotten():
    times = ConversationTimes()
    times.saw("c", 0)
    times.delivered(kit.request("c", 0))
    times.revoked({0})
    assert times.take_changed() == {}
    request = kit.request("c", 0, kit.START_MS - 500_000)
    times.saw("c", 0)
    assert times.restamp(request) is request


def test_turns_of_a_conversation_in_two_lanes_keep_their_times():
    times = ConversationTimes()
    times.saw("c", 0)
    times.delivered(kit.request("c", 5))
    times.saw("c", 4)
    earlier = kit.request("c", 3)
    assert times.restamp(earlier) is earlier, "the order of arrival is not that of the conversation"
