"""The first verb: stream statistics through the model and probe what each site is worth."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from lilliput.batches import Inputs
from lilliput.coding import estimate_bits
from lilliput.metrics import is_class_scores
from lilliput.model.calls import answer
from lilliput.model.capture import Capture
from lilliput.model.encodings import Encoding, Grid
from lilliput.model.gradients import Probe, observe_gradients
from lilliput.model.moments import Moments, small_sample
from lilliput.model.observe import observe
from lilliput.model.profiles import NO_FOLDING, Folding, Profile, SiteProfile, site_profile
from lilliput.progress import Progress, unseen
from lilliput.splits import Split
from lilliput.task import Task
from lilliput.techniques import QuantizeFeedback
from lilliput.tensor.divergence import divergence

PROBE = QuantizeFeedback(step=0.3)  # small: the currency is linear there
PROBE_EXAMPLES = (8, 64)
FEWEST_SEQUENCES = 2  # where an example has many answers, such as tokens
PROBE_MACS = 1.5e11  # multiply-adds that all probes together may take
VOTERS = 24  # sites of a kind that say whether whole row sides pay
GAIN_NOISE = 0.5  # deviation of one site's gain, log2 of the output's loss (EfficientNet-Lite0)
BROKEN = 1e6  # divergence where the output is no number any more: the site keeps its finest grid
GRADIENT_EXAMPLES = 256
BATCH = 32


def profile(
    task: Task,
    capture: Capture,
    split: Split,
    *,
    folding: Folding = NO_FOLDING,
    seed: int = 0,
    progress: Progress = unseen,
) -> Profile:
    """Statistics of every site from the calibration examples, and one probe each.

    Without calibration examples the profile has weights only: every column counts the same.

    Args:
        task: What must keep working; its model is not changed.
        capture: The model's graph and sites.
        split: Which examples calibrate and which may steer.
        folding: What the export folds together.
        seed: Of the gradient's random signs.
        progress: Told the stage, steps done and steps in all.

    Raises:
        TaskError: NaN or infinity in the model's outputs or inside it.
    """
    known = observed(task, capture, split=split, folding=folding, seed=seed, progress=progress)
    return probed(task, known, split=split, progress=progress)


def observed(
    task: Task,
    capture: Capture,
    *,
    split: Split,
    folding: Folding = NO_FOLDING,
    seed: int = 0,
    progress: Progress = unseen,
) -> Profile:
    """The first half: statistics of every site, nothing probed.

    Args and errors: as for `profile`.
    """
    moments = _moments(task, capture, split, seed, progress) if split.calibration else {}
    shared: dict[int, Tensor] = {}
    sites = {
        name: site_profile(
            site,
            moments.get(name),
            row_factors=folding.row_factors.get(name),
            macs=capture.macs.get(name),
            shared=shared,
        )
        for name, site in capture.sites.items()
    }
    warnings = [small_sample(name, found) for name, found in moments.items()]
    return Profile(
        capture.model_hash,
        sites,
        _floats(task, folding),
        _grouped(warnings) + tuple(capture.warnings),
    )


def probed(
    task: Task, known: Profile, *, split: Split, every: bool = True, progress: Progress = unseen
) -> Profile:
    """The second half: whole row sides only where they pay, and what each site is worth.

    Args:
        task: What must keep working; its model is not changed.
        known: From `observed`.
        split: Which examples may steer.
        every: Probe every site. Otherwise just those that say whether row sides pay are, and no
            site has a sensitivity: all that a plan needs in which no technique is `joint`.
        progress: Told the stage, steps done and steps in all.

    Raises:
        TaskError: NaN or infinity in the model's outputs.
    """
    probes = split.search or split.calibration
    if not probes:
        return replace(known, sites={n: _unprobed(known, s) for n, s in known.sites.items()})
    return replace(known, sites=_probe(task, known, probes, every=every, progress=progress))


def _moments(
    task: Task, capture: Capture, split: Split, seed: int, progress: Progress
) -> dict[str, Moments]:
    def inputs(stage: str, subset: Sequence[int], size: int) -> Iterable[Inputs]:
        for done, batch in enumerate(task.batches(subset, size)):
            progress(stage, done, -(-len(subset) // size))
            yield batch.inputs

    mask = task.mask_of if task.mask_of(task.sample(2)) is not None else None
    moments = observe(capture, task.model, inputs("calibrate", split.calibration, BATCH), mask=mask)
    some = split.calibration[:: max(1, len(split.calibration) // GRADIENT_EXAMPLES)]
    output = answer(task, task.sample(2), replaced={}) if capture.program is not None else None
    classes = output is not None and is_class_scores(output)
    gradients = observe_gradients(
        capture,
        task.model,
        inputs("gradients", some, BATCH // 4),
        mask=mask,
        pick=None if capture.part else task.pick,
        probe=Probe(likelihood="softmax" if classes else "gaussian", seed=seed),
    )
    return {name: found.with_output(gradients.get(name)) for name, found in moments.items()}


def _floats(task: Task, folding: Folding) -> dict[str, Tensor]:
    """Every floating-point parameter that is stored as it is, by its first name."""
    return {
        name: parameter.detach()
        for name, parameter in task.model.named_parameters()
        if parameter.is_floating_point() and name not in folding.parameters
    }


def _grouped(warnings: list[str | None]) -> tuple[str, ...]:
    """One line instead of one per site."""
    said = [warning for warning in warnings if warning]
    more = f" (and {len(said) - 1} other sites)" if len(said) > 1 else ""
    return (said[0] + more,) if said else ()


def _unprobed(known: Profile, site: SiteProfile) -> SiteProfile:
    """Without inputs: an error counts relative to the weight's own size."""
    energy = float(known.matrix(site.site.name).square().sum())
    return replace(site, sensitivity=1 / energy if energy else 0.0)


def _probe(
    task: Task, known: Profile, subset: Sequence[int], *, every: bool, progress: Progress
) -> dict[str, SiteProfile]:
    """Perturbs one site after the other and measures how far the model's output moves."""
    macs = sum(site.macs or 0 for site in known.sites.values())
    first = next(iter(task.batches(subset[:1], 1))).inputs
    answers = answers_each(answer(task, first, replaced={}))
    count = probe_count(macs, len(known.sites), answers=answers)
    batches = [b.inputs for b in task.batches(subset[:count], BATCH)]
    reference = [answer(task, inputs, replaced={}) for inputs in batches]
    classes = is_class_scores(reference[0])

    def moves(name: str, value: Tensor) -> float:
        """Divergence of the output, per example, with one weight replaced."""
        replaced = {name: value.to(known.parameters[name].dtype)}
        parts = [
            divergence(answer(task, inputs, replaced=replaced), wanted, classes=classes)
            * len(wanted)
            for inputs, wanted in zip(batches, reference, strict=True)
        ]
        return float(sum(parts)) / sum(len(wanted) for wanted in reference)

    chosen, tried = _with_row_sides(known, moves, progress)
    if not every:
        return {n: replace(tried.get(n, site), sensitivity=None) for n, site in chosen.items()}
    for done, (name, site) in enumerate(chosen.items()):
        progress("probe", done, len(chosen))
        if name not in tried:
            tried[name] = _try(known, site, partial(moves, name)).site
    return {name: tried[name] for name in known.sites}


def _with_row_sides(
    known: Profile, moves: Callable[[str, Tensor], float], progress: Progress
) -> tuple[dict[str, SiteProfile], dict[str, SiteProfile]]:
    """All sites, whole row sides only where they pay; and those of them that were probed for it."""
    chosen = dict(known.sites)
    probed: dict[str, SiteProfile] = {}
    able = {name: site for name, site in chosen.items() if site.output is not None}
    for kind in sorted({site.site.kind for site in able.values()}):
        names = [name for name, site in able.items() if site.site.kind == kind]
        tried: dict[str, tuple[_Tried, _Tried]] = {}
        for name in names[:: -(-len(names) // VOTERS)]:
            progress("compare", len(tried), min(VOTERS, len(names)))
            tried[name] = _both(known, able[name], partial(moves, name))
        pays = _row_sides_pay(list(tried.values()))
        probed |= {name: (whole if pays else bare).site for name, (whole, bare) in tried.items()}
        if not pays:
            chosen |= {name: replace(able[name], output=None) for name in names}
    return chosen, probed


@dataclass(frozen=True)
class _Tried:
    """A site with its sensitivity, and log2 of what the output lost at equal bits."""

    site: SiteProfile
    loss: float


def _try(known: Profile, site: SiteProfile, moves: Callable[[Tensor], float]) -> _Tried:
    name = site.site.name
    grid = PROBE.apply(replace(known, sites={name: site}), (name,))[name]
    value = grid.decode()
    moved, damage = moves(value), site.damage(known.matrix(name), site.site.matrix(value))
    moved = moved if math.isfinite(moved) else BROKEN
    found = replace(site, sensitivity=moved / damage if damage else 0.0)
    return _Tried(found, math.log2(max(moved, 1e-30)) + 2 * _bits_per_weight(grid))


def _both(
    known: Profile, site: SiteProfile, moves: Callable[[Tensor], float]
) -> tuple[_Tried, _Tried]:
    """With its whole row side, and with its diagonal alone."""
    return _try(known, site, moves), _try(known, replace(site, output=None), moves)


def _row_sides_pay(tried: Sequence[tuple[_Tried, _Tried]]) -> bool:
    """Whether the output loses less where whole row sides steer the rounding.

    Gradients of few examples make them misleading. One site's probe is noisy, so sites of a kind
    are judged together, and their mean gain must be more than two standard errors.
    """
    gains = [bare.loss - whole.loss for whole, bare in tried]
    return sum(gains) / len(gains) > 2 * GAIN_NOISE / math.sqrt(len(gains))


def _bits_per_weight(encoding: Encoding) -> float:
    if not isinstance(encoding, Grid):
        return 0.0
    return estimate_bits(encoding.codes.numpy()) / max(1, encoding.codes.numel())


def probe_count(macs: float, sites: int, *, answers: int = 1) -> int:
    """Examples per probe: fewer for a model that is dear to run, so that profiling stays quick.

    Args:
        macs: Multiply-adds of one example.
        sites: How many are probed.
        answers: Of one example, e.g. tokens: many of them make up for few examples.
    """
    fewest, most = PROBE_EXAMPLES
    fewest = min(fewest, max(FEWEST_SEQUENCES, math.ceil(fewest / answers)))
    each = macs * max(1, sites)
    return most if not each else int(min(most, max(fewest, PROBE_MACS / each)))


def answers_each(output: Tensor) -> int:
    """How many answers an example has, e.g. one per token, given an output (N, ..., classes)."""
    return max(1, math.prod(output.shape[1:-1]))
