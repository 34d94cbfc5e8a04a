"""From records to events: pure, without I/O, owned by the background thread."""
