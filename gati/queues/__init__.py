"""What programs and relays share about queues: addresses, the message format, and access to Kafka and PostgreSQL."""
