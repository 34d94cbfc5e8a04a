"""Counters that tell the truth about what became of everything."""
