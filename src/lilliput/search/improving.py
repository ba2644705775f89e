"""A mixture's plan against what was measured: uniform plans, then swaps at equal cost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from lilliput.planned import Compared
from lilliput.records import Plan
from lilliput.search.uniform import TRIES, ratio, rescaled, techniques, uniform_picks
from lilliput.stages.fitting import fitted
from lilliput.stages.mixing import Mixture, Trial

MOST_TRIALS = 24
FACTOR = 4.0  # on a site's damage when it shall give to others, or take from them
GAIN = 0.995  # a divergence this much lower is an improvement
SINGLES = 8  # sites swapped by themselves, those predicted to do most damage


class Measure(Protocol):
    """Tries plans on real files and search examples."""

    def costs(self, plan: Plan) -> Trial:
        """Bytes, and memory and latency where they are limited."""
        ...

    def divergence(self, plan: Plan) -> float:
        """How far the output moved, in the currency; NaN without examples."""
        ...


@dataclass
class Improving:
    """The best valid plan so far, and what was compared with it.

    Attributes:
        mixture: The program, as files corrected it.
        evaluate: Tries plans.
        plan: The best.
        divergence: Of the best.
        tried: How many plans were tried on search examples.
        compared: The mixture's plan and the uniform ones.
        stopped: Why it ended.
    """

    mixture: Mixture
    evaluate: Measure
    plan: Plan
    divergence: float = float("nan")
    tried: int = 0
    compared: list[Compared] = field(default_factory=list)
    stopped: str = ""
    _seen: set[str] = field(default_factory=set)

    def offer(self, plan: Plan) -> float:
        """Measures a plan and keeps it if it is better and keeps every limit."""
        key = str(plan.steps)
        if key in self._seen:
            return float("inf")
        self._seen.add(key)
        self.tried += 1
        found = self.evaluate.divergence(plan)
        if found < GAIN * self.divergence and self.mixture.fits(self.evaluate.costs(plan)):
            self.plan, self.divergence = plan, found
        return found


def improve(mixture: Mixture, evaluate: Measure, *, most: int = MOST_TRIALS) -> Improving:
    """The best plan that can be found within a number of trials.

    First the plan with least predicted damage; then every technique alone, at the mildest strength
    that fits. What these measured corrects the predictions technique by technique, and the program
    is solved again; then groups of sites and single sites are made to give or take, everything
    else making up for it within the limits, as long as the search examples gain.

    Args:
        mixture: The program.
        evaluate: Tries plans.
        most: Trials on search examples, at least 1.

    Raises:
        UnreachableError: Nothing fits the limits.
    """
    mixture, plan = fitted(mixture, evaluate)
    now = Improving(mixture, evaluate, plan, evaluate.divergence(plan), 1)
    now._seen.add(str(plan.steps))
    if np.isnan(now.divergence):
        now.stopped = "there are no search examples, so predicted damage alone decided"
        return now
    now.compared.append(_compared("mixed", plan, now.divergence))
    ratios = _uniform(now, most)
    now.mixture = rescaled(now.mixture, ratios)
    now.stopped = _swaps(now, most)
    return now


def _uniform(now: Improving, most: int) -> dict[str, float]:
    """Tries every technique alone; measured over predicted damage of each."""
    ratios: dict[str, float] = {}
    for name in techniques(now.mixture):
        for picks, _ in zip(uniform_picks(now.mixture, name), range(TRIES), strict=False):
            plan = now.mixture.plan(picks)
            if now.tried >= most or not now.mixture.fits(now.evaluate.costs(plan)):
                continue
            found = now.offer(plan)
            now.compared.append(_compared(name, plan, found))
            known = ratio(plan, found)
            if known is not None:
                ratios[name] = known
            break
    return ratios


def _swaps(now: Improving, most: int) -> str:
    """Rounds of moves until none of a round helps; says why it ended."""
    weights = np.ones(len(now.mixture.candidates))
    while True:
        before = now.divergence
        for moved in _moves(now.mixture, weights):
            if now.tried >= most:
                return f"the budget of {most} trials is used up"
            picks = now.mixture.solve(weights=moved)
            if not picks:
                continue
            best = now.divergence
            now.offer(now.mixture.plan(picks))
            if now.divergence < best:
                weights = moved
        if now.divergence >= GAIN * before:
            return "no swap lowers the divergence on search examples any further"


def _moves(mixture: Mixture, weights: np.ndarray) -> Iterator[np.ndarray]:
    """The program as it is, then groups of sites and single sites that count more, or less."""
    yield weights
    for group in _groups(mixture, weights):
        for factor in (FACTOR, 1 / FACTOR):
            moved = weights.copy()
            moved[list(group)] *= factor
            yield moved


def _groups(mixture: Mixture, weights: np.ndarray) -> list[Sequence[int]]:
    """Sites of a kind, thirds of the depth, then those predicted to do most damage, one by one."""
    sites = [known.site for known in mixture.profile.sites.values()]
    kinds = sorted({site.kind for site in sites})
    groups: list[Sequence[int]] = []
    if len(kinds) > 1:
        groups += [[n for n, site in enumerate(sites) if site.kind == kind] for kind in kinds]
    groups += [part.tolist() for part in np.array_split(np.arange(len(sites)), 3) if len(part)]
    picks = mixture.solve(weights=weights)
    if picks:
        damage = np.array([d[i] for d, i in zip(mixture.damage, picks, strict=True)])
        groups += [[int(n)] for n in np.argsort(-damage, kind="stable")[:SINGLES]]
    return groups


def _compared(name: str, plan: Plan, divergence: float) -> Compared:
    return Compared(
        name=name,
        predicted=plan.predicted_damage,
        divergence=divergence if np.isfinite(divergence) else None,
    )
