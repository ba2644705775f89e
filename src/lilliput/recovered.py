"""Recovery inside a run: what was learned back is kept where it helps and still fits."""

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from lilliput.coding import code_bytes
from lilliput.errors import BudgetError, CheckpointError, UnreachableError
from lilliput.forms import GraphForm
from lilliput.learning.loop import Surroundings
from lilliput.learning.recovery import Recover
from lilliput.model.encodings import Encoding, Grid
from lilliput.planned import Planning
from lilliput.planning import Planned
from lilliput.records import Plan, Recovery, Step
from lilliput.runs import SIZES, Run
from lilliput.stages.mixing import float_steps
from lilliput.stages.recover import DIVERGENCE, Ground, Recovered, half_steps, recover
from lilliput.techniques import LearnRecovery, QuantizeFeedback, from_step
from lilliput.trials import Trials

PRUNING = "prune"
FIRST_STEP = 0.5  # standard deviations of a weight
SQUEEZING = "its codes were squeezed while they learned"
MARGIN = 0.97  # of a limit on storage: what the codes are led to


def with_recovery(
    run: Run, trials: Trials, *, planned: Planned, keep: Path, step: Step | None = None
) -> Planned:
    """The plan with its recovery as the last step, if that was asked for and kept.

    Args:
        run: Settings say whether and how.
        trials: Knows what the plan made of the weights, and is told what they became.
        planned: Steps on weights.
        keep: A folder for checkpoints; it is gone afterwards, unless the run is interrupted: then
            the next one goes on from there.
        step: The recovery that a plan being replayed ends with.

    Raises:
        TrainingError: There is nothing to learn from.
        MissingExtraError, OutputError: See `lilliput.learning.learn`.
    """
    how = run.settings.recover if step is None else _of_step(step)
    if how is None:
        return planned
    plan, started = planned.plan, time.perf_counter()
    if how.squeeze:
        how = replace(how, squeeze=False, bits=_bits(run, trials, plan=plan))
    found = _recover(run, trials.encodings(plan), how, plan=plan, keep=keep)
    whole = _with_step(plan, _done(how, found))
    trials.remember(whole, _completed(run, found))
    refused = _refused(run, trials, before=plan, after=whole, found=found)
    told = _told(trials, plan, whole, found=found, refused=refused)
    told = told.model_copy(update={"seconds": round(time.perf_counter() - started, 3)})
    if refused is not None:
        run.settings.said(f"Recovery: {refused}")
        return replace(planned, recovery=told)
    return replace(planned, plan=_with_sizes(whole, trials), recovery=told)


def squeezing_plan(run: Run, trials: Trials) -> Planned:
    """Every site on a grid with one step: where codes that learn to be cheap begin.

    Raises:
        BudgetError: Memory or time are limited too, which squeezing does not know of.
    """
    if run.priced_limits:
        names = ", ".join(limit.name for limit in run.priced_limits)
        raise BudgetError(
            f"squeezing knows nothing of {names}", "limit storage and drop, or squeeze afterwards"
        )
    known = trials.profile
    one = QuantizeFeedback(
        step=FIRST_STEP, row_exponent=0.0, diagonal_exponent=0.0, column_exponent=0.0
    )
    steps = (one.step_of(tuple(known.sites)), *float_steps(known))
    plan = Plan(model_hash=known.model_hash, steps=steps, seed=run.settings.seed)
    return Planned(plan, Planning(stopped=SQUEEZING))


def step_bits(plan: Plan) -> float:
    """Bits per weight to which a plan's recovery leads the codes; 0: to none."""
    technique: Any = from_step(plan.steps[-1])
    return float(technique.bits)


def _bits(run: Run, trials: Trials, *, plan: Plan) -> float:
    """Bits per weight on a grid that the limit on storage leaves.

    Raises:
        BudgetError: There is no such limit, or nothing on a grid.
        UnreachableError: The rest of the file alone is larger.
    """
    limit = next((limit for limit in run.limits if limit.name == "storage"), None)
    if limit is None:
        raise BudgetError("squeezing needs a limit on storage", "e.g. storage 2%")
    grids = [one for one in trials.encodings(plan).values() if isinstance(one, Grid)]
    if not grids:
        raise BudgetError("the plan puts no weight on a grid that could be squeezed")
    coded = sum(code_bytes(grid.codes.numpy()) for grid in grids)
    most = limit.resolve(run.original.stat().st_size)
    rest = trials.sizes(plan).storage - coded
    if rest >= MARGIN * most:
        raise UnreachableError(
            f"storage {limit.text} is {most:,.0f} bytes, and all but the codes takes {rest:,.0f}",
            f"{rest / MARGIN:,.0f} bytes is the least that can be reached",
        )
    bits = 8 * (MARGIN * most - rest) / sum(grid.codes.numel() for grid in grids)
    return float(f"{bits:.4g}")


def _recover(
    run: Run, encodings: dict[str, Encoding], how: Recover, *, plan: Plan, keep: Path
) -> Recovered:
    """From the last checkpoint where there is one of this very run, else from the beginning."""
    settings = run.settings
    around = Surroundings(folder=keep, progress=settings.progress, said=settings.said)
    ground = _ground(run, plan)
    try:
        found = recover(encodings, how, ground=ground, around=around)
    except CheckpointError:
        shutil.rmtree(keep)
        found = recover(encodings, how, ground=ground, around=around)
    shutil.rmtree(keep, ignore_errors=True)
    return found


def _told(
    trials: Trials, before: Plan, after: Plan, *, found: Recovered, refused: str | None
) -> Recovery:
    """What the report says of it, but for the time it took."""
    first, best = found.learned.history[0].score, found.learned.best.score
    if found.watched == DIVERGENCE:
        first, best = trials.divergence(before), trials.divergence(after)
    technique: Any = from_step(after.steps[-1])
    return Recovery(
        strength=technique.strength,
        steps=technique.steps,
        seconds=0.0,
        watched=found.watched,
        before=first,
        after=best,
        kept=refused is None,
        notes=(*found.learned.notes, *([refused] if refused else [])),
    )


def _with_sizes(plan: Plan, trials: Trials) -> Plan:
    """The plan; what was predicted of its files before they were recovered is measured now."""
    sizes = trials.sizes(plan)
    predicted = {
        "predicted_damage": None,
        "predicted_storage_bytes": plan.predicted_storage_bytes and sizes.storage,
        "predicted_installed_bytes": plan.predicted_installed_bytes and sizes.installed,
    }
    return plan.model_copy(update=predicted)


def _of_step(step: Step) -> Recover:
    technique: Any = from_step(step)
    return Recover.of(technique)


def _done(how: Recover, found: Recovered) -> LearnRecovery:
    """The technique with the number of steps that were done, so that a replay does the same."""
    return how.technique.model_copy(update={"steps": found.learned.training.steps})


def _with_step(plan: Plan, technique: LearnRecovery) -> Plan:
    return plan.model_copy(update={"steps": (*plan.steps, technique.step_of(()))})


def _ground(run: Run, plan: Plan) -> Ground:
    only, part = run.form.replaceable, run.settings.part
    if part:
        names = only or {name for name, _ in run.subject.model.named_parameters()}
        only = frozenset(name for name in names if name.startswith(f"{part}."))
    removed = (step for step in plan.steps if from_step(step).family == PRUNING)
    return Ground(
        task=run.subject,
        original=run.task,
        split=run.split,
        metric=run.metric,
        only=only,
        sparse=frozenset(name for step in removed for name in step.where),
        seed=run.settings.seed,
    )


def _completed(run: Run, found: Recovered) -> dict[str, Encoding]:
    """The encodings as the form rounds them."""
    factors = {}
    if isinstance(run.form, GraphForm):
        factors = run.form.row_factors(found.encodings)
    return run.form.completed(half_steps(found.encodings, factors))


def _refused(
    run: Run, trials: Trials, *, before: Plan, after: Plan, found: Recovered
) -> str | None:
    """Why the weights stay as they were; None where what was learned is kept."""
    if not found.better:
        return (
            f"no {found.watched} on search examples was better than before: nothing was kept"
            f"{_advice(found)}"
        )
    squeezed = bool(step_bits(after))
    if (
        found.watched == DIVERGENCE
        and not squeezed
        and not trials.divergence(after) < trials.divergence(before)
    ):
        return "the files answer no nearer to the original than before: nothing was kept"
    original = run.original.stat().st_size
    for limit in run.limits:
        if limit.name in SIZES:
            most, size = limit.resolve(original), getattr(trials.sizes(after), limit.name)
            if size > most >= getattr(trials.sizes(before), limit.name):
                return f"{limit.name} would be {size:,} bytes of {most:,.0f}: nothing was kept"
    return None


def _advice(found: Recovered) -> str:
    """Labels lead away from the original's answers where these were watched."""
    if not found.labels or found.watched != DIVERGENCE:
        return ""
    return f"; labels={found.labels:g} leads away from it, labels=0 learns the answers alone"
