"""The studio: an embedded store, a local server that speaks Greenflash, and its pages.

`store` and `reading` need the standard library only; `validation`, `server` and `pages`
need the extra ``gati[studio]``.
"""
