"""The team's store: what the embedded store keeps, in a PostgreSQL database that several studios and programs share.

The statements are those of `gati.store`, adapted to PostgreSQL's dialect by `translation`. Needs `psycopg` (extra
`postgres`), which is loaded when a store is opened.
"""
