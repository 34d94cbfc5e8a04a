from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gati.metrics.counters import METRICS
from gati.queues.log import Lag
from gati.relay.relay import RelayCounts
from gati.relay.relay_metrics import RelayCollector

RULES = Path(__file__).parents[2] / "deploy" / "prometheus-alerts.yml"


def test_alert_rules_name_existing_metrics_and_labels():
    counts = RelayCounts(0, 0, 0, 0, {"late": 1}, {"late": 1}, 0, 0, 0, 0, Lag(), None, "", 0)
    relay = list(RelayCollector(lambda: counts).collect())
    names = {f"gati_{metric.field}" + ("_total" if metric.kind == "counter" else "") for metric in METRICS}
    names |= {metric.name + ("_total" if metric.type == "counter" else "") for metric in relay}
    expressions = re.findall(r"^ +expr: (.*)$", RULES.read_text(), re.MULTILINE)
    assert expressions
    assert set(re.findall(r"gati_\w+", " ".join(expressions))) <= names
    labels = {label for group in re.findall(r"by \(([^)]*)\)", " ".join(expressions)) for label in group.split(", ")}
    known = {
        "job",
        *(metric.label for metric in METRICS),
        *(label for m in relay for s in m.samples for label in s.labels),
    }
    assert labels <= known


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_accepts_the_alert_rules():
    subprocess.run(["promtool", "check", "rules", str(RULES)], check=True, capture_output=True)
