"""What the files answer in each runtime, in words: what the page and the terminal say alike."""

from dataclasses import dataclass

from lilliput.environment import RUNTIME_TITLES
from lilliput.records import Report, RuntimeScore
from lilliput.stages.wording import DASH, clean, count, number


@dataclass(frozen=True)
class RuntimeRow:
    """One runtime.

    Attributes:
        title: Name and version.
        precision: The type in which it computes float32.
        original: Score of the original.
        artifact: Score of the artifact.
        difference: The artifact's largest difference to its answers in the runtime that is judged.
        changed: Examples on which the class is another than there.
        problem: Why it cannot run the files, or "".
    """

    title: str
    precision: str
    original: str
    artifact: str
    difference: str
    changed: str
    problem: str


def runtime_title(name: str) -> str:
    """How readers know a runtime."""
    return RUNTIME_TITLES.get(name, clean(name, 40))


def runtime_rows(report: Report) -> tuple[RuntimeRow, ...]:
    """A row per runtime, the one that is judged first."""
    return tuple(_row(score, judged=place == 0) for place, score in enumerate(report.runtimes))


def _row(score: RuntimeScore, *, judged: bool) -> RuntimeRow:
    title = " ".join([runtime_title(score.name), clean(score.version or "", 40)]).strip()
    agreement = score.agreement
    difference = "judged here" if judged else DASH
    if agreement is not None:
        difference = number(agreement.largest_difference, rounding="up")
        if agreement.decibels is not None:
            difference += f" ({number(agreement.decibels)} dB)"
    return RuntimeRow(
        title=title,
        precision=clean(score.precision or DASH, 40),
        original=number(score.original_score, 4),
        artifact=number(score.artifact_score, 4),
        difference=difference,
        changed=count(score.changed),
        problem=clean(score.problem or "", 400),
    )
