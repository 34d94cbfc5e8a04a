"""The journal of records: a file, mapped into memory, from which the next process recovers what a killed one had not stored.

`journal.Journal` in the package above is something else: where an outbox holds its requests.
"""
