"""profile alone: what each site of a model weighs, computes and is worth."""

import tempfile
from pathlib import Path

from lilliput.budget import Budget
from lilliput.model.profiles import SiteProfile
from lilliput.records import SiteReport
from lilliput.runs import Settings, prepare
from lilliput.stages.profile import profile
from lilliput.task import Task


def survey(task: Task, *, settings: Settings | None = None) -> tuple[SiteReport, ...]:
    """Every site in the order of the model, as it is before anything is changed.

    Args:
        task: The model and examples; without examples the sensitivity is a guess from the weights.
        settings: Seed, part, and where warnings and progress are told.

    Raises:
        TaskError: See `lilliput.validation.check_task`.
        CaptureError: The model cannot be captured or exported.
    """
    settings = settings or Settings()
    with tempfile.TemporaryDirectory(prefix="lilliput-") as scratch:
        run = prepare(task, Budget(), settings, Path(scratch))
        known = profile(
            run.task,
            run.captured,
            run.split,
            folding=run.form.folding,
            seed=settings.seed,
            progress=settings.progress,
        )
    for warning in known.warnings:
        settings.said(f"Warning: {warning}")
    sizes = {name: value.element_size() for name, value in known.parameters.items()}
    return tuple(_untouched(site, sizes[name]) for name, site in known.sites.items())


def _untouched(known: SiteProfile, element_bytes: int) -> SiteReport:
    site = known.site
    return SiteReport(
        name=site.name,
        kind=site.kind,
        shape=site.shape,
        encoding="dense",
        bits=8.0 * element_bytes,
        original_bytes=site.size * element_bytes,
        storage_bytes=None,
        damage=None,
        sensitivity=known.sensitivity,
        macs=known.macs,
    )
