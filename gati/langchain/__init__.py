"""The integration with LangChain and LangGraph, and the only package that imports them."""
