"""From data to a better reranker: build data, fine-tune, evaluate."""
