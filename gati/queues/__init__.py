"""Queues between programs and relays: addresses, the message format, and access to Kafka and PostgreSQL."""
