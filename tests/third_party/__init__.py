"""Test suites of LangChain and LangGraph, run with gati injected."""
