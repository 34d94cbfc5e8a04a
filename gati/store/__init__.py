"""The embedded store: conversations, prompts, users, ratings and events in one SQLite file.

Needs only the standard library, so a program can keep its conversations without installing an extra.
"""
