"""Histograms of durations, from which percentiles of any period are read. Pure.

A bucket holds durations that differ by at most 9 %, with their count and sum. A percentile is the mean of its bucket,
so it is exact for a single or equal durations, and otherwise within a few percent.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field

_PER_OCTAVE = 8
_SHORTEST = 0.001

_PACKED = struct.Struct("<hqd")
"""Bucket, count and sum of a packed histogram."""


def bucket_of(milliseconds: float) -> int:
    """Return the number of a duration's bucket."""
    return round(_PER_OCTAVE * math.log2(max(milliseconds, _SHORTEST)))


@dataclass
class Histogram:
    """Durations by bucket: bucket → (count, sum in milliseconds)."""

    buckets: dict[int, tuple[int, float]] = field(default_factory=dict)

    def add(self, bucket: int, count: int, total: float) -> None:
        """Add durations of one bucket."""
        known = self.buckets.get(bucket)
        self.buckets[bucket] = (count, total) if known is None else (known[0] + count, known[1] + total)

    def percentile(self, fraction: float) -> float | None:
        """Return the duration that `fraction` of all did not exceed (nearest rank); None if there are none."""
        remaining = max(1, math.ceil(fraction * sum(count for count, _ in self.buckets.values())))
        for bucket in sorted(self.buckets):
            count, total = self.buckets[bucket]
            remaining -= count
            if remaining <= 0:
                return total / count
        return None

    def merge(self, other: Histogram) -> None:
        """Add the durations of another histogram."""
        for bucket, (count, total) in other.buckets.items():
            self.add(bucket, count, total)

    def pack(self) -> bytes:
        """Return the histogram as bytes, for `add_packed`."""
        return b"".join(_PACKED.pack(bucket, *values) for bucket, values in sorted(self.buckets.items()))

    def add_packed(self, packed: bytes) -> None:
        """Add the durations of a packed histogram."""
        buckets = self.buckets
        for bucket, count, total in _PACKED.iter_unpack(packed):
            known = buckets.get(bucket)
            buckets[bucket] = (count, total) if known is None else (known[0] + count, known[1] + total)
