"""Depthwise and pointwise weights: exact where the rank allows, nearest elsewhere."""

import pytest
import torch

from lilliput.tensor.separable import joined, refitted_points, separated

GENERATOR = torch.Generator().manual_seed(0)
WEIGHT = torch.randn(6, 4, 3, 3, generator=GENERATOR)


@pytest.mark.parametrize("rank", [1, 2])
def test_a_kernel_of_that_rank_is_met_exactly(rank):
    depth = torch.randn(4 * rank, 1, 3, 3, generator=GENERATOR)
    points = torch.randn(6, 4 * rank, 1, 1, generator=GENERATOR)
    weight = joined(depth, points, inside=4)
    found = joined(*separated(weight, rank=rank), inside=4)
    assert torch.allclose(found, weight, atol=1e-5)


def test_the_error_is_the_energy_of_the_singular_values_left_out():
    lost = WEIGHT - joined(*separated(WEIGHT, rank=2), inside=4)
    for channel in range(4):
        sizes = torch.linalg.svdvals(WEIGHT[:, channel].flatten(1))
        energy = float(sizes[2:].square().sum())
        assert float(lost[:, channel].square().sum()) == pytest.approx(energy, rel=1e-4)
    assert joined(*separated(WEIGHT, rank=6), inside=4) == pytest.approx(WEIGHT, abs=1e-5)


def test_both_together_are_the_joined_convolution():
    depth, points = separated(WEIGHT, rank=2)
    x = torch.randn(2, 4, 7, 7, generator=GENERATOR)
    conv = torch.nn.functional.conv2d
    both = conv(conv(x, depth, groups=4), points)
    assert torch.allclose(both, conv(x, joined(depth, points, inside=4)), atol=1e-5)


def test_refitted_points_lose_no_more_under_the_moments():
    rows = torch.randn(500, 36, generator=GENERATOR) * torch.linspace(0.1, 3, 36)
    second = rows.t() @ rows / 500
    depth, points = separated(WEIGHT, rank=1)
    fitted = refitted_points(WEIGHT, depth, second=second)

    def damage(points):
        lost = (WEIGHT - joined(depth, points, inside=4)).flatten(1)
        return float(((lost @ second) * lost).sum())

    assert damage(fitted) < 0.99 * damage(points)
    nearby = fitted + 0.01 * torch.randn(fitted.shape, generator=GENERATOR)
    assert damage(fitted) < damage(nearby)
