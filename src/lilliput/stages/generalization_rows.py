"""What corrupted inputs do to both files, in words: what the page and the terminal say alike."""

from dataclasses import dataclass

from lilliput.records import CorruptedScore, Report
from lilliput.stages.wording import DropUnit, clean, count, drop_number, number, report_unit


@dataclass(frozen=True)
class GeneralizationRow:
    """One corruption.

    Attributes:
        corruption: What the inputs were put through.
        examples: How many.
        original: Score of the original.
        artifact: Score of the artifact.
        drop: Worsening from the one to the other.
        upper: Its bound.
    """

    corruption: str
    examples: str
    original: str
    artifact: str
    drop: str
    upper: str


def generalization_rows(report: Report) -> tuple[GeneralizationRow, ...]:
    """A row per corruption; shares of answers in points, else the metric's unit."""
    unit: DropUnit = "points" if report_unit(report) == "points" else "plain"
    return tuple(_row(score, unit) for score in report.generalization)


def _row(score: CorruptedScore, unit: DropUnit) -> GeneralizationRow:
    upper = drop_number(score.upper, unit, rounding="up")
    return GeneralizationRow(
        corruption=clean(score.corruption),
        examples=count(score.examples),
        original=number(score.original_score, 4),
        artifact=number(score.artifact_score, 4),
        drop=drop_number(score.drop, unit),
        upper=upper if score.upper is None else f"≤ {upper}",
    )
