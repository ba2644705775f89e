"""A mixture is solved, tried on real files, and solved again with what those told."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from lilliput.errors import UnreachableError
from lilliput.records import LimitName, Plan
from lilliput.stages.mixing import AIMS, COSTS, Mixture, Trial

CLOSE = 0.985  # a plan that uses this share of a limit has no room left
ATTEMPTS = 4
FILES: dict[LimitName, str] = {
    "storage": "a packed file of {:,.0f} bytes is out of reach, the smallest is {:,.0f}",
    "installed": "a runnable file of {:,.0f} bytes is out of reach, the smallest is {:,.0f}",
    "memory": "{:,.0f} bytes of memory are out of reach, the least is {:,.0f}",
    "latency": "a call of {:.3g} ms is out of reach, the fastest takes {:.3g} ms",
}
HINTS: dict[LimitName, str] = {
    "storage": "ask for more storage, or fewer limits beside it",
    "installed": "the runnable file holds what its kernels read; the packed file is smaller",
    "memory": "smaller batches need less; `lilliput profile` says where the memory goes",
    "latency": "`lilliput profile` says where the time goes, and what cannot get faster here",
}


class Try(Protocol):
    """Measures a plan on its real files."""

    def costs(self, plan: Plan) -> Trial:
        """Bytes, and memory and latency where they are limited."""
        ...


def fit(mixture: Mixture, evaluate: Try) -> Plan:
    """The plan with least predicted damage whose real files keep every limit.

    Args:
        mixture: The program.
        evaluate: Measures plans.

    Raises:
        UnreachableError: Nothing fits; names the binding limit and the nearest reachable point.
    """
    return fitted(mixture, evaluate)[1]


def fitted(mixture: Mixture, evaluate: Try) -> tuple[Mixture, Plan]:
    """The same, and the program as the last files corrected it."""
    best: Plan | None = None
    for _ in range(ATTEMPTS):
        picks = mixture.solve() or mixture.solve(aims=np.ones(len(COSTS)))
        if not picks:
            break
        plan = mixture.plan(picks)
        trial = evaluate.costs(plan)
        fits = mixture.fits(trial)
        if fits and (best is None or _damage(plan) < _damage(best)):
            best = plan
        before, mixture = mixture, mixture.corrected(picks, trial)
        if fits and _full(mixture, before, picks, trial):
            break
    if best is None:
        mixture, best = _nearest(mixture, evaluate)
    return mixture, best


def _full(mixture: Mixture, before: Mixture, picks: Sequence[int], trial: Trial) -> bool:
    """Whether a limit is used up, or nothing better could be chosen without any limit."""
    used = trial.costs >= CLOSE * AIMS * mixture.limits
    mildest = [int(np.argmin(damage)) for damage in before.damage]
    return bool(used.any()) or list(picks) == mildest


def _nearest(mixture: Mixture, evaluate: Try) -> tuple[Mixture, Plan]:
    """The last chance of every limit alone, then of all together.

    Raises:
        UnreachableError: There is none.
    """
    limited = [name for name, limit in zip(COSTS, mixture.limits, strict=True) if limit < np.inf]
    for name in limited:
        plan = mixture.plan(mixture.least(name))
        trial = evaluate.costs(plan)
        if mixture.fits(trial):
            return mixture, plan
        least, limit = (float(each[COSTS.index(name)]) for each in (trial.costs, mixture.limits))
        if least > limit:
            raise UnreachableError(FILES[name].format(limit, least), HINTS[name])
        mixture = mixture.corrected(mixture.least(name), trial)
    picks = mixture.nearest()
    plan = mixture.plan(picks)
    trial = evaluate.costs(plan)
    if mixture.fits(trial):
        return mixture, plan
    over = trial.costs / mixture.limits
    point = ", ".join(f"{name} {trial.costs[COSTS.index(name)]:,.4g}" for name in limited)
    raise UnreachableError(
        f"{' and '.join(limited)} are each within reach, but not together; the binding limit is "
        f"{COSTS[int(np.argmax(over))]}, the nearest point within reach is {point}",
        f"ask for {100 * (float(over.max()) - 1):.1f} % more of it",
    )


def _damage(plan: Plan) -> float:
    return float("inf") if plan.predicted_damage is None else plan.predicted_damage
