import pytest
import torch

from lilliput.tensor.decompositions import canonical, spatial, tucker2, tucker_numbers
from lilliput.tensor.products import chained


def made(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def off(found, weight):
    return float((chained(found) - weight).norm() / weight.norm())


def test_tucker_of_full_ranks_is_exact_and_of_fewer_is_nearest_among_orthogonal_sides():
    weight = made(8, 6, 3, 3)
    assert off(tucker2(weight, rank=8), weight) < 1e-5
    found = tucker2(weight, rank=4)
    assert [tuple(f.shape) for f in found] == [(4, 6, 1, 1), (4, 4, 3, 3), (8, 4, 1, 1)]
    least = off(found, weight)
    for seed in range(5):
        left, right = (torch.linalg.qr(made(n, 4, seed=seed + n))[0] for n in (8, 6))
        core = torch.einsum("oihw,os,ir->srhw", weight, left, right)
        other = torch.einsum("srhw,os,ir->oihw", core, left, right)
        assert float((other - weight).norm() / weight.norm()) > least


@pytest.mark.parametrize("numbers", [60, 150, 300])
def test_tucker_ranks_fit_the_numbers_and_follow_the_energy(numbers):
    weight = made(8, 6, 3, 3)
    weight[4:] *= 0.01  # few outputs count
    first, core, last = tucker2(weight, numbers=numbers)
    held = sum(factor.numel() for factor in (first, core, last))
    assert held == tucker_numbers(weight.shape, inner=first.shape[0], outer=last.shape[1])
    assert held <= numbers
    assert last.shape[1] <= 4


@pytest.mark.parametrize("shape", [(8, 6, 3, 3), (8, 6, 3), (8, 6, 1, 3)])
def test_canonical_finds_a_sum_of_few_products_again(shape):
    sides = [made(size, 3, seed=place) for place, size in enumerate(shape)]
    letters = "oihw"[: len(shape)]
    equation = ",".join(f"{letter}r" for letter in letters)
    weight = torch.einsum(f"{equation}->{letters}", *sides)
    found = canonical(weight, rank=5)
    assert off(found, weight) < 0.02
    assert len(found) == 2 + sum(size > 1 for size in shape[2:])
    again = canonical(weight, rank=5)
    assert all(torch.equal(one, two) for one, two in zip(found, again, strict=True))


def test_spatial_of_the_full_rank_is_exact_and_otherwise_a_singular_value_decomposition():
    weight = made(5, 4, 3, 2)
    assert off(spatial(weight, rank=10), weight) < 1e-5
    first, last = spatial(weight, rank=3)
    assert first.shape == (3, 4, 3, 1) and last.shape == (5, 3, 1, 2)
    matrix = weight.permute(0, 3, 1, 2).reshape(10, 12)
    tail = torch.linalg.svdvals(matrix)[3:].norm() / weight.norm()
    assert off((first, last), weight) == pytest.approx(float(tail), rel=1e-3)
