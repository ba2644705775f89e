import pytest
import torch

from lilliput.model.encodings import Inputs
from lilliput.tensor.activations import uint8_grid
from lilliput.tensor.smoothing import (
    Seen,
    channel_factors,
    column_factors,
    error_to_come,
    outlying,
    smoothed,
)


def seen(rows, count=None):
    low, high = rows.amin(0).clamp(max=0), rows.amax(0).clamp(min=0)
    typical = rows.square().mean(0).sqrt()
    return Seen(low, high, typical, torch.ones(rows.shape[1]), count or len(rows))


def heavy(count, seed):
    """Inputs of different sizes, each with tails heavier than a normal one's."""
    made = torch.Generator().manual_seed(seed)
    normal, divisor = torch.randn(count, 64, generator=made), torch.rand(count, 1, generator=made)
    return normal / divisor.clamp_min(0.1).sqrt() * torch.logspace(-1, 1, 64)


def lost(rows, factors, ends):
    scaled = rows / factors
    return float(((Inputs(*uint8_grid(ends)).rounded(scaled) - scaled) * factors).square().mean())


def test_at_full_strength_every_input_fills_the_grid():
    low, high = torch.tensor([-1.0, -0.1, -5.0]), torch.tensor([1.0, 30.0, 5.0])
    factors = column_factors(low, high, strength=1.0, typical=torch.ones(3))
    assert float(factors.log().mean()) == pytest.approx(0, abs=1e-5)
    ends = float((low / factors).min()), float((high / factors).max())
    step, zero = uint8_grid(ends)
    codes = torch.stack([low / factors, high / factors]) / step + zero
    assert ((codes[0] < 3) | (codes[1] > 252)).all()  # each touches an end
    assert torch.equal(column_factors(low, high, strength=0.0, typical=high), torch.ones(3))


def test_outlying_inputs_are_the_farthest_and_no_more_than_asked():
    high = torch.tensor([1.0, 90.0, 1.1, 50.0, 0.9, 1.0, 1.0])
    assert outlying(-high / 2, high, most=4).tolist() == [1, 3]
    assert outlying(-high / 2, high, most=1).tolist() == [1]
    assert outlying(-high / 2, high, most=0).tolist() == []


def test_equalized_channels_reach_no_farther_than_the_largest():
    low, high = torch.tensor([0.0, -0.5, -4.0, 0.0]), torch.tensor([6.0, 0.1, 1.0, 0.0])
    whole = channel_factors(low, high, strength=1.0)
    assert whole.tolist() == pytest.approx([1.0, 12.0, 1.5, 64.0])
    half = channel_factors(low, high, strength=0.5)
    assert half.tolist() == pytest.approx([1.0, 12**0.5, 1.5**0.5, 8.0])
    assert channel_factors(low, high, strength=0.0).tolist() == [1.0] * 4
    assert channel_factors(0 * low, 0 * high, strength=1.0).tolist() == [1.0] * 4


def test_few_rows_are_smoothed_less_and_get_room():
    rows = heavy(20_000, seed=1)
    (few, few_ends, _), (many, many_ends, _) = (
        smoothed(seen(rows, n), most=1.0) for n in (50, 10**9)
    )
    assert float(few.log().std()) < 0.8 * float(many.log().std())
    low, high = rows.amin(0), rows.amax(0)
    assert few_ends[1] >= 1.25 * float((high / few).max())
    assert many_ends[1] == pytest.approx(float((high / many).max()))
    assert many_ends[0] == pytest.approx(float((low / many).min()))


def test_fresh_rows_lose_less_than_on_grids_that_hug_what_was_seen():
    some, fresh = seen(heavy(60, seed=2)), heavy(5000, seed=3)
    factors = column_factors(some.low, some.high, strength=1.0, typical=some.typical)
    ends = float((some.low / factors).min()), float((some.high / factors).max())
    found = smoothed(some, most=1.0)
    assert lost(fresh, found.factors, found.ends) < 0.5 * lost(fresh, factors, ends)


def test_the_error_to_come_is_rounding_where_nothing_can_be_clipped():
    some = seen(heavy(100, seed=4), count=10**12)
    ends = float(some.low.min()), float(some.high.max())
    step, _ = uint8_grid(ends)
    cost = error_to_come(some, torch.ones(64), ends=ends)
    assert cost == pytest.approx(64 * step**2 / 12, rel=1e-3)


def test_inputs_that_are_always_zero_get_a_grid():
    factors, ends, _ = smoothed(seen(torch.zeros(5, 3)), most=0.75)
    assert factors.tolist() == [1.0] * 3 and ends == (0.0, 0.0)
