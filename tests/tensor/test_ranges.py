import numpy as np
import pytest
import torch

from lilliput.tensor.ranges import Ranges, clipped_ranges, full_ranges, refitted


def lost(ranges, weight, costs=1.0):
    return float(((ranges.values(ranges.codes(weight)) - weight).square() * costs).sum())


def numpy_values(weight, bits, group, symmetric):
    """Rounding to nearest by the textbook formula, one group at a time."""
    top, found = 2**bits - 1, np.empty_like(weight)
    for row in range(len(weight)):
        for start in range(0, weight.shape[1], group):
            part = weight[row, start : start + group]
            low, high = min(part.min(), 0), max(part.max(), 0)
            if symmetric:
                step, zero = np.abs(part).max() / (top // 2), top // 2 + 1
                step = np.float32(np.float16(step))
            else:
                step = np.float32(np.float16((high - low) / top))
                zero = np.clip(np.round(-low / step), 0, top)
            codes = np.clip(np.round(part / step + zero), 0, top)
            found[row, start : start + group] = (codes - zero) * step
    return found


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_full_ranges_are_the_textbook_ones(bits, symmetric):
    weight = torch.randn(5, 50, generator=torch.Generator().manual_seed(0)) + 0.3
    ranges = full_ranges(weight, bits, group=16, symmetric=symmetric)
    wanted = numpy_values(weight.numpy(), bits, 16, symmetric)
    np.testing.assert_allclose(ranges.values(ranges.codes(weight)), wanted, atol=1e-6)


def test_zero_is_on_every_grid():
    weight = torch.rand(4, 32, generator=torch.Generator().manual_seed(0)) + 5
    for symmetric in (False, True):
        ranges = full_ranges(weight, 4, group=16, symmetric=symmetric)
        assert not ranges.values(ranges.codes(torch.zeros(4, 32))).any()


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_clipping_lowers_the_cost_it_is_given(bits):
    made = torch.Generator().manual_seed(0)
    weight = torch.randn(8, 96, generator=made)
    costs = torch.rand(96, generator=made).square()
    full = full_ranges(weight, bits, group=32, symmetric=False)
    plain = clipped_ranges(weight, bits, group=32, symmetric=False)
    aware = clipped_ranges(weight, bits, group=32, symmetric=False, costs=costs)
    assert lost(plain, weight) < lost(full, weight)
    assert lost(aware, weight, costs) < lost(plain, weight, costs)
    assert plain.outside(weight) > 0 == full.outside(weight)


def test_refitted_steps_are_those_of_least_squares():
    made = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 24, generator=made)
    mix = torch.randn(2, 24, 24, generator=made)
    second = mix @ mix.transpose(1, 2) + torch.eye(24)
    before = full_ranges(weight, 3, group=8, symmetric=False)
    codes = before.codes(weight)
    after = refitted(before, weight, codes=codes, second=second)
    for row in range(6):
        side = second[row // 3].double().numpy()
        root = np.linalg.cholesky(side).T
        offsets = (codes - before.spread(24)[1])[row].double().numpy()
        design = np.zeros((24, 3))
        for part in range(3):
            design[part * 8 : part * 8 + 8, part] = offsets[part * 8 : part * 8 + 8]
        best, *_ = np.linalg.lstsq(root @ design, root @ weight[row].double().numpy(), rcond=None)
        kept = (best <= 0.3 * before.steps[row].numpy()) | (best >= 3 * before.steps[row].numpy())
        wanted = np.where(kept, before.steps[row].numpy(), best)
        np.testing.assert_allclose(after.steps[row], wanted, rtol=1e-3)


def test_rows_of_nothing_have_a_step():
    ranges = clipped_ranges(torch.zeros(2, 16), 4, group=16, symmetric=False)
    assert (ranges.steps > 0).all() and ranges.outside(torch.zeros(2, 16)) == 0


def test_a_grid_says_what_lies_beyond_it():
    ranges = Ranges(torch.ones(1, 1), torch.full((1, 1), 2.0), 2, 16)  # -2, -1, 0, 1
    weight = torch.tensor([[-2.4, -2.6, 1.4, 1.6, 0.0]])
    assert ranges.outside(weight) == 2
    assert ranges.values(ranges.codes(weight)).tolist() == [[-2.0, -2.0, 1.0, 1.0, 0.0]]
