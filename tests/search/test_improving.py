"""Improving a plan: a measured world that differs from the predicted one in a known way."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from lilliput.search.improving import improve
from lilliput.search.uniform import uniform_picks
from lilliput.stages.mixing import COSTS, Mixture, Trial
from lilliput.stages.option_table import Candidate
from lilliput.techniques import Option, QuantizeFeedback, QuantizeRound

NAMES = tuple(f"site{n}" for n in range(6))
SIZE = 1000


def candidates(worth):
    """Two techniques, six strengths each: feedback is predicted to do half the damage."""
    return tuple(
        Candidate(
            (kind(bits=bits) if kind is QuantizeRound else kind(step=float(9 - bits)),),
            Option({}, scale * worth * 4.0**-bits, SIZE * bits / 8, SIZE, 1.0, 0.0, 1.0),
            8 - bits,
        )
        for kind, scale in ((QuantizeFeedback, 1.0), (QuantizeRound, 2.0))
        for bits in range(8, 2, -1)
    )


def mixture(storage, worth):
    sites = {n: SimpleNamespace(site=SimpleNamespace(kind="linear", name=n)) for n in NAMES}
    profile = SimpleNamespace(model_hash="h", sites=sites, parameters={})
    options = {name: candidates(w) for name, w in zip(NAMES, worth, strict=True)}
    limits = np.full(len(COSTS), np.inf)
    limits[0] = storage
    return Mixture(profile, options, limits, np.zeros(len(COSTS)))


@dataclass
class World:
    """Measured damage: predicted, times a factor per site and per technique."""

    sites: tuple[float, ...] = (1.0,) * len(NAMES)
    techniques: dict = field(default_factory=dict)
    examples: bool = True
    asked: list = field(default_factory=list)

    def parts(self, plan):
        for step in plan.steps:
            first = step.settings.get("bits", 8 if step.technique == "quantize_round" else None)
            bits = first or round(9 - step.settings.get("step", 1.0))
            for name in step.where:
                yield step.technique, name, bits

    def costs(self, plan):
        return Trial(sum(SIZE * bits // 8 for *_, bits in self.parts(plan)), SIZE)

    def divergence(self, plan):
        self.asked.append(plan)
        if not self.examples:
            return float("nan")
        scale = {"quantize_feedback": 1.0, "quantize_round": 2.0}
        return sum(
            scale[t] * self.techniques.get(t, 1.0) * self.sites[NAMES.index(n)] * 4.0**-bits
            for t, n, bits in self.parts(plan)
        )


EVEN = (1.0,) * len(NAMES)


def test_a_right_prediction_is_kept_and_it_says_why_it_stopped():
    found = improve(mixture(4 * SIZE, EVEN), World())
    assert found.stopped == "no swap lowers the divergence on search examples any further"
    assert found.divergence == found.evaluate.divergence(found.plan)
    assert [c.name for c in found.compared] == ["mixed", "quantize_feedback", "quantize_round"]
    assert found.divergence <= min(c.divergence for c in found.compared)


def test_a_technique_that_is_worse_than_predicted_gives_way():
    world = World(techniques={"quantize_feedback": 50.0})
    found = improve(mixture(4 * SIZE, EVEN), world)
    assert {step.technique for step in found.plan.steps} == {"quantize_round"}


def test_sites_that_matter_more_than_predicted_get_more_bits():
    world = World(sites=(300.0, 1.0, 1.0, 1.0, 1.0, 1.0))
    start = World(sites=world.sites).divergence(
        mixture(3 * SIZE, EVEN).plan(mixture(3 * SIZE, EVEN).solve())
    )
    found = improve(mixture(3 * SIZE, EVEN), world)
    assert found.divergence < 0.5 * start
    assert world.costs(found.plan).storage <= 3 * SIZE
    bits = {name: bits for _, name, bits in world.parts(found.plan)}
    assert bits["site0"] == max(bits.values())


def test_the_budget_of_trials_is_kept():
    world = World(sites=(300.0, 1.0, 50.0, 1.0, 1.0, 1.0))
    found = improve(mixture(3 * SIZE, EVEN), world, most=5)
    assert found.tried == len(world.asked) == 5
    assert found.stopped == "the budget of 5 trials is used up"


def test_without_examples_the_prediction_decides():
    found = improve(mixture(4 * SIZE, EVEN), World(examples=False))
    assert found.tried == 1 and "no search examples" in found.stopped


@pytest.mark.parametrize("storage", [2.3, 3.0, 4.5, 6.0])
def test_never_worse_than_the_best_uniform_plan(storage):
    made = np.random.default_rng(int(10 * storage))
    world = World(sites=tuple(made.uniform(0.01, 100, len(NAMES))))
    program = mixture(storage * SIZE, made.uniform(0.01, 100, len(NAMES)))
    found = improve(program, world)
    for name in ("quantize_feedback", "quantize_round"):
        best = next(iter(uniform_picks(program, name)))
        assert found.divergence <= world.divergence(program.plan(best)) * (1 + 1e-9)


def test_uniform_means_one_strength_for_all():
    program = mixture(4 * SIZE, EVEN)
    for name in ("quantize_feedback", "quantize_round"):
        for picks in uniform_picks(program, name):
            chosen = [some[i] for some, i in zip(program.candidates.values(), picks, strict=True)]
            assert {c.name for c in chosen} == {name} and len({c.strength for c in chosen}) == 1
            assert program.spent(picks)[0] <= 4 * SIZE
