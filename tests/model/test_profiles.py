import pytest
import torch

from lilliput.model.moments import Moments
from lilliput.model.profiles import Profile, site_profile
from lilliput.model.sites import Site

SITE = Site("weight", "linear", (48, 32), 48, 32)


def moments(output):
    made = torch.Generator().manual_seed(0)
    inputs = torch.randn(500, 32, generator=made)
    return Moments(second=(inputs.t() @ inputs / 500)[None], count=500).with_output(output)


def made(output, *, factors=None):
    return site_profile(SITE, moments(output), row_factors=factors, macs=None, shared={})


def test_frequent_tokens_count_by_the_root_of_their_number():
    counts = torch.full((48,), 1e4, dtype=torch.float64)
    counts[0] = 1e6
    table = Site("table", "embedding", (48, 32), 48, 32)
    found = Moments(second=None, count=0, frequencies=counts)
    known = site_profile(table, found, row_factors=None, macs=None, shared={})
    assert float(known.weights[0] / known.weights[1]) == pytest.approx(10, rel=0.01)
    assert float(known.frequencies[0] / known.frequencies[1]) == pytest.approx(100, rel=0.01)


def test_a_row_that_counts_for_nothing_still_counts_a_little():
    output = torch.ones(48)
    output[0], output[1] = 100.0, 0.0
    known = made(output)
    assert float(known.weights[0] / known.weights[2]) == pytest.approx(100, rel=1e-3)
    assert float(known.weights[1]) > 0


def test_factors_of_dead_channels_keep_a_size():
    factors = torch.ones(48)
    factors[0], factors[1] = 0.0, -2.0
    sizes = made(torch.ones(48), factors=factors).row_sizes
    assert 0 < float(sizes[0]) < 1e-3 and float(sizes[1]) == 2
    assert torch.equal(made(torch.ones(48)).row_sizes, torch.ones(48))


def test_a_dead_output_counts_like_any_other():
    assert torch.equal(made(torch.zeros(48)).weights, torch.ones(48))


@pytest.mark.parametrize("whole", [False, True])
def test_the_bound_is_that_of_the_damage_done(whole):
    draw = torch.Generator().manual_seed(1)
    gradients = torch.randn(400, 48, generator=draw)
    side = gradients.t() @ gradients / 400
    known = made(side if whole else side.diagonal())
    weight = torch.randn(48, 32, generator=draw)
    profile = Profile("hash", {"weight": known}, {"weight": weight})
    noise = torch.randn(48, 32, generator=draw)
    bits = [profile.bound_bits("weight", weight + size * noise) for size in (0.05, 0.1, 0.2)]
    assert bits[0] - bits[1] == pytest.approx(1, abs=0.1)  # twice the error, a bit less
    assert bits[1] - bits[2] == pytest.approx(1, abs=0.15)
    assert profile.bound_bits("weight", weight) is None  # no damage, no bound
    assert len(profile.spectra) == 1


def test_without_statistics_there_is_no_bound():
    known = site_profile(SITE, None, row_factors=None, macs=None, shared={})
    weight = torch.randn(48, 32)
    assert (
        Profile("hash", {"weight": known}, {"weight": weight}).bound_bits("weight", 0 * weight)
        is None
    )
