"""Quantization-aware training: a plan that rounds to few bits, and then lets all weights learn."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from lilliput.budget import Budget
from lilliput.errors import PlanError
from lilliput.learning.recovery import Recover
from lilliput.model.capture import capture_or_hooks
from lilliput.model.hashes import model_hash
from lilliput.pipeline import apply_plan
from lilliput.records import Plan, Report, Step
from lilliput.runs import Settings
from lilliput.task import Task
from lilliput.techniques import QuantizeRound, QuantizeStatic, from_step

EDGE_BITS = 8  # of the first and the last weight
LEARNING = Recover(strength="full", epochs=1)


def quantize_aware(
    task: Task,
    budget: Budget | None = None,
    *,
    out: str | Path,
    bits: int = 4,
    activations: Literal[8] | None = None,
    settings: Settings | None = None,
) -> Report:
    """Rounds the weights to few bits and trains them so; ships, measures and judges the result.

    Learned step size quantization (LSQ: Esser et al. 2020, arXiv 1902.08153; of activations:
    Bhalgat et al. 2020, arXiv 2004.09576): every forward pass computes with rounded numbers,
    gradients go straight through, and the steps learn with the weights. As there, the first and
    the last weight keep 8 bits; BatchNorm's statistics stand still in the second half. It is the
    plan of `rounding_plan` with full recovery behind it, so ``plan.toml`` replays it.

    Args:
        task: With `train`; its targets count where there are any. Its model is left as it was.
        budget: The limits to judge; by default a drop of at most 1 %.
        out: Folder for the files and the report; it may not exist yet.
        bits: Width of the weights, 2 to 8.
        activations: 8: products compute on integers, inputs rounded to uint8; that takes weights of
            7 or 8 bits.
        settings: Everything else; without `recover` all weights learn for one epoch, half from
            labels and half from the original's answers.

    Returns:
        The report; `lilliput.load` gives the trained weights in the user's class.

    Raises:
        PlanError: A width is out of range, or nothing can be rounded.
        TrainingError: There are no training examples.
    """
    settings = settings or Settings()
    settings = replace(settings, recover=settings.recover or LEARNING)
    plan = rounding_plan(task, bits=bits, activations=activations, seed=settings.seed)
    return apply_plan(plan, task, budget, out=out, settings=settings)


def rounding_plan(
    task: Task, *, bits: int, activations: Literal[8] | None = None, seed: int = 0
) -> Plan:
    """Rounds every site to the nearest point of its rows' grids, the steps of least squared error.

    Raises:
        PlanError: As for `quantize_aware`.
    """
    captured = capture_or_hooks(task.model, task.sample(2), dynamic=task.varying())
    names = tuple(captured.sites)
    if not names:
        raise PlanError("the model has no site whose weights could be rounded")
    if activations is not None:
        # No factors or float columns stand in the way of the steps that learn.
        settings = {"bits": bits, "smoothing": 0.0, "outliers": 0}
        steps = [Step(technique=QuantizeStatic.name, where=names, settings=settings)]
    else:
        weights = [name for name, p in task.model.named_parameters() if p.ndim > 1]
        edges = tuple(name for name in names if name in (weights[0], weights[-1]))
        if bits >= EDGE_BITS or len(edges) == len(names):
            edges = ()
        steps = [_rounding(bits, tuple(name for name in names if name not in edges))]
        if edges:
            steps.append(_rounding(EDGE_BITS, edges))
    for step in steps:
        from_step(step)  # says what a width may be
    return Plan(model_hash=model_hash(task.model), steps=tuple(steps), seed=seed)


def _rounding(bits: int, where: tuple[str, ...]) -> Step:
    settings = {"bits": bits, "clip": bits < EDGE_BITS}
    return Step(technique=QuantizeRound.name, where=where, settings=settings)
