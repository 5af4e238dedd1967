"""The feedback loop closed: simulated users teach the reranker by clicking."""
