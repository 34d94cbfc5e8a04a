"""The clock of deadlines, which libraries that stop a program's clock in tests do not move.

freezegun and others replace the functions of `time` and those that modules hold. A deadline that jumps with them ends
an exchange at once, or never. Import this module early: a class is not searched, but it keeps what it finds.

Standard library only, and no other module of gati.
"""

from __future__ import annotations

import time


class Clock:
    """Holds the real clock."""

    monotonic = staticmethod(time.monotonic)
    """Seconds since an arbitrary moment; never goes backwards."""

    nanoseconds = staticmethod(time.perf_counter_ns)
    """The clock of records."""

    sleep = staticmethod(time.sleep)
    """Sleep for seconds. A test that replaces `time.sleep` must not count what gati's threads do."""


def epoch_offset_ns() -> int:
    """Return what to add to `time.perf_counter_ns` to get nanoseconds since the epoch.

    The thread may be interrupted between reading the two clocks, so the closest of some readings counts.
    """
    readings = []
    for _ in range(5):
        before = Clock.nanoseconds()
        now = time.time_ns()
        after = Clock.nanoseconds()
        readings.append((after - before, now - after))
    return min(readings)[1]
