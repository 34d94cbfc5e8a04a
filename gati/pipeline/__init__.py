"""From records in memory to messages delivered: buffer, worker, spool, senders, counters.

Knows of destinations only the `Exporter` protocol. Imports nothing by itself: `import gati`
needs `stats` and `faults` only, and must stay cheap.
"""
