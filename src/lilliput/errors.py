"""Every error Lilliput raises on purpose, and the exit status each one means.

::

    LilliputError
    ├── InputError                 status 2: the user's input is wrong
    │   ├── BudgetError            a limit that is nonsense, contradictory or not measurable here
    │   │   └── UnreachableError   a limit below the smallest size that can be reached
    │   ├── TaskError              model, examples, metric or targets that do not fit together
    │   ├── CheckpointError        a file of weights that cannot be used
    │   ├── CaptureError           a model whose graph cannot be captured
    │   ├── ShapeError             a change of shape that was refused; the model is as it was
    │   ├── TrainingError          training that cannot start, or cannot go on
    │   ├── PlanError              a plan that does not fit the model, or has unknown fields
    │   ├── OutputError            an output folder that may not be written, or a full disk
    │   ├── ContainerError         a `.lilliput` or ONNX file that is damaged or malicious
    │   └── MissingExtraError      an optional dependency that is not installed
    └── InternalError              status 70: a promise of ours was broken; a bug
"""


class LilliputError(Exception):
    """Base of every error raised on purpose.

    Args:
        message: One line: what was wrong and what was expected.
        hint: One line: the usual cause or the next thing to try; by default what usually helps
            with this kind of error.
    """

    exit_status = 70
    usual_hint = ""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.usual_hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InputError(LilliputError):
    """The user's input is wrong."""

    exit_status = 2


class BudgetError(InputError):
    """A limit that is nonsense, contradictory or cannot be measured here."""

    usual_hint = "limits are written as 9%, 4MB or 5ms"


class UnreachableError(BudgetError):
    """A limit below the smallest size that can be reached; the message names that size."""


class TaskError(InputError):
    """Model, examples, metric or targets that do not fit together."""

    usual_hint = "the task is a model, examples and a metric that fit together"


class CheckpointError(InputError):
    """A file of weights that cannot be used."""

    usual_hint = "`lilliput inspect FILE` says what a file is"


class CaptureError(InputError):
    """A model whose graph cannot be captured; the message names the line and the reason."""

    usual_hint = "another part of the model may be captured: part=..."


class ShapeError(InputError):
    """A change of a model's shape that was refused; the model is as it was."""

    usual_hint = "`lilliput.widths(model, inputs)` lists what can be cut, and why the rest cannot"


class TrainingError(InputError):
    """Training that cannot start, or cannot go on; the last good state is kept."""

    usual_hint = "see docs/learning.md for what each use needs"


class PlanError(InputError):
    """A plan that does not fit the model, or has unknown fields."""

    usual_hint = "see plan.toml of any run for the fields"


class OutputError(InputError):
    """An output folder that may not be written, or a full disk."""

    usual_hint = "choose a place that exists and can be written"


class ContainerError(InputError):
    """A `.lilliput` or ONNX file that is damaged, malicious or not one."""

    usual_hint = "is it the right file, and whole? `lilliput inspect FILE` says what it is"


class MissingExtraError(InputError):
    """An optional dependency that is not installed; the hint is the pip command."""


class InternalError(LilliputError):
    """A promise of ours was broken: a bug in Lilliput."""

    exit_status = 70
