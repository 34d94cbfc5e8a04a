"""Runs the code blocks of the documentation. See `tests.docs.blocks` for the comments that control it."""
