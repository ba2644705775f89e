import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lilliput.tensor.feedback import (
    BLOCK,
    FEWEST_ROWS,
    Rounding,
    feed_back,
    feedback_codes,
    row_factor,
)
from lilliput.tensor.grids import round_to_grid
from lilliput.tensor.second_order import inverse_factor, layer_damage, two_sided_damage


def problem(rows, columns, *, seed=0, groups=1, mixing=0.8):
    """A weight and correlated second moments, (groups, columns, columns)."""
    made = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=made)
    mix = torch.eye(columns) + mixing * torch.randn(groups, columns, columns, generator=made)
    inputs = torch.randn(groups, 8 * columns, columns, generator=made) @ mix
    return weight, inputs.transpose(1, 2) @ inputs / inputs.shape[1]


def by_hand(weight, factor, steps, columns=None, lean=0.0):
    """Error feedback as in the paper: one column at a time, no blocks."""
    rest = weight.clone()
    codes = torch.zeros(weight.shape, dtype=torch.int32)
    for i in range(weight.shape[1]):
        step = steps * (1 if columns is None else float(columns[i]))
        scaled = rest[:, i] / step
        code = torch.sign(scaled) * torch.floor(scaled.abs() + 0.5 - lean)
        codes[:, i] = code.int()
        error = (rest[:, i] - code * step) / factor[i, i]
        rest[:, i:] -= error[:, None] * factor[i, i:]
    return codes


@pytest.mark.parametrize("step", [0.1, 0.5, 1.0, 2.0])
def test_feedback_is_better_than_plain_rounding(step):
    ratios = []
    for seed in range(6):
        weight, second = problem(24, 40, seed=seed)
        steps = torch.full((24,), step)
        fed = feedback_codes(weight, inverse_factor(second), steps) * step
        plain = round_to_grid(weight, steps[:, None]) * step
        damage = [float(layer_damage(weight, value, second).sum()) for value in (fed, plain)]
        ratios.append(damage[0] / damage[1])
    assert max(ratios) < 0.95
    assert sum(ratios) / len(ratios) < 0.75


@given(st.integers(1, 9), st.integers(1, 12), st.floats(0.05, 4), st.integers(0, 1000))
def test_without_correlation_feedback_is_plain_rounding(rows, columns, step, seed):
    weight, _ = problem(rows, columns, seed=seed)
    steps = torch.linspace(1, 2, rows) * step
    codes = feedback_codes(weight, torch.eye(columns), steps)
    assert codes.dtype == torch.int32
    assert torch.equal(codes, round_to_grid(weight, steps[:, None]))


@given(st.integers(1, 6), st.integers(2, 24), st.integers(0, 1000), st.booleans())
def test_the_blocked_order_is_that_of_the_paper(rows, columns, seed, scaled):
    weight, second = problem(rows, columns, seed=seed)
    factor = inverse_factor(second)[0]
    steps = torch.linspace(0.4, 0.9, rows)
    factors = torch.linspace(0.5, 2, columns) if scaled else None
    found = feedback_codes(weight, factor, steps, column_steps=factors, rounding=Rounding(0.1))
    expected = by_hand(weight, factor, steps, factors, 0.1)
    assert torch.equal(found, expected)


def test_more_columns_than_a_block_change_nothing():
    columns = 2 * BLOCK + 17
    weight, second = problem(8, columns, mixing=0.2)
    factor = inverse_factor(second)[0]
    steps = torch.full((8,), 0.7)
    found = feedback_codes(weight, factor, steps)
    expected = by_hand(weight, factor, steps)
    assert float((found != expected).float().mean()) < 0.01
    damage = [float(layer_damage(weight, c * 0.7, second).sum()) for c in (found, expected)]
    assert damage[0] == pytest.approx(damage[1], rel=0.01)


def test_groups_are_solved_one_by_one():
    weight, second = problem(12, 9, groups=3)
    factors, steps = inverse_factor(second), torch.linspace(0.3, 0.8, 12)
    columns = torch.linspace(0.7, 1.3, 9)
    found = feedback_codes(weight, factors, steps, column_steps=columns)
    for group in range(3):
        own = slice(4 * group, 4 * group + 4)
        alone = feedback_codes(weight[own], factors[group], steps[own], column_steps=columns)
        assert torch.equal(found[own], alone)


@pytest.mark.parametrize(("rows", "groups"), [(5, 1), (1, 1), (6, 3), (6, 6)])
def test_the_weight_it_is_given_stays_as_it_is(rows, groups):
    """A depthwise convolution has one row per group: its turned view is no copy."""
    weight, second = problem(rows, 7, groups=groups)
    before = weight.clone()
    feedback_codes(weight, inverse_factor(second), torch.full((rows,), 0.3))
    assert torch.equal(weight, before)


@given(st.floats(0, 0.49), st.floats(-20, 20))
def test_the_dead_zone_leans_toward_zero(lean, value):
    codes = feedback_codes(
        torch.tensor([[value]]), torch.eye(1), torch.ones(1), rounding=Rounding(lean)
    )
    size = abs(torch.tensor(value, dtype=torch.float32).item())
    within = math.floor(size + 0.5 - lean)
    assert abs(int(codes)) in {within, round(size)} if lean == 0 else abs(int(codes)) == within
    assert int(codes) * value >= 0


def test_the_dead_zone_trades_damage_for_zeros():
    weight, second = problem(32, 48)
    factor, steps = inverse_factor(second), torch.full((32,), 1.2)
    zeros, damage = [], []
    for lean in (0.0, 0.1, 0.2, 0.3):
        codes = feedback_codes(weight, factor, steps, rounding=Rounding(lean))
        zeros.append(int((codes == 0).sum()))
        damage.append(float(layer_damage(weight, codes * 1.2, second).sum()))
    assert zeros == sorted(zeros) and zeros[0] < zeros[-1]
    assert damage[0] < damage[-1]


def test_the_weight_of_a_depthwise_layer_is_not_touched():
    """With one row per group the working copy used to be a view of the weight itself."""
    weight = torch.randn(8, 9, generator=torch.Generator().manual_seed(0))
    before = weight.clone()
    factor = inverse_factor(torch.eye(9).expand(8, 9, 9) + 0.3)
    feedback_codes(weight, factor, torch.full((8,), 0.5))
    assert torch.equal(weight, before)


def output_side(rows, seed=0):
    """What rows are worth to a few outputs, with a floor: (rows, rows)."""
    made = torch.Generator().manual_seed(seed)
    few = torch.randn(3, rows, generator=made) * torch.linspace(2, 1, rows)
    return few.t() @ few + 0.3 * torch.eye(rows)


def rows_by_hand(weight, factor, steps, output):
    """One weight at a time: each is told the errors of earlier rows and earlier columns."""
    rows, columns = weight.shape
    order = torch.argsort(output.diagonal(), descending=True, stable=True).tolist()
    side = row_factor(output).factor
    whitened = torch.zeros(rows, columns)  # E times the inverse of the factor: what H sees
    codes = torch.zeros(rows, columns, dtype=torch.int32)
    for place, row in enumerate(order):
        first = FEWEST_ROWS * (place // FEWEST_ROWS)
        rest = weight[row].clone()
        for i in range(columns):
            earlier = sum(side[p, place] * whitened[order[p], i] for p in range(first))
            code = torch.round((rest[i] + factor[i, i] * earlier) / steps[row])
            codes[row, i] = int(code)
            whitened[row, i] = (rest[i] - code * steps[row]) / factor[i, i]
            rest[i:] -= whitened[row, i] * factor[i, i:]
    return codes


def test_rows_to_come_absorb_what_earlier_rows_lost():
    weight, second = problem(40, 12)
    factor, output = inverse_factor(second)[0], output_side(40)
    steps = torch.linspace(0.5, 0.8, 40)
    found = feedback_codes(weight, factor, steps, rows=row_factor(output))
    expected = rows_by_hand(weight, factor, steps, output)
    assert float((found != expected).float().mean()) < 0.01


@pytest.mark.parametrize("step", [0.2, 0.6, 1.2])
def test_both_sides_are_better_than_one(step):
    ratios = []
    for seed in range(4):
        weight, second = problem(96, 40, seed=seed, mixing=0.3)
        factor, output = inverse_factor(second), output_side(96, seed)
        steps = torch.full((96,), step)
        damage = [
            two_sided_damage(
                weight,
                feedback_codes(weight, factor, steps, rows=rows) * step,
                second=second,
                output=output,
            )
            for rows in (row_factor(output), None)
        ]
        ratios.append(damage[0] / damage[1])
    assert max(ratios) < 0.8


def test_a_row_side_that_is_diagonal_changes_nothing():
    weight, second = problem(40, 12)
    factor, steps = inverse_factor(second), torch.full((40,), 0.5)
    diagonal = torch.diag(torch.linspace(0.2, 3, 40))
    plain = feedback_codes(weight, factor, steps)
    assert torch.equal(feedback_codes(weight, factor, steps, rows=row_factor(diagonal)), plain)


def test_the_row_factor_is_a_factorisation():
    output = output_side(30)
    found = row_factor(output)
    wanted = output[found.order][:, found.order].double()
    inverse = torch.linalg.inv(found.factor.double())
    middle = inverse @ wanted @ inverse.t()
    assert torch.equal(found.factor, found.factor.triu()) and (found.factor.diagonal() == 1).all()
    rest = middle - torch.diag(middle.diagonal())
    assert float(rest.abs().max()) < 0.01 * float(output.diagonal().mean())
    assert (output.diagonal()[found.order].diff() <= 0).all()
    assert torch.isfinite(row_factor(torch.zeros(4, 4)).factor).all()


def test_a_row_is_worth_what_the_rows_after_it_cannot_make_up_for():
    """By hand: the least damage of an error of one in a row, over all errors of later rows."""
    made = torch.Generator().manual_seed(0)
    spread = torch.randn(20, 6, generator=made, dtype=torch.float64)
    output = spread.t() @ spread
    found = row_factor(output)
    for place, row in enumerate(found.order):
        later = found.order[place + 1 :]
        rest = output[later][:, later]
        least = output[row, row] - output[row, later] @ torch.linalg.pinv(rest) @ output[later, row]
        assert float(found.worth[row]) == pytest.approx(float(least), rel=0.02)


def test_groups_have_no_rows_in_common():
    weight, second = problem(6, 7, groups=3)
    with pytest.raises(ValueError, match="groups"):
        feedback_codes(weight, inverse_factor(second), torch.ones(6), rows=row_factor(torch.eye(6)))


@pytest.mark.parametrize("both", [False, True])
def test_what_was_removed_stays_zero_and_the_rest_makes_up_for_it(both):
    weight, second = problem(40, 70, seed=3)
    factor, steps = inverse_factor(second), torch.full((40,), 0.1)
    kept = torch.rand(40, 70, generator=torch.Generator().manual_seed(1)) < 0.5
    rows = row_factor(output_side(40)) if both else None
    codes = feedback_codes(weight, factor, steps, rows=rows, rounding=Rounding(0.1, kept))
    assert not codes[~kept].any() and codes[kept].any()
    alone = feedback_codes(weight * kept, factor, steps, rows=rows) * kept
    side = output_side(40) if both else torch.eye(40)
    damage = [
        two_sided_damage(weight, value * 0.1, second=second, output=side)
        for value in (codes, alone)
    ]
    assert damage[0] < 0.9 * damage[1]


def test_groups_keep_their_own_masks():
    weight, second = problem(6, 7, groups=3)
    kept = torch.arange(42).reshape(6, 7) % 3 > 0
    codes = feedback_codes(
        weight, inverse_factor(second), torch.full((6,), 0.01), rounding=Rounding(kept=kept)
    )
    assert not codes[~kept].any()
    assert float((codes[kept] != 0).float().mean()) > 0.95


@pytest.mark.parametrize("columns", [5, 2 * BLOCK + 3])
def test_meeting_a_uniform_grid_gives_the_same_codes(columns):
    """The general loop and the quick one are one method."""
    weight, second = problem(12, columns, seed=4)
    factor, told = inverse_factor(second), []
    found = feed_back(
        weight, factor[0], meet=lambda column, _: column.round(), begin=lambda _, b: told.append(b)
    )
    codes = feedback_codes(weight, factor, torch.ones(12))
    assert float((found != codes).float().mean()) < 0.01
    assert [place.start for place in told] == list(range(0, columns, BLOCK))


def test_a_bounded_grid_passes_on_what_it_cuts_off():
    made = torch.Generator().manual_seed(4)
    weight = torch.randn(12, 24, generator=made)
    mix = torch.eye(24) + 0.5 * torch.randn(24, 24, generator=made)
    second = (mix.t() @ mix)[None]
    steps = weight.abs().amax(1) / 9
    codes = feedback_codes(weight, inverse_factor(second), steps, rounding=Rounding(largest=7))
    assert int(codes.abs().max()) == 7
    free = feedback_codes(weight, inverse_factor(second), steps)
    assert int(free.abs().max()) > 7

    def damage(found):
        return float(layer_damage(weight, found * steps[:, None], second).sum())

    assert damage(codes) < damage(free.clamp(-7, 7))
