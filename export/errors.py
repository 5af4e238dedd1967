"""Errors of the export commands.

ExportError
├── CheckpointError        the model or adapter can't be exported
├── UnsupportedPrecisionError   this precision isn't made for this family
├── CalibrationError       the calibration pairs are unusable
├── TargetExistsError           the output folder is there already
└── VerificationError     the graph that was made does not compute what it should
    ├── FillingError        a sequence that is filled up behind its mask scores otherwise
    └── GateError           the quantized model ranks worse than it may (in `gate.py`)
"""


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


class FillingError(VerificationError):
    """Filling sequences up changes their logits: the graph must have exact lengths."""
