"""Errors of the worker. Their type decides what happens.

    WorkerError
    ├── BadRecordError          this record is bad → one dead letter, its neighbours go on
    ├── TransientError          a dependency is away for now → pause, back off with jitter, retry
    │   └── CommitAbortedError  a transaction was given up → back to the committed offsets
    └── FatalError              this process cannot go on → say why and exit with `exit_code`;
        │                       the next worker takes over from the committed offsets
        ├── StartError          a setting or a service is wrong at start: names it, and what to do
        └── FencedError         another producer has taken over, or the client's state is unknown

Redis away is none of these: the worker goes on without a cache.
"""

# sysexits.h: EX_CONFIG for what the operator has to change, EX_SOFTWARE for the rest.
EXIT_CONFIG = 78
EXIT_FATAL = 70


class WorkerError(Exception):
    """Base of all errors of the worker; the message is one line for people."""


class BadRecordError(WorkerError):
    """A record that can never be answered. The message never holds the record's content."""


class TransientError(WorkerError):
    """A dependency is away for now."""


class CommitAbortedError(TransientError):
    """A transaction was aborted: nothing of its batch is visible, all of it is to be done again."""


class FatalError(WorkerError):
    """This process cannot go on."""

    exit_code = EXIT_FATAL


class StartError(FatalError):
    """The worker cannot start; the message names the setting and what to do."""

    exit_code = EXIT_CONFIG


class FencedError(FatalError):
    """The transactional producer is unusable."""
