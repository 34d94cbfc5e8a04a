"""Other people's tests, run with gati injected: the programs that we have never seen."""
