"""Honest stand-ins for what the worker meets at its boundaries.

Each keeps the promises of the real thing: the contract tests run on both.
"""
