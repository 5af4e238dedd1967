"""Faults on purpose: the long form of the delivery tests, and what the short form uses of it."""
