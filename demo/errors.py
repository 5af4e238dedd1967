"""Errors of the demo."""


class DemoError(Exception):
    """The demo can't go on; the message is one line that says what to do."""


class RefusedError(DemoError):
    """A question became a dead letter; the message says why."""
