"""Every event and manifest of kafka-reranker as a pydantic model. Imports nothing else of ours."""
