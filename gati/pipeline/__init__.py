"""From records in memory to messages delivered: buffer, worker, spool, senders, counters.

Knows of destinations only the `Exporter` protocol.
"""

from gati.pipeline.pipeline import Pipeline
from gati.pipeline.stats import FlushResult, Stats

__all__ = ["FlushResult", "Pipeline", "Stats"]
