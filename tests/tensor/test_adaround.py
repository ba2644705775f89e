import itertools

import numpy as np
import pytest
import torch

from lilliput.tensor.adaround import learned_codes
from lilliput.tensor.ranges import full_ranges
from lilliput.tensor.second_order import layer_damage, two_sided_damage


def correlated(size, seed):
    mix = torch.randn(size, size, generator=torch.Generator().manual_seed(seed))
    return mix @ mix.t() / size + 0.02 * torch.eye(size)


@pytest.mark.parametrize("seed", range(4))
def test_it_comes_near_the_best_of_all_roundings(seed):
    """Eight weights have 256 roundings: all are tried."""
    weight = torch.randn(1, 8, generator=torch.Generator().manual_seed(seed))
    second = correlated(8, seed + 10)
    ranges = full_ranges(weight, 3, group=8, symmetric=False)
    steps, zeros = ranges.spread(8)
    floor = (weight / steps + zeros).floor()
    losses = []
    for ups in itertools.product((0, 1), repeat=8):
        codes = (floor + torch.tensor([ups])).clamp(0, 7)
        losses.append(float(layer_damage(weight, ranges.values(codes), second).sum()))
    codes = learned_codes(
        weight, ranges, second=second[None], output=torch.ones(1), iterations=2000
    )
    found = float(layer_damage(weight, ranges.values(codes), second).sum())
    nearest = float(layer_damage(weight, ranges.values(ranges.codes(weight)), second).sum())
    assert found <= nearest
    assert found <= sorted(losses)[25]  # among the best tenth
    assert ((codes - floor).abs() <= 1).all()


def test_it_loses_much_less_than_rounding_to_nearest_under_both_sides():
    weight = torch.randn(24, 32, generator=torch.Generator().manual_seed(0))
    second, output = correlated(32, 1), correlated(24, 2)
    ranges = full_ranges(weight, 3, group=16, symmetric=False)
    codes = learned_codes(weight, ranges, second=second[None], output=output, iterations=500)
    lost = [
        two_sided_damage(weight, ranges.values(c), second=second, output=output)
        for c in (ranges.codes(weight), codes)
    ]
    assert lost[1] < 0.6 * lost[0]


def test_masks_hold_and_an_exact_weight_stays():
    weight = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    kept = torch.rand(4, 16, generator=torch.Generator().manual_seed(1)) > 0.5
    weight = weight * kept
    ranges = full_ranges(weight, 4, group=16, symmetric=False)
    side = {"second": correlated(16, 1)[None], "output": torch.ones(4), "iterations": 50}
    codes = learned_codes(weight, ranges, kept=kept, **side)
    assert not ranges.values(codes)[~kept].any()
    exact = ranges.values(codes)
    np.testing.assert_array_equal(learned_codes(exact, ranges, **side), codes)
