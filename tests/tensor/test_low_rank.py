"""The best products of a matrix, and ranks shared out over several."""

import numpy as np
import pytest
import torch

from lilliput.tensor.low_rank import best_products, largest_rank, ranks_by_damage
from lilliput.tensor.second_order import inverse_factor, two_sided_damage


def made(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def side(width, seed):
    mix = made(3 * width, width, seed=seed)
    return mix.t() @ mix / width


@pytest.mark.parametrize("shape", [(12, 20), (20, 12)])
def test_without_a_metric_it_is_the_singular_value_decomposition(shape):
    weight = made(*shape)
    found = best_products(weight)
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    for rank in (1, 5, 12):
        first, last = found.at(rank)
        wanted = u[:, :rank] * s[:rank] @ v[:rank]
        torch.testing.assert_close(last @ first, wanted, atol=1e-4, rtol=1e-4)
        assert float(found.tails[rank]) == pytest.approx(float(s[rank:].square().sum()), abs=1e-3)
        torch.testing.assert_close(first.norm(dim=1), last.norm(dim=0))


@pytest.mark.parametrize("shape", [(12, 20), (20, 12)])
@pytest.mark.parametrize("diagonal", [False, True])
def test_under_the_metric_tails_are_damage_and_nothing_of_that_rank_is_better(shape, diagonal):
    weight, second, output = made(*shape), side(shape[1], 1), side(shape[0], 2)
    output = output.diagonal().clone() if diagonal else output
    whole = torch.diag(output) if diagonal else output
    found = best_products(weight, factor=inverse_factor(second, 0.0), output=output)
    for rank in (1, 4, 11):
        first, last = found.at(rank)
        cost = two_sided_damage(weight, last @ first, second=second, output=whole)
        assert cost == pytest.approx(float(found.tails[rank]), rel=1e-3)
        for seed in range(5):
            other = (last + 0.02 * made(*last.shape, seed=seed)) @ first
            assert two_sided_damage(weight, other, second=second, output=whole) > cost


def test_a_singular_matrix_gives_finite_factors():
    weight = made(16, 3) @ made(3, 10, seed=1)
    found = best_products(weight)
    first, last = found.at(8)
    torch.testing.assert_close(last @ first, weight, atol=1e-3, rtol=1e-3)
    zero = best_products(torch.zeros(6, 4))
    assert torch.isfinite(zero.left).all() and torch.isfinite(zero.right).all()


@pytest.mark.parametrize("shape", [(2, 2), (3, 5), (384, 384), (1536, 384), (30522, 384)])
def test_the_largest_rank_is_the_last_that_is_smaller(shape):
    rows, columns = shape
    rank = largest_rank(rows, columns)
    assert (rank + 1) * (rows + columns) >= rows * columns
    assert rank * (rows + columns) < rows * columns or rank == 1


def test_ranks_by_damage_fit_and_beat_equal_shares():
    sides = [(40, 40), (60, 20), (30, 90)]
    scales = (1.0, 0.05, 4.0)
    tails = [
        best_products(made(*shape, seed=place)).tails * scale
        for place, (shape, scale) in enumerate(zip(sides, scales, strict=True))
    ]
    total = sum(rows * columns for rows, columns in sides)
    for share in (0.2, 0.5, 0.8, 0.99):
        ranks = ranks_by_damage(tails, sides=sides, budget=share * total)
        numbers = [
            rows * columns if rank is None else rank * (rows + columns)
            for rank, (rows, columns) in zip(ranks, sides, strict=True)
        ]
        assert 0.9 * share * total < sum(numbers) <= share * total
        lost = sum(
            0.0 if rank is None else float(tail[rank])
            for rank, tail in zip(ranks, tails, strict=True)
        )
        equal = [max(1, int(share * r * c / (r + c))) for r, c in sides]
        assert lost < sum(float(t[rank]) for t, rank in zip(tails, equal, strict=True)), share
    assert ranks_by_damage(tails, sides=sides, budget=0.0) == [1, 1, 1]
    assert ranks_by_damage(tails, sides=sides, budget=np.inf) == [None, None, None]
