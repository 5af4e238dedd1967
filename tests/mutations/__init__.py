"""Tests of the tests: the worker with one promise taken out, and the tests that must notice."""
