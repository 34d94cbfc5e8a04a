"""LangChain's and LangGraph's side of the house: the only importer of both."""
