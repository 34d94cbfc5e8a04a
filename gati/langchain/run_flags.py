"""Flags of an open run, which the recorder keeps in one integer for each."""

from __future__ import annotations

ROOT = 1 << 0
"""No run is around it."""
NODE = 1 << 1
"""A node of a graph."""
COUNT_HISTORY = 1 << 2
"""Loads a history, whose length is recorded."""
NEEDS_IDENTITY = 1 << 3
"""Its `configurable`, which only its children can read, may name the user."""
PROMPT = 1 << 4
"""A prompt."""
NEEDS_STATE = 1 << 5
"""Its first node will receive the state that a checkpoint brought."""
DECISION_MODEL = 1 << 6
"""A decision model."""
NO_INPUT = 1 << 7
"""It has no input, because it continues a thread."""
TOP_STEP = 1 << 8
"""A step that is a root, or directly below such a step."""
PROGRAM = 1 << 9
"""A chain or graph that is a root, or directly below a top step: it may be a turn of its own."""
NEW_CONVERSATION = 1 << 10
"""The first run seen of its conversation: all messages of its input are copied."""
RECORDS_VALUES = ROOT | PROGRAM
"""Its input and output are recorded."""

CONVERSATION_SHIFT = 16
CONVERSATION = -1 << CONVERSATION_SHIFT
"""The bits above the flags. They hold a number of the run's conversation: a hash of the id that the program gave it, or the
id of the root run."""
