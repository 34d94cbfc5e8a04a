"""Programs that run on a real LangGraph Server, `langgraph dev` (`nox -s server`)."""
