import pytest
import torch

from lilliput.budget import Budget
from lilliput.model.encodings import Dense, LowRank
from lilliput.records import Plan, Step
from lilliput.stages.unfactor import must_be_faster, unfactored


class Told:
    """A clock that finds products slow above a rank."""

    def __init__(self, rank):
        self.rank = rank

    def ratios(self, encodings):
        ranks = {n: e.factors[0].weight.shape[0] for n, e in encodings.items()}
        return {
            n: ((0.5, 0.4, 0.6) if r <= self.rank else (1.2, 1.1, 1.3)) for n, r in ranks.items()
        }


def steps_of(plan):
    return [(step.technique, step.where) for step in plan.steps]


def plan_of(*steps):
    return Plan(
        model_hash="0",
        steps=tuple(Step(technique=t, where=w) for t, w in steps),
        predicted_damage=1.0,
    )


def encode(plan):
    """Rank 4 for every site named, as many more as sites are missing from three."""
    where = next((s.where for s in plan.steps if s.technique.startswith("factorize")), ())
    rank = 4 + 3 - len(where)
    made = LowRank((Dense(torch.ones(rank, 8)), Dense(torch.ones(8, rank))), (8, 8))
    slow = LowRank((Dense(torch.ones(9, 8)), Dense(torch.ones(8, 9))), (8, 8))
    return {name: slow if name == "slow" else made for name in where}


def test_sites_that_do_not_pay_are_taken_out_of_the_factorization_only():
    plan = plan_of(("factorize_svd", ("a", "slow", "b")), ("quantize_round", ("a", "slow", "b")))
    found, said = unfactored(plan, encode, speed=Told(5))
    assert steps_of(found) == [
        ("factorize_svd", ("a", "b")),
        ("quantize_round", ("a", "slow", "b")),
    ]
    assert said == [
        "slow: its factors are not faster here (1.20 times the time of the whole weight, "
        "1.10 to 1.30), so it stays whole"
    ]
    assert found.predicted_damage is None


def test_what_is_left_is_measured_again_and_an_empty_step_is_dropped():
    plan = plan_of(("factorize_svd", ("a", "slow", "b")), ("quantize_round", ("a",)))
    found, said = unfactored(plan, encode, speed=Told(4))  # without `slow` the ranks are 5
    assert steps_of(found) == [("quantize_round", ("a",))]
    assert [line.partition(":")[0] for line in said] == ["slow", "a", "b"]


def test_a_plan_whose_products_pay_stays_as_it_is():
    plan = plan_of(("factorize_svd", ("a", "b")))
    assert unfactored(plan, encode, speed=Told(9)) == (plan, [])


@pytest.mark.parametrize(
    ("budget", "faster"),
    [
        (Budget(drop=0.01), True),
        (Budget(latency="80%"), True),
        (Budget(latency="80%", storage="10%"), True),
        (Budget(storage="10%", drop=0.01), False),
        (Budget(installed="30%"), False),
        (Budget(memory="50%"), False),
    ],
)
def test_products_must_pay_in_time_where_no_size_needs_them(budget, faster):
    assert must_be_faster(budget.limits) is faster
