"""A strict local Greenflash for tests: the studio's API plus API keys, fault injection and request recording.

`app` creates and serves it, `fault_injection` defines the faults. Needs the extra ``gati-greenflash[studio]``.
"""
