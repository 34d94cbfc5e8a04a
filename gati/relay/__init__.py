"""The relay: delivers what programs have published to a queue. It runs as `gati relay run`, in any number."""
