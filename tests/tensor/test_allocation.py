import itertools

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from lilliput.coding import code_bytes
from lilliput.tensor.allocation import (
    MOST_ROWS,
    POINTS,
    Curve,
    curve,
    equal_slope,
    water_filling_bits,
)
from lilliput.tensor.feedback import feedback_codes, row_factor
from lilliput.tensor.second_order import inverse_factor, two_sided_damage

positive = st.floats(1e-6, 1e6)


def high_rate(worth, weights):
    """Damage goes with the squared step, bytes with minus its logarithm, never below a floor."""
    steps = np.geomspace(0.01, 3, 9)
    sizes = np.maximum(weights / 8 * (2 - np.log2(steps)), weights / 80)
    return curve(steps, damage=worth * steps**2, sizes=sizes)


def totals(curves, picks):
    chosen = list(zip(curves, picks, strict=True))
    return sum(c.damage[i] for c, i in chosen), sum(c.bytes[i] for c, i in chosen)


@given(st.lists(st.tuples(positive, positive, positive), min_size=2, max_size=9))
def test_curves_are_monotone_through_whatever_was_measured(points):
    steps, damage, sizes = np.array(points).T
    assume((np.diff(np.log(np.sort(steps))) > 1e-9).all())
    found = curve(steps, damage=damage, sizes=sizes)
    assert len(found.log_steps) == len(found.damage) == len(found.bytes) == POINTS
    assert (np.diff(found.log_steps) > 0).all()
    assert (np.diff(found.damage) >= 0).all() and (np.diff(found.bytes) <= 0).all()
    assert np.exp(found.log_steps[[0, -1]]) == pytest.approx([steps.min(), steps.max()])


def test_a_curve_passes_through_monotone_points():
    steps = np.geomspace(0.1, 1.6, 5)
    damage, sizes = steps**2, 100 / steps
    found = curve(steps[::-1], damage=damage[::-1], sizes=sizes[::-1])
    at = [0, 60, 120, 180, 240]
    assert found.damage[at] == pytest.approx(damage) and found.bytes[at] == pytest.approx(sizes)


@st.composite
def small_problems(draw):
    """A few sites with a few points each, convex: only there equal slopes are the optimum."""
    curves = []
    for _ in range(draw(st.integers(1, 3))):
        count = draw(st.integers(2, 6))
        cuts = st.lists(st.floats(0.1, 10), min_size=count - 1, max_size=count - 1)
        saved, slopes = np.array(draw(cuts)), np.sort(np.array(draw(cuts)))
        sizes = draw(st.floats(1, 5)) + saved.sum() - np.concatenate([[0], np.cumsum(saved)])
        damage = np.concatenate([[0], np.cumsum(slopes * saved)])
        curves.append(Curve(np.arange(count, dtype=float), damage, sizes))
    return curves


@given(small_problems(), st.floats(0, 1))
def test_equal_slopes_are_the_best_that_fits(curves, share):
    least, most = (sum(c.bytes[i] for c in curves) for i in (-1, 0))
    budget = least * 1.0001 + share * (most - least)
    damage, size = totals(curves, equal_slope(curves, budget))
    assert size <= budget * (1 + 1e-9)
    every = (
        totals(curves, picks) for picks in itertools.product(*(range(len(c.bytes)) for c in curves))
    )
    best = min(d for d, b in every if b <= budget)
    # the hull's points only: it may miss the optimum by what one more step on one curve is worth
    gap = max(float(np.diff(c.damage).max()) for c in curves)
    assert damage <= best + gap + 1e-9


@given(
    st.lists(st.tuples(positive, st.integers(64, 10**6)), min_size=1, max_size=8), st.floats(0, 1)
)
def test_the_budget_is_kept_and_used(sites, share):
    curves = [high_rate(worth, weights) for worth, weights in sites]
    least, most = (sum(c.bytes[i] for c in curves) for i in (-1, 0))
    budget = least * 1.0001 + share * (most - least)
    _, size = totals(curves, equal_slope(curves, budget))
    assert size <= budget
    largest = max(float(-np.diff(c.bytes).min()) for c in curves)
    assert size >= min(budget, most) - len(curves) * largest - 1e-6


def test_an_unreachable_budget_gets_the_coarsest_points():
    curves = [high_rate(worth, 1000) for worth in (1, 10)]
    assert totals(curves, equal_slope(curves, 1.0))[1] == sum(c.bytes[-1] for c in curves)
    assert equal_slope([], 10.0) == []


def test_at_high_rate_all_sites_get_the_same_damage_per_weight():
    curves = [high_rate(worth, 1000) for worth in (0.2, 1.0, 5.0)]
    picks = equal_slope(curves, 3 * 1000 * 4 / 8)
    damage = [c.damage[i] for c, i in zip(curves, picks, strict=True)]
    assert max(damage) / min(damage) < 1.1


@given(st.floats(0.01, 1), st.integers(1, 40), st.integers(1, 20))
def test_the_bound_of_white_inputs_is_the_gaussian_rate(level, rows, columns):
    weight = torch.full((rows, columns), 2.0, dtype=torch.float64)
    weight[::2] = -2.0  # every column has the same energy: 4
    found = bound_of(weight, torch.eye(columns), damage=level * 4 * rows * columns)
    assert found == pytest.approx(0.5 * np.log2(1 / level), abs=1e-6)


def bound_of(weight, second, damage, output=None):
    side = torch.ones(len(weight)) if output is None else torch.linalg.eigh(output)
    return water_filling_bits(weight, damage, columns=torch.linalg.eigh(second), rows=side)


def test_the_bound_leaves_out_what_lies_under_water():
    weight = torch.tensor([[4.0, 2.0, 1.0]]).repeat(10, 1)  # energies 16, 4, 1
    found = bound_of(weight, torch.eye(3), 10 * (2 + 2 + 1))
    assert found == pytest.approx((0.5 * np.log2(16 / 2) + 0.5 * np.log2(4 / 2)) / 3, abs=1e-6)
    assert bound_of(weight, torch.eye(3), 10 * 21.0) == pytest.approx(0, abs=1e-6)
    assert bound_of(weight, torch.eye(3), 1e9) == 0
    scaled = bound_of(weight, torch.diag(torch.tensor([4.0, 4.0, 4.0])), 10 * 20)
    assert scaled == pytest.approx(found, abs=1e-6)


def test_the_bound_knows_what_rows_are_worth():
    """Turned about, rows and columns are the same problem; and a basis changes nothing."""
    made = torch.Generator().manual_seed(0)
    weight = torch.randn(12, 20, generator=made)
    inputs, outputs = torch.randn(40, 20, generator=made), torch.randn(30, 12, generator=made)
    second, output = inputs.t() @ inputs, outputs.t() @ outputs
    damage = 0.2 * two_sided_damage(weight, 0 * weight, second=second, output=output)
    found = bound_of(weight, second, damage, output)
    assert found == pytest.approx(bound_of(weight.t(), output, damage, second), abs=1e-3)
    worth, basis = torch.linalg.eigh(output)
    diagonal = water_filling_bits(
        basis.t() @ weight, damage, columns=torch.linalg.eigh(second), rows=worth
    )
    assert found == pytest.approx(diagonal, abs=1e-3)
    assert found < bound_of(weight, second, damage / float(output.diagonal().mean()))


def test_many_rows_are_taken_together():
    weight = torch.randn(5000, 8, generator=torch.Generator().manual_seed(0))
    damage = 0.1 * float(weight.square().sum())
    assert bound_of(weight, torch.eye(8), damage) == pytest.approx(
        bound_of(weight[:MOST_ROWS], torch.eye(8), damage * MOST_ROWS / 5000), abs=0.02
    )


@pytest.mark.parametrize("step", [0.1, 0.2, 0.4])
@pytest.mark.parametrize("both", [False, True])
def test_no_real_code_beats_the_bound(step, both):
    """A scalar code at high rate lies a quarter of a bit above it (Gish and Pierce 1968)."""
    made = torch.Generator().manual_seed(0)
    mix = torch.eye(64) + 0.3 * torch.randn(64, 64, generator=made)
    second = mix.t() @ mix
    weight = torch.randn(1024, 64, generator=made)
    spread = torch.eye(1024) + 0.02 * torch.randn(1024, 1024, generator=made)
    output = spread.t() @ spread if both else torch.eye(1024)
    factor = inverse_factor(second, damping=0.0)
    diagonal = factor.diagonal()
    columns = diagonal / diagonal.log().mean().exp()
    codes = feedback_codes(
        weight,
        factor,
        torch.full((1024,), step),
        column_steps=columns,
        rows=row_factor(output) if both else None,
    )
    damage = two_sided_damage(weight, codes * step * columns, second=second, output=output)
    bits = 8 * code_bytes(codes.numpy()) / codes.numel()
    bound = bound_of(weight, second, damage, output)
    assert bound + 0.2 < bits < bound + (0.5 if both else 0.4)


@pytest.mark.parametrize("height", [1.0, 300.0])
def test_a_column_of_huge_weights_says_nothing_about_the_others(height):
    """Calibration of transformers finds such outliers; at high rate the bound is a sum of logs."""
    made = torch.Generator().manual_seed(0)
    columns = torch.linspace(0.5, 2, 64)
    weight = torch.randn(512, 64, generator=made) * columns
    weight[:, 5] = height * torch.randn(512, generator=made)
    level = 1e-4
    found = bound_of(weight, torch.eye(64), level * weight.numel())
    columns[5] = height
    wanted = 0.5 * np.log2(columns.double().square().numpy() / level).mean()
    assert found == pytest.approx(wanted, abs=0.02)


def test_weights_of_zero_need_no_bits():
    assert bound_of(torch.zeros(8, 4), torch.eye(4), 1.0) == 0
