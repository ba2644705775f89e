import itertools

import numpy as np
import pytest
import torch

from lilliput.tensor.masks import refit
from lilliput.tensor.reselection import TwoSided, reselected
from lilliput.tensor.second_order import two_sided_damage


def correlated(size, seed):
    mix = torch.randn(size, size, generator=torch.Generator().manual_seed(seed))
    return mix @ mix.t() / size + 0.05 * torch.eye(size)


def problem_of(rows, columns, seed):
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    return TwoSided(weight, second=correlated(columns, seed + 1), output=correlated(rows, seed + 2))


def best_on(problem, mask):
    """Least squares over the kept entries, by the normal equations of the whole matrix."""
    whole = np.kron(problem.output.double().numpy(), problem.second.double().numpy())
    kept = np.flatnonzero(mask.numpy())
    target = whole[kept] @ problem.weight.double().numpy().reshape(-1)
    value = np.zeros(mask.numel())
    value[kept] = np.linalg.solve(whole[np.ix_(kept, kept)], target)
    return value.reshape(mask.shape)


def test_the_fit_is_that_of_least_squares_under_both_sides():
    problem = problem_of(5, 7, 0)
    mask = torch.rand(5, 7, generator=torch.Generator().manual_seed(9)) > 0.4
    found = problem.fitted(torch.zeros(5, 7), mask, rounds=200)
    best = torch.from_numpy(best_on(problem, mask)).float()
    assert problem.loss(found) <= 1.001 * problem.loss(best)
    one_sided = refit(problem.weight, mask, second=problem.second)
    assert problem.loss(found) < 0.95 * problem.loss(one_sided)
    damage = two_sided_damage(problem.weight, found, second=problem.second, output=problem.output)
    assert problem.loss(found) == pytest.approx(damage, rel=1e-5)


def test_a_diagonal_row_side_fits_each_row_by_itself():
    weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    mask = torch.rand(4, 6, generator=torch.Generator().manual_seed(1)) > 0.4
    second = correlated(6, 2)
    problem = TwoSided(weight, second=second, output=torch.tensor([1.0, 5.0, 0.1, 2.0]))
    found = problem.fitted(torch.zeros(4, 6), mask, rounds=200)
    np.testing.assert_allclose(found, refit(weight, mask, second=second), atol=2e-3)


@pytest.mark.parametrize("seed", range(3))
def test_exchanges_come_near_the_best_of_all_masks(seed):
    problem = problem_of(2, 5, seed)
    every = []
    for kept in itertools.combinations(range(10), 5):
        mask = torch.zeros(10, dtype=torch.bool)
        mask[list(kept)] = True
        value = torch.from_numpy(best_on(problem, mask.reshape(2, 5))).float()
        every.append(problem.loss(value))
    worst = problem.weight.abs().flatten().argsort()[:5]  # keeps the smallest weights
    mask = torch.zeros(10, dtype=torch.bool)
    mask[worst] = True
    mask = mask.reshape(2, 5)
    start = problem.loss(problem.fitted(problem.weight, mask))
    found = reselected(problem, problem.weight, mask=mask, swaps=40)
    assert int(found.sum()) == 5
    end = problem.loss(problem.fitted(problem.weight, found))
    assert end < start and end <= sorted(every)[50]  # the best fifth of 252


def test_without_swaps_the_mask_stays():
    problem = problem_of(3, 4, 0)
    mask = torch.rand(3, 4, generator=torch.Generator().manual_seed(1)) > 0.5
    assert torch.equal(reselected(problem, problem.weight, mask=mask, swaps=0), mask)
    every = torch.ones(3, 4, dtype=torch.bool)
    assert torch.equal(reselected(problem, problem.weight, mask=every, swaps=3), every)
