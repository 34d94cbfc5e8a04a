from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gati.metrics.counters import METRICS

RULES = Path(__file__).parents[2] / "deploy" / "prometheus-alerts.yml"


def test_alert_rules_name_existing_metrics_and_labels():
    names = {f"gati_{metric.field}" + ("_total" if metric.kind == "counter" else "") for metric in METRICS}
    expressions = re.findall(r"^ +expr: (.*)$", RULES.read_text(), re.MULTILINE)
    assert expressions
    assert set(re.findall(r"gati_\w+", " ".join(expressions))) <= names
    labels = {label for group in re.findall(r"by \(([^)]*)\)", " ".join(expressions)) for label in group.split(", ")}
    assert labels <= {"job", *(metric.label for metric in METRICS)}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_accepts_the_alert_rules():
    subprocess.run(["promtool", "check", "rules", str(RULES)], check=True, capture_output=True)
