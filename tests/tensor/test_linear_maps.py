"""Least-squares maps by sums over batches."""

import pytest
import torch

from lilliput.tensor.linear_maps import PairSums

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(4000, 6, generator=GENERATOR) @ torch.randn(6, 6, generator=GENERATOR) + 2


def sums(y):
    found = PairSums(6, y.shape[1])
    for part in range(0, len(X), 1000):
        found.add(X[part : part + 1000], y[part : part + 1000])
    return found


def test_a_linear_map_is_found():
    weight, bias = torch.randn(5, 6, generator=GENERATOR), torch.arange(5.0)
    (factor,), shift = sums(X @ weight.t() + bias).fitted()
    assert torch.allclose(factor, weight, atol=0.02) and torch.allclose(shift, bias, atol=0.05)


def test_a_smaller_rank_is_the_best_one_on_these_rows():
    y = X @ torch.randn(5, 6, generator=GENERATOR).t()
    factors, shift = sums(y).fitted(rank=2)
    assert [tuple(one.shape) for one in factors] == [(2, 6), (5, 2)]
    error = float((X @ factors[0].t() @ factors[1].t() + shift - y).square().sum())
    centred = y - y.mean(0)
    least = float(torch.linalg.svdvals(centred)[2:].square().sum())
    assert least <= error < 1.05 * least


def test_few_rows_shrink_the_map():
    few = PairSums(6, 6)
    noise = torch.randn(4, 6, generator=GENERATOR)
    few.add(X[:4], noise)
    (factor,), _ = few.fitted()
    plain = torch.linalg.lstsq(X[:4] - X[:4].mean(0), noise - noise.mean(0)).solution
    assert float(factor.norm()) < float(plain.norm())
    with pytest.raises(ValueError, match="no row"):
        PairSums(2, 2).fitted()
