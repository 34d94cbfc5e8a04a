"""The counters that are metrics: one table for every system."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from gati.pipeline.stats import Stats

MetricKind: TypeAlias = Literal["counter", "gauge"]


class Metric(NamedTuple):
    """A metric that is made of one field of `Stats`.

    Attributes:
        field: the field's name, and the metric's name without prefix and unit.
        kind: a counter only grows while a pipeline runs.
        unit: unit of OpenTelemetry; what is counted, in braces.
        label: name of the label, if the field is a mapping.
        help: description.
    """

    field: str
    kind: MetricKind
    unit: str
    help: str
    label: str = ""

    def values(self, stats: Stats) -> Iterator[tuple[str, float]]:
        """Yield each value with its label's value, which is empty without a label."""
        value = getattr(stats, self.field)
        if not self.label:
            yield "", value
        elif self.field == "paused":  # destinations with a reason in words
            for name in value:
                yield name, 1
        else:
            yield from value.items()


METRICS = (
    Metric("recorded", "counter", "{message}", "Messages encoded for a destination."),
    Metric("recovered", "counter", "{message}", "Messages taken over from processes that have exited."),
    Metric("delivered", "counter", "{message}", "Messages that their destination acknowledged."),
    Metric("published", "counter", "{message}", "Messages that a queue acknowledged, for a relay to deliver."),
    Metric("spooled", "gauge", "{message}", "Messages on disk, not acknowledged yet."),
    Metric("pending", "gauge", "{message}", "Messages in memory only, not acknowledged yet."),
    Metric("rejected", "counter", "{message}", "Messages that the destination refused permanently."),
    Metric("dropped", "counter", "{message}", "Lost messages.", "reason"),
    Metric("records", "counter", "{record}", "Records created by callbacks."),
    Metric("records_waiting", "gauge", "{record}", "Records that are not assembled yet."),
    Metric("records_refused", "counter", "{record}", "Records that were refused, because the buffer was full."),
    Metric("turns", "counter", "{turn}", "Turns, manual events and actions that were assembled."),
    Metric("turns_begun", "counter", "{turn}", "Turns, manual events and actions that have begun."),
    Metric("turns_open", "gauge", "{turn}", "Turns that have not ended."),
    Metric("turns_waiting", "gauge", "{turn}", "Turns that are being masked or encoded."),
    Metric("turns_encoded", "counter", "{turn}", "Turns that became messages."),
    Metric("sampled_out", "counter", "{turn}", "Turns left out by the sample rate."),
    Metric("outside_conversation", "counter", "{run}", "Root runs that belong to no conversation."),
    Metric("turns_dropped", "counter", "{turn}", "Turns lost before they became messages.", "reason"),
    Metric("requests", "counter", "{request}", "Attempts to send a request."),
    Metric("retries", "counter", "{request}", "Attempts that failed and are repeated."),
    Metric("spool_bytes", "gauge", "By", "Size of this process's spool files."),
    Metric("memory_bytes", "gauge", "By", "Memory of waiting records and requests."),
    Metric("journal_bytes", "gauge", "By", "Size of the journal of records."),
    Metric("journal_lost", "counter", "{record}", "Records for which the journal had no space."),
    Metric("mask_failures", "counter", "{text}", "Texts on which the mask failed."),
    Metric("paused", "gauge", "{destination}", "Destinations that refuse the API key.", "destination"),
    Metric("faults", "counter", "{fault}", "Internal errors of gati.", "place"),
)
"""One entry for each field of `Stats`."""
