import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lilliput.tensor.activations import (
    BINS,
    LEVELS,
    chosen_range,
    empty_histogram,
    merged,
    squared_error,
    uint8_grid,
    with_values,
)

numbers = st.lists(st.floats(-1000, 1000, allow_nan=False, width=32), min_size=1, max_size=40).map(
    torch.tensor
)


def drawn(seed, count=20_000, tail=0.0):
    made = torch.Generator().manual_seed(seed)
    values = torch.randn(count, generator=made)
    return torch.where(torch.rand(count, generator=made) < tail, 30 * values, values)


def rounded(values, ends):
    step, zero = uint8_grid(ends)
    return ((values / step).round().add(zero).clamp(0, LEVELS) - zero) * step


@given(st.lists(numbers, min_size=1, max_size=4))
@settings(deadline=None, max_examples=60)
def test_a_histogram_counts_every_value_whatever_comes_first(parts):
    seen = empty_histogram()
    for part in parts:
        seen = with_values(seen, part)
    every = torch.cat(parts)
    assert float(seen.counts.sum()) + seen.zeros == len(every)
    assert seen.zeros == int((every == 0).sum())
    assert (seen.low, seen.high) == (min(0.0, float(every.min())), max(0.0, float(every.max())))
    once = with_values(empty_histogram(), every)
    assert seen.reach == once.reach
    nonzero = every[every != 0]
    found = torch.histc(nonzero, BINS, -seen.reach, seen.reach).double()
    shift = (seen.counts.cumsum(0) - found.cumsum(0)).abs().max()
    assert shift <= len(every) and torch.equal(seen.counts.sum(), found.sum())


@given(numbers, numbers)
@settings(deadline=None, max_examples=60)
def test_two_histograms_make_the_one_of_all_values(first, second):
    one, two = (with_values(empty_histogram(), part) for part in (first, second))
    both = merged(one, two)
    whole = with_values(one, second)
    assert (both.reach, both.zeros, both.low, both.high) == (
        *(whole.reach, whole.zeros, whole.low, whole.high),
    )
    assert float(both.counts.sum()) == float(whole.counts.sum())


@given(numbers)
@settings(deadline=None, max_examples=60)
def test_zero_is_a_point_of_every_grid_and_the_ends_are_near(values):
    seen = with_values(empty_histogram(), values)
    ends = chosen_range(seen, "minmax")
    step, zero = uint8_grid(ends)
    assert 0 <= zero <= LEVELS and step > 0
    assert float(rounded(torch.zeros(1), ends)) == 0
    assert float((rounded(values, ends) - values).abs().max()) <= step * (1 + 1e-4)


@pytest.mark.parametrize("tail", [0.0, 0.001, 0.02])
def test_the_range_of_least_squared_error_is_as_good_as_brute_force(tail):
    values = drawn(1, tail=tail)
    seen = with_values(empty_histogram(), values)

    def error(ends):
        return float((rounded(values, ends) - values).square().mean())

    low, high = float(values.min()), float(values.max())
    shares = np.linspace(0.02, 1, 60)
    best = min(error((low * share, high * share)) for share in shares)
    found = chosen_range(seen, "mse")
    assert error(found) <= 1.05 * best
    assert squared_error(seen, found) == pytest.approx(error(found), rel=0.1)


@pytest.mark.parametrize("percentile", [90.0, 99.0, 99.99])
def test_a_percentile_covers_what_it_says(percentile):
    values = drawn(2)
    low, high = chosen_range(
        with_values(empty_histogram(), values), "percentile", percentile=percentile
    )
    covered = float(((values >= low) & (values <= high)).double().mean())
    assert covered == pytest.approx(percentile / 100, abs=0.003)


def test_entropy_cuts_off_a_lonely_outlier_and_keeps_an_even_spread():
    values = drawn(3)
    lonely = with_values(empty_histogram(), torch.cat([values, torch.tensor([300.0])]))
    assert chosen_range(lonely, "entropy")[1] < 30
    even = with_values(empty_histogram(), torch.linspace(-1, 1, 5000))
    low, high = chosen_range(even, "entropy")
    assert low < -0.9 and high > 0.9


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "entropy"])
def test_nothing_but_zeros_gives_a_grid(method):
    seen = with_values(empty_histogram(), torch.zeros(10))
    assert uint8_grid(chosen_range(seen, method)) == (1.0, 0)
