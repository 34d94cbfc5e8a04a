"""The counters of `observe.stats()` as metrics for Prometheus and OpenTelemetry."""
