"""The demo: real queries over a small corpus, before and after reranking."""
