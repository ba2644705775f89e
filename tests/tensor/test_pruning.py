import pytest
import torch

from lilliput.tensor.masks import PATTERNS, Pattern, keep, refit
from lilliput.tensor.pruning import (
    BLOCK,
    activation_magnitude,
    diagonal_saliency,
    feedback_prune,
    surgeon_prune,
)
from lilliput.tensor.second_order import damped, inverse_factor, layer_damage


def problem(rows=48, columns=96, *, seed=0):
    made = torch.Generator().manual_seed(seed)
    mix = torch.eye(columns) + 0.4 * torch.randn(columns, columns, generator=made)
    inputs = torch.randn(8 * columns, columns, generator=made) @ mix
    inputs *= torch.linspace(0.2, 3, columns)
    return torch.randn(rows, columns, generator=made), inputs.t() @ inputs / len(inputs)


def lost(weight, value, second):
    return float(layer_damage(weight, value, second).sum())


def by_hand(weight, inverse, count):
    """Optimal Brain Surgeon as in the paper: one weight of one row at a time."""
    value = weight.double().clone()
    for row in range(len(value)):
        own = inverse.double().clone()
        left = list(range(value.shape[1]))
        for _ in range(count):
            gone = min(left, key=lambda j: float(value[row, j] ** 2 / own[j, j]))
            value[row] -= value[row, gone] / own[gone, gone] * own[gone]
            own -= own[:, gone, None] * own[None, gone] / own[gone, gone]
            left.remove(gone)
            value[row, gone] = 0
    return value


@pytest.mark.parametrize("amount", [0.3, 0.6, 0.8])
def test_the_more_a_method_knows_the_less_is_lost(amount):
    totals = dict.fromkeys(("magnitude", "wanda", "sparsegpt", "refit", "surgeon"), 0.0)
    for seed in range(3):
        weight, second = problem(seed=seed)
        inverse = torch.linalg.inv(damped(second))
        plain = keep(weight.abs(), amount, pattern=Pattern())
        wanda = keep(activation_magnitude(weight, second), amount, pattern=Pattern(), by_row=True)
        fed = feedback_prune(weight, inverse_factor(second), amount=amount, pattern=Pattern())
        surgeon = surgeon_prune(weight, inverse, amount=amount, at_once=4)
        values = {
            "magnitude": weight * plain,
            "wanda": weight * wanda,
            "sparsegpt": fed,
            "refit": refit(weight, fed != 0, second=damped(second)),
            "surgeon": surgeon,
        }
        for name, value in values.items():
            totals[name] += lost(weight, value, second)
    ordered = list(totals.values())
    assert ordered == sorted(ordered, reverse=True), totals
    assert totals["surgeon"] < 0.6 * totals["wanda"]


def test_one_at_a_time_is_the_paper_s_surgeon():
    weight, second = problem(5, 16)
    inverse = torch.linalg.inv(damped(second))
    found = surgeon_prune(weight, inverse, amount=0.5, at_once=1)
    assert torch.allclose(found.double(), by_hand(weight, inverse, 8), atol=1e-3)
    assert ((found != 0).sum(1) == 8).all()


def test_several_at_once_cost_little_more():
    weight, second = problem(20, 96)
    inverse = torch.linalg.inv(damped(second))
    damages = [
        lost(weight, surgeon_prune(weight, inverse, amount=0.5, at_once=at_once), second)
        for at_once in (1, 8)
    ]
    assert damages[0] <= damages[1] < 1.3 * damages[0]


def test_surgery_keeps_what_is_left_at_its_best():
    """After the last removal nothing can be gained by fitting the kept weights again."""
    weight, second = problem(10, 40)
    found = surgeon_prune(weight, torch.linalg.inv(damped(second)), amount=0.5, at_once=3)
    best = refit(weight, found != 0, second=damped(second))
    assert torch.allclose(found, best, atol=1e-2)


@pytest.mark.parametrize("text", ["any", "2:4", "4x1"])
def test_feedback_pruning_removes_the_amount_in_every_block(text):
    weight, second = problem(16, 2 * BLOCK + 44)
    found = feedback_prune(weight, inverse_factor(second), amount=0.5, pattern=PATTERNS[text])
    for start in range(0, 2 * BLOCK + 44, BLOCK):
        block = found[:, start : start + BLOCK] != 0
        assert int(block.sum()) == round(0.5 * block.numel())


def test_the_weight_it_is_given_stays_as_it_is():
    weight, second = problem(8, 20)
    before = weight.clone()
    feedback_prune(weight, inverse_factor(second), amount=0.5, pattern=Pattern())
    surgeon_prune(weight, torch.linalg.inv(damped(second)), amount=0.5, at_once=2)
    assert torch.equal(weight, before)


def test_saliency_counts_rows_and_columns():
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    second = torch.diag(torch.tensor([2.0, 3.0]))
    found = diagonal_saliency(weight, second, worth=torch.tensor([1.0, 10.0]))
    assert torch.equal(found, torch.tensor([[2.0, 12.0], [180.0, 480.0]]))
