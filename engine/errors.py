"""Errors of the engine.

EngineError
├── BundleError      a folder is not a bundle, or its files are not those of its manifest
│   └── RemoteError    a bundle can't be had from its address, or arrives altered
└── QueryTooLongError     a query leaves the model no room for a document
"""


class EngineError(Exception):
    """Base of all errors of the engine; the message is one line for people."""


class BundleError(EngineError):
    """A folder is no bundle, is of the wrong kind, or was altered."""


class RemoteError(BundleError):
    """A bundle's address is wrong, out of reach, or gives other files than its manifest names."""


class QueryTooLongError(EngineError):
    """A query has more tokens than the model's pair template leaves for it; it is never cut."""
