"""The tests of gati. This file keeps packages named `tests` in other distributions from being imported instead."""
