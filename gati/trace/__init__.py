"""Build turns and events from records: pure, without I/O, run by the background thread."""
