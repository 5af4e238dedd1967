"""Errors of the training commands: each ends a command with one line and exit code 2."""


class TrainingError(Exception):
    """Base of all that a user can mend; the message says what is wrong and what to do."""


class PlanError(TrainingError):
    """The plan can't be used; the message names the file and each wrong field."""


class InputError(TrainingError):
    """Events, judgements or a corpus can't be used as they are."""


class KafkaReadError(TrainingError):
    """The topic can't be read."""


class EndpointError(TrainingError):
    """The language model's endpoint doesn't answer as it should."""
