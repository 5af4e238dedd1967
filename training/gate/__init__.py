"""Lets only a better model through."""
