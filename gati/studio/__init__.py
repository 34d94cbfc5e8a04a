"""The studio: pages over the embedded store, and a local API that accepts what Greenflash accepts.

Needs the extra ``gati-greenflash[studio]``.
"""
