"""Fitting a mixture to real costs, where both are small enough to know the answer."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from lilliput.errors import UnreachableError
from lilliput.stages.fitting import fit
from lilliput.stages.mixing import Mixture, Trial
from lilliput.stages.option_table import Candidate
from lilliput.techniques import Option, QuantizeRound

NAMES = ("first", "second", "third")


def candidates(*costs):
    """(damage, storage, installed, memory, latency) each, told apart by their bits."""
    return tuple(
        Candidate((QuantizeRound(bits=8 - n),), Option({"bits": 8 - n}, d, s, i, 1.0, m, t), n)
        for n, (d, s, i, m, t) in enumerate(costs)
    )


MILD, SMALL, FAST = (0, 100, 100, 100, 10), (3, 20, 50, 60, 9), (5, 60, 60, 40, 2)


def mixture(limits, rest=(0, 0, 0, 0)):
    profile = SimpleNamespace(model_hash="h", sites=dict.fromkeys(NAMES), parameters={})
    options = {name: candidates(MILD, SMALL, FAST) for name in NAMES}
    return Mixture(profile, options, np.array(limits, float), np.array(rest, float))


@dataclass
class Files:
    """Real costs: the options' own, and something that nobody predicted."""

    extra: tuple[float, ...] = (0, 0, 0, 0)
    tried: list = field(default_factory=list)

    def costs(self, plan):
        self.tried.append(plan)
        total = np.array(self.extra, float)
        for step in plan.steps:
            cost = (MILD, SMALL, FAST)[8 - step.settings.get("bits", 8)]
            total = total + len(step.where) * np.array(cost[1:])
        return Trial(*(float(value) for value in total))


INF = np.inf


@pytest.mark.parametrize(
    ("limits", "damage"),
    [
        ((310, INF, INF, INF), 0),
        ((230, INF, INF, INF), 3),
        ((INF, INF, INF, 23), 5),
        ((165, INF, INF, 16), 5 + 5 + 3),
        ((INF, 215, 250, 26), 5 + 3),
    ],
)
def test_the_least_damage_within_all_limits_is_found(limits, damage):
    assert fit(mixture(limits), Files()).predicted_damage == damage


def test_what_only_the_file_tells_is_learned_from_it():
    files = Files(extra=(50, 0, 0, 4))
    chosen = fit(mixture((300, INF, INF, 28)), files)
    trial = files.costs(chosen)
    assert trial.storage <= 300 and trial.latency <= 28
    assert chosen.predicted_damage == 8 and len(files.tried) <= 5
    assert chosen.predicted_storage_bytes == trial.storage
    assert chosen.predicted_latency_ms == trial.latency


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ((50, INF, INF, INF), r"packed file of 50 bytes is out of reach, the smallest is 60"),
        ((INF, 100, INF, INF), r"runnable file of 100 bytes is out of reach, the smallest is 150"),
        ((INF, INF, 100, INF), r"100 bytes of memory are out of reach, the least is 120"),
        ((INF, INF, INF, 5), r"call of 5 ms is out of reach, the fastest takes 6 ms"),
        ((100, INF, INF, 10), r"not together; the binding limit is (latency|storage), the nearest"),
    ],
)
def test_a_limit_out_of_reach_is_named_with_the_nearest_point(limits, told):
    with pytest.raises(UnreachableError, match=told):
        fit(mixture(limits), Files())


def test_a_limit_that_is_just_met_is_met():
    assert fit(mixture((60, INF, INF, INF)), Files()).predicted_damage == 9


def test_equal_choices_become_one_step():
    chosen = fit(mixture((INF, INF, INF, 23)), Files())
    assert sorted(len(step.where) for step in chosen.steps) == [1, 2]
