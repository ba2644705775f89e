"""profile alone: what each site of a model weighs, computes, takes and is worth."""

import tempfile
from collections import defaultdict
from pathlib import Path

from lilliput.budget import Budget
from lilliput.environment import cpu_features
from lilliput.forms import GraphForm
from lilliput.model.profiles import Profile, SiteProfile
from lilliput.record import Record
from lilliput.records import SiteReport
from lilliput.runs import Run, Settings, prepare
from lilliput.runtime.op_times import by_site, operation_times
from lilliput.stages.answers import Times, answers
from lilliput.stages.measure import typical_batch
from lilliput.stages.profile import profile
from lilliput.task import Task


class Survey(Record):
    """What is known of a model before anything is changed.

    Attributes:
        sites: In the order of the model.
        site_ms: Milliseconds of each site in the original's export, by the runtime's profiler;
            None where there is no graph to run.
        other_ms: The same of everything else, by kind of operation.
        batch: Examples per call.
        threads: Threads inside one operation.
        answers: Where bytes, time and sensitivity are, and what can get faster here.
    """

    sites: tuple[SiteReport, ...]
    site_ms: dict[str, float] | None
    other_ms: dict[str, float] | None
    batch: int
    threads: int
    answers: tuple[str, ...]


def survey(task: Task, *, settings: Settings | None = None) -> Survey:
    """Every site in the order of the model, as it is before anything is changed, and what follows.

    Args:
        task: The model and examples; without examples the sensitivity is a guess from the weights.
        settings: Seed, part, conditions, and where warnings and progress are told.

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
        settings.progress("time", 0, 1)
        times = _times(run, known)
    for warning in known.warnings:
        settings.said(f"Warning: {warning}")
    sizes = {name: value.element_size() for name, value in known.parameters.items()}
    sites = tuple(_untouched(site, sizes[name]) for name, site in known.sites.items())
    return Survey(
        sites=sites,
        site_ms=None if times is None else dict(times.sites),
        other_ms=None if times is None else dict(times.others),
        batch=settings.conditions.batch,
        threads=settings.conditions.stated_threads,
        answers=answers(sites, times),
    )


def _times(run: Run, known: Profile) -> Times | None:
    """Of the untouched graph, by the runtime's own profiler; None where PyTorch would run it."""
    if not isinstance(run.form, GraphForm):
        return None
    conditions = run.settings.conditions
    arrays = typical_batch(run.task, run.split.proof, size=conditions.batch)
    times = operation_times(run.form.graph, arrays, threads=conditions.threads)
    found, others = by_site(run.form.graph, times, readers=run.form.readers)
    kinds: dict[str, float] = defaultdict(float)
    for other in others:
        kinds[other.kind] += other.milliseconds
    sites = {name: found.get(name, 0.0) for name in known.sites}
    return Times(sites, kinds, len(times), cpu_features())


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
