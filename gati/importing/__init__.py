"""Conversations from the time before gati: checkpoints of LangGraph, and exports of other tools.

A reader turns its source into `ImportedRun`s, which become records as a running program creates them. So the same code
builds turns from them, with the same rules.
"""
