"""Errors of the export commands.

ExportError
├── CheckpointError        the model or adapter can't be exported
├── UnsupportedPrecisionError   this precision isn't made for this family
├── CalibrationError       the calibration pairs are unusable
├── TargetExistsError           the output folder is there already
└── VerificationError     the graph that was made does not compute what it should
    └── GateError           the quantized model ranks worse than it may
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from export.gate import Attempt


class ExportError(Exception):
    """Base of all errors of export; the message is one line that says what to do."""

    exit_code = 1


class CheckpointError(ExportError):
    """A checkpoint or adapter is incomplete, unsafe or of the wrong kind."""


class UnsupportedPrecisionError(ExportError):
    """The precision is not made for this model family."""


class CalibrationError(ExportError):
    """A calibration file can't be read, or has no pairs."""


class TargetExistsError(ExportError):
    """The output folder exists and may not be replaced."""


class VerificationError(ExportError):
    """The exported graph differs too much from what it was made from."""


class GateError(VerificationError):
    """No recipe ranks well enough; `attempts` has the figures of each, in order."""

    exit_code = 3

    def __init__(self, message: str, attempts: "tuple[Attempt, ...]") -> None:
        super().__init__(message)
        self.attempts = attempts
