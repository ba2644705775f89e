import numpy as np
import torch

from lilliput.tensor.feedback import row_factor
from lilliput.tensor.grouped import ColumnOrder, feedback_grouped
from lilliput.tensor.ranges import clipped_ranges
from lilliput.tensor.second_order import damped, layer_damage, two_sided_damage


def correlated(size, seed):
    mix = torch.randn(size, size, generator=torch.Generator().manual_seed(seed))
    return mix @ mix.t() / size + 0.05 * torch.eye(size)


def reference(weight, second, ranges):
    """Optimal Brain Surgeon, one weight after the other, each time with the exact inverse."""
    damp = damped(second).numpy()
    order = np.argsort(-second.diagonal().numpy(), kind="stable")
    steps, zeros = (part.double().numpy() for part in ranges.spread(weight.shape[1]))
    found, rest = np.empty(weight.shape), weight.double().numpy().copy()
    for place, column in enumerate(order):
        left = order[place:]
        inverse = np.linalg.inv(damp[np.ix_(left, left)])
        step, zero = steps[:, column], zeros[:, column]
        codes = np.clip(np.round(rest[:, column] / step + zero), 0, 2**ranges.bits - 1)
        found[:, column] = codes
        error = (rest[:, column] - (codes - zero) * step) / inverse[0, 0]
        rest[:, left] -= error[:, None] * inverse[0]
    return found


def test_columns_absorb_errors_as_the_surgeon_says():
    weight = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    second = correlated(40, 1)
    ranges = clipped_ranges(weight, 3, group=16, symmetric=False)
    codes = feedback_grouped(weight, [ColumnOrder.of(second)], ranges=ranges)
    same = codes.numpy() == reference(weight, second, ranges)
    assert same.mean() > 0.99  # a tie in the last bit may fall either way


def test_feedback_loses_less_than_rounding_and_rows_less_than_columns_alone():
    weight = torch.randn(64, 48, generator=torch.Generator().manual_seed(0))
    second, output = correlated(48, 1), correlated(64, 2)
    ranges = clipped_ranges(weight, 3, group=16, symmetric=False)
    side = [ColumnOrder.of(second)]
    nearest = ranges.codes(weight)
    columns = feedback_grouped(weight, side, ranges=ranges)
    both = feedback_grouped(weight, side, ranges=ranges, rows=row_factor(output))
    one = [float(layer_damage(weight, ranges.values(c), second).sum()) for c in (nearest, columns)]
    assert one[1] < 0.7 * one[0]
    two = [
        two_sided_damage(weight, ranges.values(c), second=second, output=output)
        for c in (columns, both)
    ]
    assert two[1] < 0.9 * two[0]


def test_groups_of_rows_are_solved_by_themselves_and_masks_hold():
    weight = torch.randn(8, 20, generator=torch.Generator().manual_seed(0))
    sides = [ColumnOrder.of(correlated(20, seed)) for seed in (1, 2)]
    ranges = clipped_ranges(weight, 2, group=16, symmetric=False)
    kept = torch.rand(8, 20, generator=torch.Generator().manual_seed(3)) > 0.5
    whole = feedback_grouped(weight, sides, ranges=ranges, kept=kept)
    second = feedback_grouped(weight[4:], sides[1:], ranges=ranges.of(slice(4, 8)), kept=kept[4:])
    assert torch.equal(whole[4:], second)
    assert not ranges.values(whole)[~kept].any()


def test_costs_are_in_the_columns_own_order():
    second = torch.diag(torch.tensor([1.0, 4.0, 2.0]))
    costs = ColumnOrder.of(second).costs
    np.testing.assert_allclose(costs, damped(second).diagonal(), rtol=1e-5)
