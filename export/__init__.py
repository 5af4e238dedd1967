"""Checkpoint to model bundle, corpus to index bundle, and evaluation of both."""
