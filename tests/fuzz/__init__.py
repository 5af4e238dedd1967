"""Bytes from outside, thrown at what decodes them: `python -m tests.fuzz --seconds 60`."""
