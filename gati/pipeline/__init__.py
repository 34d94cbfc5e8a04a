"""Delivers records as messages: buffer, worker, spool, senders, counters.

Destinations are known by the `Exporter` protocol only. This module imports nothing, so that `import gati`,
which needs `internal_errors` only, stays cheap.
"""
