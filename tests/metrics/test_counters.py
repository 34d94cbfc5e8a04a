from __future__ import annotations

from dataclasses import fields

from gati.metrics.counters import METRICS
from gati.observe import Stats


def test_every_counter_of_the_statistics_is_a_metric():
    assert [metric.field for metric in METRICS] == [field.name for field in fields(Stats)]


def test_a_mapping_has_a_label_and_a_number_has_none():
    stats = Stats()
    for metric in METRICS:
        assert isinstance(getattr(stats, metric.field), int) is not bool(metric.label)
